"""Build stores: plan the samples, run what is not run yet, bring the catalogs up to date.

A build that ends early, by a key, an error or a kill, loses the tasks at hand and nothing else: the
same call goes on where it stopped and ends with the same content.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from trimtab.errors import StoreError
from trimtab.model.features.descriptions import descriptions_file, read_descriptions
from trimtab.pairs.sample import Sample
from trimtab.store.building.engines import Engine
from trimtab.store.catalog.catalog import CATALOG, DESCRIPTIONS
from trimtab.store.files import (
    building,
    remove_temporaries,
    without_workers,
    working,
    write_atomically,
)
from trimtab.store.fingerprint import Values, check_same, digest
from trimtab.store.plan import Planned, extend_plan, read_plan
from trimtab.store.shards import read_markers, shard_problems, sweep
from trimtab.store.store import HEADER, Store, open_store, read_header, refresh_catalog

if TYPE_CHECKING:
    from trimtab.model.hook_points import HookPoint
    from trimtab.model.language_model import LanguageModel
    from trimtab.model.sae import SAE
    from trimtab.store.building.targets import Target

PATIENCE = 3600.0
"""Seconds that a rank waits for its turn at the lock: another's planning, or a whole catalog."""


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
    values: Values = "auto",
    engine: Engine = "local",
    workers: int | None = None,
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
        max_tokens: longest prompt with completion, and never above the model's context; the
            completion's end is cut, and counted.
        batch_tokens: padded tokens that run at once; halved when the device's memory runs out.
            Changes numbers by rounding only.
        values: "float32", "bfloat16" (the upper 16 bits, rounded to nearest even), or "auto": as
            exactly as the model computes.
        engine: "local", this process; "processes" on this machine or "ray" actors, which load model
            and SAE themselves, by name.
        workers: how many of them; by default one per GPU.
        progress: show a bar on stderr.

    Raises:
        StoreError: the folder holds something else or a store of another fingerprint, another
            process builds it, an id stands for two samples, the disk is full or will be, the device
            is too small for one sample, or a worker differs or dies again and again.
        ModelError: what lies beside the SAE as its descriptions is not that.
        KeyboardInterrupt: Ctrl-C, with a message that says how far the build is.
    """
    from trimtab.store.building.targets import read_by

    (store,) = build_many(
        {Path(path): read_by(model, sae, hook_point)},
        samples,
        model,
        chat=chat,
        system=system,
        max_tokens=max_tokens,
        batch_tokens=batch_tokens,
        values=values,
        engine=engine,
        workers=workers,
        progress=progress,
    ).values()
    return store


def build_many(
    stores: "Mapping[Path, SAE | HookPoint | str]",
    samples: Iterable[Sample],
    model: "LanguageModel",
    *,
    chat: bool = True,
    system: str | None = None,
    max_tokens: int = 1024,
    batch_tokens: int = 4096,
    values: Values = "auto",
    engine: Engine = "local",
    workers: int | None = None,
    rank: tuple[int, int] | None = None,
    progress: bool = True,
) -> dict[Path, Store]:
    """Build several stores of the same samples in one pass, each as `build` would.

    A batch runs once, up to the deepest hook point, for all stores that lack it.

    Args:
        stores: what each folder's store holds: an SAE's features, or the residuals of a hook point.
        rank: (i, n) to run every n-th task only, as one of n processes that do; none waits for the
            others, and who finds a store whole builds its catalog. See `engines.rank`.

    Returns:
        The stores by folder; of a rank, those that are whole by now.

    Raises: as `build`.
    """
    from trimtab.store.building.batches import Settings
    from trimtab.store.building.passes import run_pass
    from trimtab.store.building.targets import context, target

    if not 2 <= max_tokens < 1 << 16:
        raise StoreError(f"max_tokens must lie between 2 and 65535, not {max_tokens}")
    if engine not in get_args(Engine):
        raise StoreError(f"unknown engine {engine!r}; choose from {', '.join(get_args(Engine))}")
    if rank is not None and engine != "local":
        raise StoreError(f"a rank runs its own tasks; leave out the engine {engine}")
    settings = Settings(chat, system, min(max_tokens, context(model)), batch_tokens)
    targets = [target(model, path, read, settings, values) for path, read in stores.items()]
    samples = list(samples)
    for one in targets:
        _check_folder(one.path)
        _check_descriptions(one)
    hold = partial(building, patience=0.0 if rank is None else PATIENCE)
    run = partial(
        run_pass, model, targets, settings=settings, engine=engine, workers=workers, rank=rank
    )
    try:
        for one in targets:
            one.path.mkdir(parents=True, exist_ok=True)
        with ExitStack() as at_work:
            with _all(hold, targets):
                plans = [_plan(one, samples) for one in targets]
                if rank is None:
                    run(plans, progress=progress)
                    for one in targets:
                        refresh_catalog(one.path, dict(one.fields))
                else:  # before another may plan, so that none takes the folder for an idle one
                    at_work.enter_context(_all(working, targets))
            if rank is not None:
                run(plans, progress=progress)
        if rank is not None:
            targets = [one for one in targets if _whole(one)]
            for one in targets:
                with hold(one.path):
                    refresh_catalog(one.path, dict(one.fields))
    except OSError as error:
        where = Path(error.filename).parent if error.filename else targets[0].path
        raise StoreError(
            f"{where} cannot be written: {error.strerror or error}."
            " What has been built is kept; run the same build again to continue"
        ) from error
    return {one.path: open_store(one.path) for one in targets}


@contextmanager
def _all(
    lock: Callable[[Path], AbstractContextManager[None]], targets: Sequence["Target"]
) -> Iterator[None]:
    """Hold the lock of every store; in one order, so that no two processes wait for each other."""
    with ExitStack() as held:
        for path in sorted(target.path.absolute() for target in targets):
            held.enter_context(lock(path))
        yield


def _check_folder(path: Path) -> None:
    if path.exists() and not path.is_dir():
        raise StoreError(f"{path} is a file; a store is a folder")
    if path.is_dir() and not (path / HEADER).is_file():
        others = [
            other.name for other in path.iterdir() if not other.name.startswith((".", HEADER))
        ]
        if others:
            raise StoreError(
                f"{path} is not a store and holds other files ({', '.join(sorted(others)[:3])});"
                " name an empty or new folder"
            )


def _check_descriptions(target: "Target") -> None:
    described = None if target.sae is None else descriptions_file(target.sae.spec)
    if described is not None:
        read_descriptions(described, int(target.fields["d_sae"]))


def _plan(target: "Target", samples: Sequence[Sample]) -> list[Planned]:
    """Make the folder this fingerprint's and plan the samples. Hold the lock."""
    path, sae = target.path, target.sae
    described = None if sae is None else descriptions_file(sae.spec)
    with without_workers(path) as alone:
        _claim(path, target.fields, alone=alone)
        if alone:
            sweep(path / "shards")
    if described is not None and not (path / DESCRIPTIONS).exists():
        write_atomically(path / DESCRIPTIONS, described.read_bytes())
    for folder in (path, path / "plan"):
        remove_temporaries(folder)
    return extend_plan(path / "plan", samples, read_markers(path / "shards"))


def _claim(path: Path, fields: Mapping[str, str], *, alone: bool) -> None:
    """Make the folder this fingerprint's, or refuse where it holds anything of another's, or others
    are at work who may soon add it: unless this process is `alone`."""
    old = read_header(path)
    if old is None or (old != fields and alone and not read_markers(path / "shards")):
        for name in (CATALOG, DESCRIPTIONS):
            (path / name).unlink(missing_ok=True)
        content = {"fingerprint_id": digest(fields), "fingerprint": dict(fields)}
        write_atomically(path / HEADER, json.dumps(content, indent=1).encode())
    else:
        check_same(path, old, fields)


def _whole(target: "Target") -> bool:
    """Whether every planned task is committed and as it was written.

    Raises `StoreError` where one is of another fingerprint: locks do not reach everywhere.
    """
    shards, fingerprint = target.path / "shards", digest(target.fields)
    planned = {entry.task for entry in read_plan(target.path / "plan")}
    markers = {task: m for task, m in read_markers(shards).items() if task in planned}
    for task, marker in markers.items():
        if marker.get("fingerprint", fingerprint) != fingerprint:
            raise StoreError(
                f"{shards / task}.json belongs to the fingerprint {marker['fingerprint']} and the"
                f" store to {fingerprint}: a rank ran with other settings."
                " Run every rank again with the same settings"
            )
    return planned == markers.keys() and not any(
        shard_problems(shards, task, marker, fingerprint) for task, marker in markers.items()
    )  # what is damaged, another rank will run again
