"""Which pairs are worth collecting? Rank a pool by predicted usefulness: what the command calls.

1. Measure how useful the stored pairs of `select` are, by the margin on those of `tune`.
2. Predict each by a model that saw none of its group: that says how far a prediction can be
   trusted. The simpler way, the cosine alone, is taken where it does as well.
3. Fit all of them and predict the pool. Pairs are run through the model and its SAE and seen as
   pairs; what lacks a completion is seen by its prompt.
4. Compare the vector of the best stored pairs with random ones, on the pairs of `report`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from trimtab.errors import PairsError, SelectionError
from trimtab.pairs.groups import group_key
from trimtab.pairs.readers.pool import Prospect
from trimtab.selector.journal import Journal, work_folder
from trimtab.selector.learned.ranking import rank, table_of
from trimtab.selector.learned.training import (
    measure_training,
    prompts_of,
    prospects_as_pairs,
    prospects_as_prompts,
)
from trimtab.selector.learned.validation import (
    Judged,
    Kind,
    Top,
    Training,
    judge,
    predictions,
    top_against_random,
)
from trimtab.selector.learned.views import Floats
from trimtab.selector.loading import load_for
from trimtab.selector.material import check_behavior
from trimtab.selector.scales import scales_of
from trimtab.selector.stages import Stages
from trimtab.store import Store

if TYPE_CHECKING:
    from trimtab.model.language_model import LanguageModel
    from trimtab.model.sae import SAE

LEAST = 4  # pairs of the vector of the best


@dataclass(frozen=True, eq=False)
class Suggestion:
    """A pool in the order in which it is worth collecting.

    Attributes:
        table: a row a prospect, the best first. `usefulness` is the predicted share of the
            behaviour's stored pairs that it is more useful than.
        training: a row a stored pair: measured usefulness, and the rank predicted without it.
        judged: how far predictions can be trusted, by kind of view.
        top: what the vector of the stored pairs that would be picked does beside random ones.
    """

    table: pl.DataFrame
    training: pl.DataFrame
    judged: dict[Kind, Judged]
    top: Top

    def to_json(self) -> dict[str, Any]:
        """Return all as plain JSON."""
        return {
            "judged": {kind: found.to_json() for kind, found in self.judged.items()},
            "top": self.top.to_json(),
            "prospects": self.table.to_dicts(),
        }


def suggest(
    store: Store,
    behavior: str,
    pool: Sequence[Prospect],
    *,
    out: Path | None = None,
    write: Callable[[Suggestion], None] = lambda _: None,
    model: "LanguageModel | None" = None,
    sae: "SAE | None" = None,
    budget: float = 0.1,
    seed: int = 0,
    device: str = "auto",
    progress: bool = True,
) -> Suggestion:
    """Rank a pool of pairs and prompts; an interrupted call with `out` resumes.

    Args:
        store: holds the behaviour's pairs.
        behavior: which behaviour.
        pool: what could be collected.
        out: file that `write` writes; the journal lies in `<out>.work` meanwhile.
        write: told what was found, before the journal goes.
        model: the store's model in float32; None loads it.
        sae: the store's SAE; None loads it.
        budget: damage at which effects are measured, in nats per token.
        seed: of splits and random choices.
        device: where a model that is not given is loaded.
        progress: show what is being done on stderr.

    Raises:
        SelectionError: there is no such behaviour, its texts are unpaired, there are too few pairs,
            or bare prompts are to be ranked without an SAE.
        PairsError, ModelError, VectorError: as the parts say.
    """
    check_behavior(store, behavior)
    if not pool:
        raise PairsError("the pool is empty; give at least one prompt or pair")
    kinds: dict[Kind, list[Prospect]] = {
        "pair": [one for one in pool if one.is_pair],
        "prompt": [one for one in pool if not one.is_pair],
    }
    if kinds["prompt"] and store.fingerprint["sae"] == "none":
        raise SelectionError(
            "a prompt without both completions can only be judged by its SAE features, and "
            f"{store.path} was built without an SAE; give both completions, or build with an SAE"
        )
    with work_folder(out) as work, Stages(shown=progress) as stages:
        model, sae = load_for(store, model, sae, device=device)
        settings = {"store": store.content_hash, "behavior": behavior, "budget": budget}
        journal = Journal(work / "journal.jsonl", settings | {"seed": seed})
        stages("preparing the damage meter", 0, 0)
        scales, make_margin = scales_of(store, model, journal, budget)
        stages("measuring how useful the stored pairs are", 0, 0)
        measured = measure_training(store, sae, behavior, scales, make_margin, seed=seed)
        training = measured.training
        rows: list[dict[str, Any]] = []
        seen: dict[Kind, Training] = {}
        judged: dict[Kind, Judged] = {}
        for kind, prospects in kinds.items():
            if not prospects:
                continue
            stages(f"reading the pool’s {kind}s", 0, 0)
            if kind == "pair":
                seen[kind] = training
                parts = prospects_as_pairs(store, model, sae, prospects)
            else:
                assert sae is not None
                seen[kind] = prompts_of(store, behavior, sae, training)
                parts = prospects_as_prompts(store, model, sae, prospects)
            judged[kind] = judge(seen[kind], kind)
            rows += rank(seen[kind], parts, prospects, kind, judged[kind].way, store)
        stages("comparing the best pairs with random ones", 0, 0)
        first = next(iter(judged))
        out_of_fold = predictions(seen[first], judged[first].way)
        k = max(LEAST, len(training) // 8)
        top = top_against_random(
            training.parts, out_of_fold, k, measured.effects, measured.groups, seed=seed
        )
        stored = {group_key(sample) for sample in store.samples(behavior)}
        table = table_of(rows, stored)
        found = Suggestion(table, _training(training, out_of_fold), judged, top)
        write(found)
    return found


def _training(training: Training, out_of_fold: Floats) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "sample_id": training.parts.sample_ids,
            "group": training.groups,
            "usefulness": training.usefulness,
            "predicted": out_of_fold,
        }
    )
