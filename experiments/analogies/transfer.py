"""What of one behaviour might steer another: predictions from what is known of both."""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr
from torch import Tensor

from experiments.subject import Subject
from trimtab.selector.intervals import RESAMPLES, Estimate
from trimtab.selector.rankers import FEATURE_RANKERS, Evidence

Cell = tuple[str, str]  # from which behaviour, to which

MIN_BEHAVIORS = 4  # below it there are too few cells to rank


def strongest_features(subject: Subject, count: int) -> tuple[int, ...]:
    """Return the features whose mean differences make the longest terms."""
    lengths = FEATURE_RANKERS["norm"](Evidence(subject.parts, subject.dense))
    return tuple(lengths.topk(count).indices.tolist())


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
    shared = list(set(strongest_features(one, count)) & set(strongest_features(other, count)))
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
) -> Estimate:
    """Estimate Spearman's correlation over pairs of unlike behaviours.

    A behaviour is in many pairs, so that whole behaviours are drawn for the interval, and a pair
    counts as often as both of its ends do.
    """
    names = sorted({name for cell in measured for name in cell})
    cells = [cell for cell in measured if cell[0] != cell[1]]
    x = np.array([predicted[cell] for cell in cells])
    y = np.array([measured[cell] for cell in cells])
    value = _spearman(x, y)
    if len(names) < MIN_BEHAVIORS or value is None:
        return Estimate(value, reason=f"an interval needs {MIN_BEHAVIORS} behaviours or more")
    place = {name: i for i, name in enumerate(names)}
    ends = np.array([[place[a], place[b]] for a, b in cells])
    generator = np.random.default_rng(seed)
    found = []
    for _ in range(RESAMPLES):
        times = generator.multinomial(len(names), np.full(len(names), 1 / len(names)))
        often = times[ends].prod(1)
        one = _spearman(np.repeat(x, often), np.repeat(y, often))
        found += [] if one is None else [one]
    low, high = np.quantile(found, [0.025, 0.975])
    return Estimate(value, float(low), float(high))


def _spearman(x: NDArray[np.float64], y: NDArray[np.float64]) -> float | None:
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    return float(spearmanr(x, y).statistic)


def _mean_features(subject: Subject) -> Tensor:
    assert subject.parts.features is not None
    return subject.parts.features.mean(0)
