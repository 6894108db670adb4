"""Linear datamodeling score: do an attribution's sums rank subsets as their effects do?

Park et al. (2023), https://arxiv.org/abs/2303.14186.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata
from torch import Tensor

from trimtab.selector.intervals import RESAMPLES, Estimate

MIN_SUBSETS = 10  # below it a rank correlation has no interval worth printing
SPLITS = 100  # random halves of the pairs that the ceiling is averaged over
SPLIT_RESAMPLES = 500  # of its interval

Floats = NDArray[np.float64]


def predicted(scores: Tensor, masks: NDArray[np.bool_], *, averaged: bool) -> Floats:
    """Return the predicted effect of each subset, `(m,)`, up to an increasing function.

    Args:
        scores: of the parts, `(k,)`.
        masks: the subsets, `(m, k)`.
        averaged: a subset's vector is a mean, so that its scores are averaged, else summed. Of
            subsets of one size, both rank alike.
    """
    sums: Floats = masks @ scores.double().numpy()
    return sums / masks.sum(1) if averaged else sums


def lds(prediction: Floats, effects: Floats, *, seed: int = 0) -> Estimate:
    """Estimate the Spearman correlation of predicted and measured effect over subsets.

    The interval is a bootstrap over subsets, given the pairs that effects were measured on; what
    the choice of pairs adds to the doubt is what `ceiling` is for.

    Args:
        prediction: `(m,)`.
        effects: `(m, n_pairs)`.
        seed: of the bootstrap.
    """
    measured = effects.mean(1)
    if len(measured) < MIN_SUBSETS:
        return Estimate(None, reason=f"a rank correlation needs {MIN_SUBSETS} vectors or more")
    if np.ptp(prediction) == 0 or np.ptp(measured) == 0:
        return Estimate(None, reason="all vectors are predicted, or measured, to be the same")
    draws = np.random.default_rng(seed).integers(len(measured), size=(RESAMPLES, len(measured)))
    found = spearman(prediction[draws], measured[draws])
    low, high = np.nanquantile(found, [0.025, 0.975])
    return Estimate(float(spearman(prediction, measured)), float(low), float(high))


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
    if len(names) < 4 or len(effects) < MIN_SUBSETS:
        return Estimate(None, reason=f"a ceiling needs 4 groups and {MIN_SUBSETS} vectors or more")
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


def spearman(one: Floats, other: Floats) -> Floats:
    """Return the rank correlation along the last axis; NaN where one of them is constant."""
    ranks = [rankdata(values, axis=-1) for values in (one, other)]
    a, b = (r - r.mean(-1, keepdims=True) for r in ranks)
    scale = np.sqrt((a * a).sum(-1) * (b * b).sum(-1))
    with np.errstate(invalid="ignore"):
        found: Floats = (a * b).sum(-1) / scale
    return found


def _whole(half: Floats) -> Floats:
    """Spearman-Brown: the reliability of both halves together; 0 where they disagree."""
    r = np.maximum(half, 0.0)
    whole: Floats = 2 * r / (1 + r)
    return whole
