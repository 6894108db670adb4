"""Which pairs carry a behaviour's vector, which do nothing, which pull the wrong way.

1. Split the pairs into two halves by group. Each half makes a vector, brought to the damage budget,
   and is attributed its effect on pairs of the other half; so every pair gets a score from pairs
   of other groups. The other half's remaining pairs are kept for audits.
2. The scored pairs are dealt into folds by group, and the attribution is repeated on each. A score
   is the mean over folds; its interval is Student's t over them.
3. Where the interval is clear of zero a part helps or hurts; else it cannot be told from nothing.
   One part in forty seems to help, and one to hurt, by chance.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.stats import t as student
from torch import Tensor

from trimtab.errors import SelectionError
from trimtab.pairs import Sample, balanced_groups, split
from trimtab.selector.attribution import Game, Unit, attribute
from trimtab.selector.intervals import Estimate, mean_estimate
from trimtab.selector.material import MAX_TUNE, check_sides, draw, gather, parts_of
from trimtab.selector.parts import Choice, Parts, compose, everything
from trimtab.selector.scales import Floats, MakeMargin, Scales
from trimtab.store import Store

if TYPE_CHECKING:
    from trimtab.model.sae import SAE

FOLDS = 8
MIN_FOLDS = 3  # below it there is no interval to speak of
SHARES = (0.5, 0.25, 0.25)  # of the groups: a half, and what scores and what audits it
POOLING = "mean"


@dataclass(frozen=True, eq=False)
class Half:
    """One half of the pairs, and the pairs of the other half that it is measured on.

    Attributes:
        name: what the journal calls it.
        parts: rows of the half's own samples.
        scored: samples that attributions are measured on.
        judged: samples that have no part in them, for audits.
    """

    name: str
    parts: Parts
    scored: tuple[Sample, ...]
    judged: tuple[Sample, ...]


@dataclass(frozen=True, eq=False)
class Scores:
    """Attributions of one half's effect.

    Attributes:
        half: whose.
        mean: over the folds, `(n,)`, `(d_sae,)` or `(n, d_sae)`, float64, nats per token.
        error: standard error of that mean, the same shape; NaN where nothing was measured.
        folds: how many.
        effect: of the full vector, on the scored pairs.
        added: the full vector at the damage budget, `(d_model,)`.
        cost: forward passes over all scored pairs.
    """

    half: Half
    mean: Tensor
    error: Tensor
    folds: int
    effect: Estimate
    added: Tensor
    cost: float

    def bounds(self) -> tuple[Tensor, Tensor]:
        """Return the 95 % interval of each score."""
        return interval(self.mean, self.error, self.folds)


def interval(mean: Tensor, error: Tensor, folds: int) -> tuple[Tensor, Tensor]:
    """Return the 95 % interval of means over folds with these standard errors, by Student's t."""
    reach = float(student.ppf(0.975, folds - 1)) * error
    return mean - reach, mean + reach


def halves(store: Store, sae: "SAE | None", behavior: str, *, seed: int) -> tuple[Half, Half]:
    """Split a behaviour's usable samples into two halves by group.

    Raises:
        SelectionError: there is no such behaviour, or a part of unpaired texts has one side only.
        PairsError: there are too few groups to split.
    """
    material = gather(
        store, sae, behavior, questions=None, poolings=(POOLING,), shares=SHARES, seed=seed
    )
    own = {*material.splits.select}
    others = [sample for sample in material.samples if sample.id not in own]
    again = split(material.select, seed, SHARES)
    scored = draw([s for s in material.select if s.id in {*again.select}], MAX_TUNE, seed)
    judged = tuple(s for s in material.select if s.id not in {*again.select})
    for name, part in (("scored", scored), ("judged", judged)):
        check_sides(name, part)
    rows = parts_of(store, sae, behavior, POOLING, material.samples, others)
    return (
        Half("first", material.pools[POOLING], material.tune, material.report),
        Half("second", rows, scored, judged),
    )


def score_half(
    half: Half,
    scales: Scales,
    make_margin: MakeMargin,
    estimator: str,
    unit: Unit,
    *,
    budget: int = 256,
    seed: int = 0,
    say: Callable[[str, int, int], None] = lambda *_: None,
) -> Scores:
    """Attribute the effect of a half's full vector to its samples, features or cells.

    Args:
        half: the parts, and the samples to measure on.
        scales: where vectors are measured.
        make_margin: makes the margin of a fold.
        estimator: one of `trimtab.selector.attribution.ESTIMATORS`.
        unit: what the effect is shared out to.
        budget: evaluations of an estimator that samples coalitions.
        seed: of such an estimator.
        say: told (stage, folds done, folds in all).

    Raises:
        SelectionError: there is no such estimator, no SAE features, or too few groups.
        VectorError: the full vector cannot be brought to the damage budget.
    """
    whole = everything(half.parts) if unit != "samples" else None
    if unit != "samples" and half.parts.features is None:
        raise SelectionError(
            "this store was built without an SAE, so there are no features; attribute to samples"
        )
    direction = compose(half.parts, whole or Choice(tuple(range(half.parts.n_samples))))
    added = scales.at_budget(direction)
    multiplier = float(added.norm() / direction.norm())
    folds = dealt(half.scored)
    total, squares, cost = None, None, 0.0
    effects: list[Floats] = []
    for number, fold in enumerate(folds, start=1):
        say(f"scoring the {half.name} half", number, len(folds))
        meter = scales.meter(make_margin(fold), f"{half.name} {number} of {len(folds)}")
        effects.append(meter.effects(added))
        game = Game(half.parts, meter, multiplier, budget=budget, seed=seed + number)
        found = attribute(estimator, game, unit)
        scores = found.scores.double()
        total = scores if total is None else total + scores
        squares = scores**2 if squares is None else squares + scores**2
        cost += found.cost / len(folds)
    assert total is not None and squares is not None
    k = len(folds)
    variance = ((squares - total**2 / k) / (k - 1)).clamp_min(0.0)
    error = (variance / k).sqrt() if cost else torch.full_like(total, torch.nan)
    groups = balanced_groups([sample for fold in folds for sample in fold])
    effect = mean_estimate(np.concatenate(effects), groups)
    return Scores(half, total / k, error, k, effect, added, cost)


def dealt(samples: Sequence[Sample]) -> list[list[Sample]]:
    """Deal samples into folds, whole groups in turn; of unpaired texts, either side's in turn."""
    groups = balanced_groups(samples)
    sides: dict[str, set[str]] = {}
    for sample, group in zip(samples, groups, strict=True):
        sides.setdefault(group, set()).update(side for side, _ in sample.sides)
    whole = [group for group, held in sides.items() if len(held) == 2]
    count = min(FOLDS, len(whole))
    if count < MIN_FOLDS:
        raise SelectionError(
            f"the samples to score on fall into {count} groups with both sides, and {MIN_FOLDS} "
            "are needed; add samples with other prompts"
        )
    rest = [group for group in sides if group not in whole]
    fold_of = {group: i % count for i, group in enumerate(whole + rest)}
    folds: list[list[Sample]] = [[] for _ in range(count)]
    for sample, group in zip(samples, groups, strict=True):
        folds[fold_of[group]].append(sample)
    return folds
