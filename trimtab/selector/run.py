"""From a store, or from pairs, to an exported vector with its report: what the commands call."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trimtab.errors import VectorError
from trimtab.model.language_model import LanguageModel, load_model
from trimtab.model.sae import SAE, load_sae
from trimtab.pairs import Sample
from trimtab.selector.exported.export import export_selection
from trimtab.selector.exported.folder import refuse_existing
from trimtab.selector.journal import work_folder
from trimtab.selector.loading import load_for
from trimtab.selector.material import check_behavior
from trimtab.selector.report import render_report
from trimtab.selector.select import DEFAULTS, Settings, select
from trimtab.selector.stages import Stages
from trimtab.store import Store, build


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
    refuse_existing(out)
    check_behavior(store, behavior)
    with work_folder(out) as work, Stages(shown=progress) as stages:
        model, sae = load_for(store, model, sae, device=device)
        selection = select(
            store, model, sae, behavior, work, questions=questions, settings=settings, say=stages
        )
        return export_selection(selection, store, out, render_report)


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
        raise VectorError(f"{out / 'vector'} already exists; name another --out, or remove it")
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
