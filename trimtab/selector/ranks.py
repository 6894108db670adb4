"""Rank correlation of effects over vectors, and how far such effects can be ranked at all."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from trimtab.selector.intervals import Estimate

MIN_VECTORS = 10  # below it a rank correlation has no interval worth printing
SPLITS = 100  # random halves of the pairs that the ceiling is averaged over
SPLIT_RESAMPLES = 500  # of its interval

Floats = NDArray[np.float64]


def spearman(one: Floats, other: Floats) -> Floats:
    """Return the rank correlation along the last axis; NaN where one of them is constant."""
    ranks = [rankdata(values, axis=-1) for values in (one, other)]
    a, b = (r - r.mean(-1, keepdims=True) for r in ranks)
    scale = np.sqrt((a * a).sum(-1) * (b * b).sum(-1))
    with np.errstate(invalid="ignore"):
        found: Floats = (a * b).sum(-1) / scale
    return found


def ceiling(effects: Floats, groups: Sequence[str], *, seed: int = 0) -> Estimate:
    """Estimate how well these pairs rank the subsets at all: their split-half reliability.

    The Spearman correlation between the mean effects on two random halves of the pairs' groups,
    averaged over `SPLITS` halvings, by the Spearman-Brown formula that of all pairs:
    `2 r / (1 + r)`. An estimator that knew the effect on all pairs there are would reach its square
    root; one that learnt from as many other pairs of the kind, about the reliability itself. The
    interval is a bootstrap over subsets, a new halving each.

    Args:
        effects: `(m, n_pairs)`.
        groups: of the pairs; a group is never torn apart.
        seed: of halvings and bootstrap.
    """
    names, index = np.unique(np.asarray(groups), return_inverse=True)
    if len(names) < 4 or len(effects) < MIN_VECTORS:
        return Estimate(None, reason=f"a ceiling needs 4 groups and {MIN_VECTORS} vectors or more")
    rng = np.random.default_rng(seed)
    one, other = _halves(effects, index, SPLITS, rng)
    between = spearman(one, other)
    if np.isnan(between).all():
        return Estimate(None, reason="on half of the groups all vectors do the same")
    value = _whole(np.asarray(np.nanmean(between)))
    one, other = _halves(effects, index, SPLIT_RESAMPLES, rng)
    drawn = rng.integers(len(effects), size=one.shape)
    found = spearman(*(np.take_along_axis(half, drawn, axis=1) for half in (one, other)))
    low, high = np.nanquantile(_whole(found), [0.025, 0.975])
    return Estimate(float(value), float(low), float(high))


def _halves(
    effects: Floats, index: NDArray[np.int64], count: int, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """Return mean effects on both halves of `count` random halvings of groups, `(count, m)`."""
    n_groups = int(index.max()) + 1
    ranks = rng.random((count, n_groups)).argsort(axis=1).argsort(axis=1)
    first = (ranks < n_groups // 2)[:, index].astype(float)
    one, other = (side @ effects.T / side.sum(1, keepdims=True) for side in (first, 1 - first))
    return one, other


def _whole(half: Floats) -> Floats:
    """Spearman-Brown: the reliability of both halves together; 0 where they disagree."""
    r = np.maximum(half, 0.0)
    whole: Floats = 2 * r / (1 + r)
    return whole
