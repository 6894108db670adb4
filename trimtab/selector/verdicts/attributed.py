"""A store's pairs, features or cells with what the effect owes to each: what the command calls."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from trimtab.errors import SelectionError
from trimtab.selector.attribution import ESTIMATORS, Unit
from trimtab.selector.audit.faults import Suspects, WrongWay, drop_suspects, wrong_way
from trimtab.selector.journal import Journal, work_folder
from trimtab.selector.loading import load_for
from trimtab.selector.material import check_behavior
from trimtab.selector.scales import MakeMargin, Scales, scales_of
from trimtab.selector.stages import Stages
from trimtab.selector.verdicts.scores import Scores, halves, score_half
from trimtab.selector.verdicts.tables import TABLES
from trimtab.store import Store

if TYPE_CHECKING:
    from trimtab.model.language_model import LanguageModel
    from trimtab.model.sae import SAE


@dataclass(frozen=True)
class Asked:
    """What an attribution is asked for.

    Attributes:
        unit: what the effect is shared out to.
        estimator: how; see `trimtab.selector.attribution.ESTIMATORS`.
        evaluations: that an estimator which samples coalitions may spend, a half.
        budget: damage that the full vectors are brought to, in nats per token.
        seed: of the halves and of such an estimator.
        audit: whether faults are looked for, too; for samples only.
    """

    unit: Unit = "samples"
    estimator: str = "jackknife"
    evaluations: int = 256
    budget: float = 0.1
    seed: int = 0
    audit: bool = False


@dataclass(frozen=True, eq=False)
class Attributed:
    """What was found.

    Attributes:
        table: a row a sample, feature or cell: the largest score first.
        halves: the scores it is made of, with the full vectors' effects.
        suspects: what dropping the pairs that hurt does; None where none do, or nobody asked.
        wrong_way: pairs that go the wrong way; None where nobody asked.
    """

    table: pl.DataFrame
    halves: tuple[Scores, ...]
    suspects: Suspects | None
    wrong_way: WrongWay | None

    def to_json(self) -> dict[str, Any]:
        """Return all but the table as plain JSON."""
        return {
            "halves": [
                {
                    "samples": one.half.parts.n_samples,
                    "scored_on": len(one.half.scored),
                    "effect": one.effect.to_json(),
                    "forward_passes": one.cost,
                }
                for one in self.halves
            ],
            "suspects": None if self.suspects is None else self.suspects.to_json(),
            "wrong_way": None if self.wrong_way is None else self.wrong_way.to_json(),
        }


def run(
    store: Store,
    behavior: str,
    asked: Asked,
    *,
    out: Path | None = None,
    write: Callable[[Attributed], None] = lambda _: None,
    model: "LanguageModel | None" = None,
    sae: "SAE | None" = None,
    device: str = "auto",
    progress: bool = True,
) -> Attributed:
    """Attribute the effect of a behaviour's vector; an interrupted run with `out` resumes.

    Args:
        store: holds the behaviour's samples.
        behavior: which behaviour.
        asked: what is asked for.
        out: file that `write` writes; its journal lies in `<out>.work` meanwhile.
        write: told what was found, before the journal goes.
        model: the store's model in float32; None loads it.
        sae: the store's SAE; None loads it.
        device: where a model that is not given is loaded.
        progress: show what is being done on stderr.

    Raises:
        SelectionError: there is no such behaviour or estimator, or too few pairs.
        ModelError, PairsError, VectorError: as the parts say.
    """
    check_behavior(store, behavior)
    check_asked(store, asked)
    with work_folder(out) as work, Stages(shown=progress) as stages:
        model, sae = load_for(store, model, sae, device=device)
        stages("preparing the damage meter", 0, 0)
        settings = {"store": store.content_hash, "behavior": behavior, **asdict(asked)}
        journal = Journal(work / "journal.jsonl", settings)
        scales, make_margin = scales_of(store, model, journal, asked.budget)
        found = _attribute(store, sae, behavior, asked, scales, make_margin, stages)
        write(found)
    return found


def check_asked(store: Store, asked: Asked) -> None:
    """Raise SelectionError where the unit is not there, or the estimator not for it."""
    known = ESTIMATORS[asked.unit]
    if asked.estimator not in known:
        raise SelectionError(
            f"no estimator {asked.estimator!r} attributes to {asked.unit}; choose from "
            f"{', '.join(known)}"
        )
    if asked.unit != "samples" and store.fingerprint["sae"] == "none":
        raise SelectionError(
            f"{store.path} was built without an SAE, so it has no features; attribute to samples"
        )
    if asked.audit and asked.unit != "samples":
        raise SelectionError(
            "--audit looks for faults among samples only; leave out --audit or --unit"
        )


def _attribute(
    store: Store,
    sae: "SAE | None",
    behavior: str,
    asked: Asked,
    scales: Scales,
    make_margin: MakeMargin,
    say: Callable[[str, int, int], None],
) -> Attributed:
    found = [
        score_half(
            half,
            scales,
            make_margin,
            asked.estimator,
            asked.unit,
            budget=asked.evaluations,
            seed=asked.seed,
            say=say,
        )
        for half in halves(store, sae, behavior, seed=asked.seed)
    ]
    table = TABLES[asked.unit](found, store, behavior)
    suspects, moved = None, None
    if asked.audit:
        suspects = drop_suspects(found, scales, make_margin, seed=asked.seed, say=say)
        moved = wrong_way(found, scales, make_margin, say=say)
    return Attributed(table, tuple(found), suspects, moved)
