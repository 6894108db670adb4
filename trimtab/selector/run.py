"""From a store, or from pairs, to an exported vector with its report: what the commands call."""

import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from trimtab.errors import SelectionError, VectorError
from trimtab.model.language_model import LanguageModel, load_model
from trimtab.model.sae import SAE, load_sae
from trimtab.pairs import Sample
from trimtab.selector.export import export_selection
from trimtab.selector.material import check_behavior
from trimtab.selector.report import render_report
from trimtab.selector.select import DEFAULTS, Settings, select
from trimtab.store import Store, build
from trimtab.store.origin import load_model_of

SAME_TEXTS = ("model_revision", "tokenizer_sha256", "chat_template_sha256")
SAME_NUMBERS = ("model_config_sha256", "sae_sha256", "sae_config_sha256", "sae_hook_point")


def run(
    store: Store,
    behavior: str,
    out: Path,
    *,
    model: LanguageModel | None = None,
    sae: SAE | None = None,
    device: str = "auto",
    questions: Sequence[str] | None = None,
    settings: Settings = DEFAULTS,
    progress: bool = True,
) -> dict[str, Any]:
    """Select, prove, export and report the minimal vector of a behaviour; return its card.

    An interrupted run leaves its journal in `<out>.work`; the same call resumes from it.

    Args:
        store: holds the behaviour's samples.
        behavior: which behaviour.
        out: folder to write; it must not exist yet.
        model: the store's model in float32; None loads the one that the store names.
        sae: the store's SAE; None loads the one that the store names.
        device: where a model that is not given is loaded.
        questions: held-out open questions; None takes the prompts of held-out pairs.
        settings: what is asked for.
        progress: show what is being done on stderr.

    Raises:
        VectorError: `out` exists.
        ModelError, SelectionError, PairsError: as `select` and the loaders say; the model or SAE
            is not the store's.
    """
    if out.exists():
        raise VectorError(f"{out} exists already; name another folder, or remove it first")
    check_behavior(store, behavior)
    if model is None:
        model = load_model_of(store.fingerprint, dtype="float32", device=device)
    if sae is None:
        sae = load_sae(store.fingerprint["sae"], model)
    _check_same(store, model, sae)
    work = out.with_name(out.name + ".work")
    with _Stages(shown=progress) as stages:
        selection = select(
            store, model, sae, behavior, work, questions=questions, settings=settings, say=stages
        )
        card = export_selection(selection, store, out)
    render_report(out)
    shutil.rmtree(work)
    return card


def build_and_run(
    samples: Sequence[Sample],
    behavior: str,
    out: Path,
    *,
    questions: Sequence[str] | None,
    settings: Settings = DEFAULTS,
    progress: bool = True,
) -> dict[str, Any]:
    """Go the whole way with the default model and SAE: `out/store`, then `out/vector`."""
    if (out / "vector").exists():
        raise VectorError(f"{out / 'vector'} exists already; name another --out, or remove it")
    out.mkdir(parents=True, exist_ok=True)
    model = load_model(dtype="float32")
    sae = load_sae(None, model)
    store = build(out / "store", samples, model, sae, progress=progress)
    return run(
        store,
        behavior,
        out / "vector",
        model=model,
        sae=sae,
        questions=questions,
        settings=settings,
        progress=progress,
    )


def _check_same(store: Store, model: LanguageModel, sae: SAE | None) -> None:
    """Refuse a model or SAE that is not the store's; the dtype may differ: scores are float32."""
    if model.fingerprint()["model_dtype"] != "float32":
        raise SelectionError("effects are compared in float32; load the model with dtype='float32'")
    now: Mapping[str, str] = {**model.fingerprint(), **({} if sae is None else sae.fingerprint())}
    names = list(SAME_TEXTS + SAME_NUMBERS)
    if store.fingerprint["model_dtype"] == now["model_dtype"]:
        names.append("model_sha256")
    differing = [n for n in names if store.fingerprint.get(n, "") != now.get(n, "")]
    if differing:
        raise SelectionError(
            f"{store.path} was built with another model or SAE: {', '.join(differing)} differ. "
            f"It names model {store.fingerprint['model']} and SAE {store.fingerprint['sae']}; "
            "use those, or build a new store"
        )


class _Stages:
    """Shows one line a stage with the time it took, and a bar where steps can be counted.

    Where stderr is no terminal, a plain line when a stage begins.
    """

    def __init__(self, *, shown: bool) -> None:
        console = Console(stderr=True)
        self._plain = shown and not console.is_terminal
        self._started = time.monotonic()
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[steps]}"),
            TimeElapsedColumn(),
            console=console,
            disable=not shown or self._plain,
        )
        self._task: TaskID | None = None
        self._stage = ""

    def __call__(self, stage: str, done: int, total: int) -> None:
        if stage != self._stage:
            self._finish()
            self._stage = stage
            self._task = self._bar.add_task(stage, total=total or None, steps="")
            if self._plain:
                seconds = time.monotonic() - self._started
                print(f"{seconds:5.0f} s  {stage}", file=sys.stderr, flush=True)
        if self._task is not None and total:
            self._bar.update(self._task, completed=done, total=total, steps=f"{done} of {total}")

    def _finish(self) -> None:
        if self._task is not None:
            self._bar.update(self._task, total=1, completed=1)
            self._bar.stop_task(self._task)

    def __enter__(self) -> "_Stages":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._finish()
        self._bar.stop()
