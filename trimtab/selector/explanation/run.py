"""From a file with a vector to its explanation: what the command calls."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from trimtab.errors import SelectionError
from trimtab.model.hook_points import HookPoint
from trimtab.model.language_model import LanguageModel, load_model
from trimtab.model.sae import SAE, load_sae
from trimtab.pairs import Sample
from trimtab.selector.explanation.explain import Against, explain
from trimtab.selector.explanation.export import card_of, tables_of, write_explanation
from trimtab.selector.explanation.seen import read_seen
from trimtab.selector.exported.folder import (
    CARD,
    folder_of,
    read_card,
    refuse_existing,
    telling_what_lacks,
)
from trimtab.selector.journal import work_folder
from trimtab.selector.loading import load_for
from trimtab.selector.report.explained import render_explanation
from trimtab.selector.stages import Stages
from trimtab.steering.formats.recognise import read_any
from trimtab.steering.formats.stored import VECTOR_FILE, StoredVector
from trimtab.steering.positions import Positions
from trimtab.store import Store, build
from trimtab.store.fingerprint import prompt_form
from trimtab.store.origin import load_model_of


@dataclass(frozen=True)
class Pairs:
    """Pairs that a vector is measured on: a store's, or any others, which are run first.

    Attributes:
        store: holds them; None where `samples` do.
        samples: pairs that no store holds.
        behavior: which behaviour; None where there is only one.
        questions: held-out open questions; None takes the prompts of held-out pairs.
        chat: whether the prompts of `samples` go through the chat template.
    """

    store: Store | None = None
    samples: Sequence[Sample] = ()
    behavior: str | None = None
    questions: Sequence[str] | None = None
    chat: bool = True

    def chosen(self) -> str:
        """Return the behaviour that is meant; raise SelectionError where that is not clear."""
        there = (
            self.store.behaviors()
            if self.store is not None
            else list(dict.fromkeys(sample.behavior for sample in self.samples))
        )
        if self.behavior is None and len(there) == 1:
            return there[0]
        if self.behavior not in there:
            raise SelectionError(
                f"there are several behaviours ({', '.join(there)}); name one with --behavior"
            )
        return self.behavior


@dataclass(frozen=True)
class Reader:
    """Which model reads, and which SAE, where neither a store nor a card names them."""

    model: str | None = None
    sae: str | None = None
    device: str = "auto"


@dataclass(frozen=True)
class Where:
    """Where a vector acts, for files that do not say it; see `read_any`."""

    hook_point: HookPoint | None = None
    tensor: str | None = None
    positions: Positions | None = None


DEFAULT_READER = Reader()
AS_STATED = Where()


def run(
    file: Path,
    pairs: Pairs | None = None,
    out: Path | None = None,
    *,
    where: Where = AS_STATED,
    reader: Reader = DEFAULT_READER,
    budget: float = 0.1,
    seed: int | None = None,
    progress: bool = True,
) -> tuple[dict[str, Any], dict[str, pl.DataFrame]]:
    """Explain the vector in `file`; return its card and tables, and write them where asked to.

    Args:
        file: of any kind that `read_any` reads, or an exported vector: its folder or a file there.
            Its card says which model, SAE, shares and seed are meant, and on what chose it nothing
            is measured.
        pairs: to measure it on; None leaves effects and controls out.
        out: folder to write, with a report; it must not exist yet. An interrupted run leaves its
            journal in `<out>.work`; the same call resumes from it.
        where: what the file does not say.
        reader: what neither store nor card says.
        budget: damage that vectors are compared at, in nats per token.
        seed: of splits and random controls; None takes the card's, or 0.
        progress: show what is being done on stderr.

    Raises:
        VectorError: the vector cannot be read or brought to the budget, or `out` exists.
        ModelError, SelectionError, StoreError, PairsError: as the parts say.
    """
    if out is not None:
        refuse_existing(out)
    stored = read_any(
        file, hook_point=where.hook_point, tensor=where.tensor, positions=where.positions
    )
    behavior = None if pairs is None else pairs.chosen()
    folder = folder_of(file)
    card = read_card(folder) if (folder / CARD).is_file() else None
    with telling_what_lacks(folder):
        settings = {} if card is None else card["settings"]
        shares = tuple(settings.get("shares", Against.shares))
        seed = int(settings.get("seed", 0)) if seed is None else seed
        if card is not None:
            prompt_form(card["fingerprint"])
            _ = [card["fingerprint"][name] for name in ("model", "model_revision", "sae")]
        seen = None if card is None or pairs is None else read_seen(folder, card)
    with work_folder(out) as work, Stages(shown=progress) as stages:
        model, sae = _load(None if pairs is None else pairs.store, card, reader)
        against = None
        if pairs is not None and behavior is not None:
            store = pairs.store
            if store is None:
                stages("running the pairs", 0, 0)
                store = _run_pairs(pairs, stored, card, model, work)
            against = Against(store, behavior, pairs.questions, shares, seen)
        found = explain(
            stored, model, sae, work, against=against, budget=budget, seed=seed, say=stages
        )
        tables = tables_of(found)
        written = card_of(found, file / VECTOR_FILE if file.is_dir() else file, tables)
        if out is not None:
            write_explanation(written, tables, out, render_explanation)
    return written, tables


def _load(
    store: Store | None, card: dict[str, Any] | None, reader: Reader
) -> tuple[LanguageModel, SAE | None]:
    """Load the model and SAE that a store names, or a card, or the reader; the SAE as asked."""
    if store is not None:
        model, sae = load_for(store, device=reader.device)
        if card is not None:
            _check_model(card["fingerprint"], model)
        return model, sae if reader.sae is None else load_sae(reader.sae, model)
    if card is not None:
        fields = card["fingerprint"]
        model = load_model_of(fields, reader.model, dtype="float32", device=reader.device)
        _check_model(fields, model)
        return model, load_sae(reader.sae or fields["sae"], model)
    model = load_model(reader.model, dtype="float32", device=reader.device)
    return model, load_sae(reader.sae, model)


def _check_model(fields: Mapping[str, str], model: LanguageModel) -> None:
    """Refuse a model that is not the card's, whatever its width; a copy elsewhere is the same."""
    now = model.fingerprint()
    names = ["model_config_sha256", "tokenizer_sha256", "chat_template_sha256"]
    if fields.get("model_dtype") == now["model_dtype"]:  # the bytes depend on the dtype
        names.append("model_sha256")
    differing = [name for name in names if fields.get(name) != now[name]]
    if differing:
        raise SelectionError(
            f"the vector was made for model {fields.get('model')}, and {model.name} is another: "
            f"{', '.join(differing)} differ; name a copy of its own model with --model, or a "
            "store that was built with it"
        )


def _run_pairs(
    pairs: Pairs,
    stored: StoredVector,
    card: dict[str, Any] | None,
    model: LanguageModel,
    work: Path,
) -> Store:
    """Build a passing store of the pairs' residuals where the vector acts.

    Its name is the pairs', since a store only grows: a call that was broken off, or that meant
    other pairs, leaves none of its own in this one's.
    """
    named = hashlib.sha256("\n".join(map(repr, pairs.samples)).encode()).hexdigest()[:16]
    chat, system = (pairs.chat, None) if card is None else prompt_form(card["fingerprint"])
    return build(
        work / f"pairs-{named}",
        pairs.samples,
        model,
        None,
        hook_point=stored.hook_point,
        chat=chat,
        system=system,
        progress=False,
    )
