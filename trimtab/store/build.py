"""Build a store: plan the samples, run what is not run yet, bring the catalog up to date.

A build that ends early, by a key, an error or a kill, loses the task at hand and nothing else: the
same call goes on where it stopped and ends with the same content.
"""

import json
import socket
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from trimtab.errors import StoreError
from trimtab.model.features.descriptions import descriptions_file, read_descriptions
from trimtab.pairs.sample import Sample
from trimtab.store.catalog import CATALOG, DESCRIPTIONS
from trimtab.store.files import building, write_atomically
from trimtab.store.fingerprint import check_same, digest, fingerprint
from trimtab.store.plan import Planned, by_task, extend_plan
from trimtab.store.progress import Progress
from trimtab.store.shards import (
    discard,
    read_markers,
    shard_problems,
    sweep,
    write_shard,
)
from trimtab.store.store import HEADER, Store, open_store, read_header, refresh_catalog

if TYPE_CHECKING:
    from trimtab.model.hook_points import HookPoint
    from trimtab.model.language_model import LanguageModel
    from trimtab.model.sae import SAE
    from trimtab.store.capture import Settings


def build(
    path: str | Path,
    samples: Iterable[Sample],
    model: "LanguageModel",
    sae: "SAE | None",
    *,
    hook_point: "HookPoint | str | None" = None,
    chat: bool = True,
    system: str | None = None,
    max_tokens: int = 1024,
    batch_tokens: int = 4096,
    progress: bool = True,
) -> Store:
    """Store the activations of `samples`, of which those that the store has cost nothing.

    Args:
        path: the store's folder; made where there is none.
        samples: pairs and signed unpaired texts of any behaviours; (behavior, id) names a sample.
        model: the model that reads them.
        sae: encodes the activations at its own hook point; None stores pooled residuals only. If
            descriptions of its features lie beside its weights, a store that has none keeps a copy.
        hook_point: without SAE, where to read; by default after the middle layer.
        chat: whether prompts go through the model's chat template.
        system: a system prompt; None leaves the template's own.
        max_tokens: longest prompt with completion; the completion's end is cut, and counted.
        batch_tokens: padded tokens that run at once; changes numbers by rounding only.
        progress: show a bar on stderr.

    Raises:
        StoreError: the folder holds something else or a store of another fingerprint, another
            process builds it, an id stands for two samples, or the disk is full.
        ModelError: what lies beside the SAE as its descriptions is not that.
        KeyboardInterrupt: Ctrl-C, with a message that says how far the build is.
    """
    from trimtab.store.capture import Settings

    if not 2 <= max_tokens < 1 << 16:
        raise StoreError(f"max_tokens must lie between 2 and 65535, not {max_tokens}")
    path = Path(path)
    settings = Settings(
        hook_point=_hook_point(model, sae, hook_point),
        chat=chat,
        system=system,
        max_tokens=max_tokens,
        batch_tokens=batch_tokens,
    )
    fields = fingerprint(
        model,
        sae,
        hook_point=settings.hook_point,
        chat=chat,
        system=system,
        max_tokens=max_tokens,
    )
    described = None if sae is None else descriptions_file(sae.spec)
    if described is not None:
        read_descriptions(described, int(fields["d_sae"]))
    _check_folder(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with building(path):
            _claim(path, fields)
            if described is not None and not (path / DESCRIPTIONS).exists():
                write_atomically(path / DESCRIPTIONS, described.read_bytes())
            plan = extend_plan(path / "plan", samples)
            tasks = by_task(plan)
            done = _valid_tasks(path / "shards", tasks, digest(fields))
            try:
                with Progress(len(plan), _count(tasks, done), shown=progress) as bar:
                    for task in [task for task in tasks if task not in done]:
                        _run_task(path, tasks[task], model, sae, settings, digest(fields), bar)
                        done.add(task)
            except KeyboardInterrupt:
                raise KeyboardInterrupt(
                    f"stopped; {_count(tasks, done)} of {len(plan)} samples are kept,"
                    " and the same command goes on from there"
                ) from None
            refresh_catalog(path, fields)
    except OSError as error:
        raise StoreError(
            f"{path} cannot be written: {error.strerror or error}."
            " What is built so far is kept; the same call goes on from there"
        ) from error
    return open_store(path)


def _hook_point(
    model: "LanguageModel", sae: "SAE | None", asked: "HookPoint | str | None"
) -> "HookPoint":
    from trimtab.model.hook_points import HookPoint, parse_hook_point

    if isinstance(asked, str):
        asked = parse_hook_point(asked)
    if sae is None:
        return asked or HookPoint(model.n_layers // 2, "hook_resid_post")
    if asked is not None and asked != sae.hook_point:
        raise StoreError(
            f"the SAE reads {sae.hook_point} and cannot encode {asked};"
            " leave the hook point out, or build without SAE"
        )
    return sae.hook_point


def _check_folder(path: Path) -> None:
    if path.exists() and not path.is_dir():
        raise StoreError(f"{path} is a file; a store is a folder")
    if path.is_dir() and not (path / HEADER).is_file():
        others = [
            other.name for other in path.iterdir() if not other.name.startswith((".", HEADER))
        ]
        if others:
            raise StoreError(
                f"{path} holds other things ({', '.join(sorted(others)[:3])}) and no store;"
                " name an empty or a new folder"
            )


def _claim(path: Path, fields: Mapping[str, str]) -> None:
    """Make the folder this fingerprint's, or refuse where it holds anything of another's."""
    old = read_header(path)
    if old is None or (old != fields and not read_markers(path / "shards")):
        for name in (CATALOG, DESCRIPTIONS):
            (path / name).unlink(missing_ok=True)
        content = {"fingerprint_id": digest(fields), "fingerprint": dict(fields)}
        write_atomically(path / HEADER, json.dumps(content, indent=1).encode())
    else:
        check_same(path, old, fields)


def _valid_tasks(shards: Path, tasks: Mapping[str, Sequence[Planned]], name: str) -> set[str]:
    """Name the tasks whose every byte is as it was written; remove whatever else lies there."""
    sweep(shards)
    valid = set()
    for task, marker in read_markers(shards).items():
        if task in tasks and not shard_problems(shards, task, marker, name):
            valid.add(task)
        else:
            discard(shards, task)
    return valid


def _count(tasks: Mapping[str, Sequence[Planned]], done: set[str]) -> int:
    return sum(len(tasks[task]) for task in done)


def _run_task(
    path: Path,
    planned: Sequence[Planned],
    model: "LanguageModel",
    sae: "SAE | None",
    settings: "Settings",
    name: str,
    bar: Progress,
) -> None:
    import torch

    from trimtab.store.capture import capture

    started = time.perf_counter()
    parts: dict[str, list[pl.DataFrame]] = {}
    try:
        for batch in capture(model, sae, planned, settings):
            for table, rows in batch.items():
                parts.setdefault(table, []).append(rows)
            bar.advance(batch["samples"].height)
    except torch.OutOfMemoryError as error:
        raise StoreError(
            f"a batch of {settings.batch_tokens} tokens does not fit into memory ({error});"
            " give a smaller batch_tokens; what is built so far is kept"
        ) from error
    tables = {table: pl.concat(rows) for table, rows in parts.items()}
    facts = {
        "fingerprint": name,
        "samples": dict(tables["samples"].group_by("status").len().sort("status").iter_rows()),
        "n_truncated": int(tables["samples"]["n_truncated"].sum()),
        "batch_tokens": settings.batch_tokens,
        "device": str(model.device),
        "host": socket.gethostname(),
        "seconds": round(time.perf_counter() - started, 3),
    }
    write_shard(path / "shards", planned[0].task, tables, facts)
