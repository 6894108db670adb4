"""What of one behaviour might steer another: predictions from what is known of both."""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from experiments.subject import Subject
from trimtab.selector.intervals import RESAMPLES, Estimate, tails
from trimtab.selector.ranks import spearman

Cell = tuple[str, str]  # from which behaviour, to which

MIN_BEHAVIORS = 8  # below it draws of behaviours bound nothing
MIN_DISTINCT = 4  # behaviours that a draw must hold
MIN_CELLS = 4
PERMUTATIONS = 2000


def likeness_of_vectors(one: Subject, other: Subject, _count: int) -> float:
    """Cosine of the dense vectors."""
    return float(torch.nn.functional.cosine_similarity(one.dense, other.dense, dim=0))


def likeness_of_features(one: Subject, other: Subject, _count: int) -> float:
    """Cosine of the mean feature differences."""
    return float(
        torch.nn.functional.cosine_similarity(_mean_features(one), _mean_features(other), dim=0)
    )


def shared_features(one: Subject, other: Subject, count: int) -> float:
    """Features among the strongest of both, with their signs: agreeing less opposing, a share."""
    shared = list(set(one.strongest_features(count)) & set(other.strongest_features(count)))
    signs = [_mean_features(subject)[shared].sign() for subject in (one, other)]
    return float((signs[0] * signs[1]).sum()) / count


def first_order(one: Subject, other: Subject, _count: int) -> float:
    """The vector at the budget times the gradient of the other's tuning margin."""
    return float(one.bench.at_budget(one.dense) @ other.gradient)


PREDICTORS: Mapping[str, Callable[[Subject, Subject, int], float]] = {
    "cosine of dense vectors": likeness_of_vectors,
    "cosine of feature differences": likeness_of_features,
    "shared strongest features": shared_features,
    "first-order attribution": first_order,
}


def rank_correlation(
    predicted: Mapping[Cell, float], measured: Mapping[Cell, float], seed: int
) -> tuple[Estimate, float | None]:
    """Estimate Spearman's correlation over pairs of unlike behaviours, and its chance.

    A behaviour is in many pairs, so that whole behaviours are drawn for the interval: a pair counts
    as often as both of its ends do. The chance is the share of ways to exchange the behaviours'
    names in the prediction that correlate as strongly, of either sign (Mantel 1967); few behaviours
    allow nothing else.

    Args:
        predicted: by (from, to).
        measured: the same.
        seed: of both.
    """
    cells = [cell for cell in measured if cell[0] != cell[1] and cell in predicted]
    names = sorted({name for cell in cells for name in cell})
    value = _spearman(predicted, measured, cells)
    if value is None:
        return Estimate(None, reason="all are predicted, or measured, to be the same"), None
    rng = np.random.default_rng(seed)
    if math.factorial(len(names)) <= PERMUTATIONS:
        orders = [list(order) for order in itertools.permutations(names)]
    else:
        orders = [names, *(rng.permutation(names).tolist() for _ in range(PERMUTATIONS))]
    as_strong = 0
    for order in orders:
        renamed = dict(zip(names, order, strict=True))
        exchanged = {(a, b): predicted.get((renamed[a], renamed[b]), np.nan) for a, b in cells}
        found = _spearman(exchanged, measured, cells)
        as_strong += found is not None and abs(found) >= abs(value) - 1e-12
    chance = as_strong / len(orders)
    if len(names) < MIN_BEHAVIORS:
        why = f"an interval needs {MIN_BEHAVIORS} behaviours or more"
        return Estimate(value, reason=why), chance
    place = {name: i for i, name in enumerate(names)}
    ends = np.array([[place[a], place[b]] for a, b in cells])
    draws: list[float] = []
    while len(draws) < RESAMPLES:
        times = rng.multinomial(len(names), np.full(len(names), 1 / len(names)))
        if (times > 0).sum() < MIN_DISTINCT:
            continue
        often = times[ends].prod(1)
        some = [cell for cell, count in zip(cells, often, strict=True) for _ in range(count)]
        found = _spearman(predicted, measured, some)
        draws += [] if found is None else [found]
    low, high = np.quantile(draws, tails(len(names)))
    return Estimate(value, float(low), float(high)), chance


def _spearman(
    predicted: Mapping[Cell, float], measured: Mapping[Cell, float], cells: Sequence[Cell]
) -> float | None:
    x = np.array([predicted[cell] for cell in cells])
    y = np.array([measured[cell] for cell in cells])
    known = np.isfinite(x) & np.isfinite(y)
    x, y = x[known], y[known]
    if len(x) < MIN_CELLS or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    return float(spearman(x, y))


def _mean_features(subject: Subject) -> Tensor:
    assert subject.parts.features is not None
    return subject.parts.features.mean(0)
