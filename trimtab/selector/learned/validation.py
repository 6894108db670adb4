"""Cross-validation of what was learned: on pairs, and on behaviours, that it never saw."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from sklearn.model_selection import GroupKFold
from torch import Tensor

from trimtab.errors import SelectionError, VectorError
from trimtab.selector.intervals import MIN_GROUPS, Estimate, mean_estimate, tails
from trimtab.selector.learned.model import Way, fit, ranks
from trimtab.selector.learned.views import Floats, View, together, view, view_against
from trimtab.selector.parts import Parts
from trimtab.selector.ranks import spearman

FOLDS = 5
RESAMPLES = 1000
DRAWS = 10  # random choices that the best are compared with

Kind = Literal["pair", "prompt"]


@dataclass(frozen=True, eq=False)
class Training:
    """Measured pairs of one behaviour.

    Attributes:
        parts: their rows.
        groups: of each.
        usefulness: measured, `(n,)`, higher is better; only its order counts.
    """

    parts: Parts
    groups: tuple[str, ...]
    usefulness: Floats

    def __len__(self) -> int:
        return len(self.groups)


def predictions(training: Training, way: Way) -> Floats:
    """Predict every pair by a model that saw none of its group, `(n,)`.

    Ranks are taken among a fold's own training pairs, so that their mean is the same for each: it
    would be high where the held-out pairs are bad, and pull the correlation below zero.

    Raises:
        SelectionError: there are too few groups to hold one out.
    """
    count = min(FOLDS, len(set(training.groups)))
    if count < 2 or len(training) < 2 * FOLDS:
        raise SelectionError(
            f"{len(training)} pairs of {len(set(training.groups))} groups are too few to learn "
            f"from; {2 * FOLDS} pairs of 2 groups or more are needed"
        )
    groups = np.asarray(training.groups)
    found = np.zeros(len(training))
    for train, test in GroupKFold(count).split(groups, groups=groups):
        seen = training.parts.rows(train.tolist())
        model = fit(view(seen, groups[train].tolist()), ranks(training.usefulness[train]), way)
        held_out = view_against(training.parts.rows(test.tolist()), seen)
        found[test] = model.predict(held_out)
    return found


@dataclass(frozen=True)
class Judged:
    """How well usefulness is predicted from one kind of view, by models that saw no such group.

    Attributes:
        n: pairs it was learnt from.
        learned: rank correlation of prediction and measured usefulness.
        cosine: the same of the cosine alone; None where nothing is seen that has one.
        way: which of the two is used.
    """

    n: int
    learned: Estimate
    cosine: Estimate | None
    way: Way

    @property
    def trusted(self) -> Estimate:
        """The rank correlation of the way that is used."""
        return self.cosine if self.way == "cosine" and self.cosine is not None else self.learned

    def to_json(self) -> dict[str, Any]:
        """Return a plain dict."""
        cosine = None if self.cosine is None else self.cosine.to_json()
        return {"n": self.n, "learned": self.learned.to_json(), "cosine": cosine, "way": self.way}


def judge(training: Training, kind: Kind) -> Judged:
    """Cross-validate both ways; of prompts there is no difference whose cosine could be taken."""
    truth, groups = training.usefulness, training.groups
    learned = rank_correlation(predictions(training, "learned"), truth, groups)
    if kind == "prompt":
        return Judged(len(training), learned, None, "learned")
    cosine = rank_correlation(predictions(training, "cosine"), truth, groups)
    better = (learned.value or 0.0) > (cosine.value or 0.0)
    return Judged(len(training), learned, cosine, "learned" if better else "cosine")


def predictions_across(trainings: Mapping[str, Training], way: Way) -> dict[str, Floats]:
    """Predict each behaviour's pairs by a model that saw only the others, `(n,)` by behaviour.

    The pairs of the behaviour that is predicted are compared with one another's mean, which needs
    no measurement.

    Raises:
        SelectionError: there is only one behaviour.
    """
    if len(trainings) < 2:
        raise SelectionError("holding a behaviour out needs two behaviours or more")
    views: dict[str, View] = {
        name: view(one.parts, list(one.groups)) for name, one in trainings.items()
    }
    found = {}
    for name in trainings:
        others = [other for other in trainings if other != name]
        target = np.concatenate([ranks(trainings[other].usefulness) for other in others])
        model = fit(together([views[other] for other in others]), target, way)
        found[name] = model.predict(views[name])
    return found


def rank_correlation(
    predicted: Floats, truth: Floats, groups: Sequence[str], *, seed: int = 0
) -> Estimate:
    """Estimate Spearman's correlation, `(n,)` each, with a bootstrap over whole groups."""
    value = float(spearman(predicted, truth))
    if not np.isfinite(value):
        return Estimate(None, reason="all predictions, or all measurements, are the same")
    names, index = np.unique(np.asarray(groups), return_inverse=True)
    if len(names) < MIN_GROUPS:
        return Estimate(value, reason=f"an interval needs {MIN_GROUPS} groups or more")
    members = [np.flatnonzero(index == group) for group in range(len(names))]
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(RESAMPLES):
        drawn = np.concatenate([members[g] for g in rng.integers(len(names), size=len(names))])
        found.append(float(spearman(predicted[drawn], truth[drawn])))
    low, high = np.nanquantile(found, tails(len(names)))
    return Estimate(value, float(low), float(high))


@dataclass(frozen=True)
class Top:
    """What the vector of the best k pairs does, beside random ones, at equal damage."""

    k: int
    best: Estimate
    random: Estimate
    beyond: Estimate

    def to_json(self) -> dict[str, Any]:
        """Return a plain dict."""
        effects = {name: getattr(self, name).to_json() for name in ("best", "random", "beyond")}
        return {"k": self.k, **effects}


def top_against_random(
    parts: Parts,
    predicted: Floats,
    k: int,
    effects: Callable[[Tensor], Floats],
    groups: Sequence[str],
    *,
    seed: int = 0,
) -> Top:
    """Compare the vector of the k pairs with the highest predictions with those of k random pairs.

    Args:
        parts: rows of the pairs.
        predicted: by models that did not see their group, `(n,)`.
        k: how many.
        effects: what a direction does at equal damage to pairs that neither gave parts nor
            measured usefulness, `(n_pairs,)`.
        groups: of those pairs.
        seed: of the random choices.
    """
    best = parts.residual[np.argsort(-predicted, kind="stable")[:k].tolist()].mean(0)
    generator = torch.Generator().manual_seed(seed)
    drawn = [
        parts.residual[torch.randperm(parts.n_samples, generator=generator)[:k]].mean(0)
        for _ in range(DRAWS)
    ]
    of_best = effects(best)
    of_drawn = []
    for one in drawn:
        with suppress(VectorError):  # nothing brings this draw to the damage budget
            of_drawn.append(effects(one))
    of_random = np.stack(of_drawn, axis=1)
    return Top(
        k,
        mean_estimate(of_best, groups),
        mean_estimate(of_random, groups),
        mean_estimate(of_best[:, None] - of_random, groups),
    )
