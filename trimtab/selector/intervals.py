"""Estimates with 95 % intervals: bootstrap over groups, Wilson for shares."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

RESAMPLES = 2000
MIN_GROUPS = 5  # below it a bootstrap sees too little to bound anything


@dataclass(frozen=True)
class Estimate:
    """A value with the bounds of its 95 % interval, or None with the reason why there is none."""

    value: float | None
    low: float | None = None
    high: float | None = None
    reason: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return a plain dict; the reason only where there is one."""
        return {key: item for key, item in asdict(self).items() if key != "reason" or item}

    @property
    def clear_of_zero(self) -> bool:
        """Whether the interval excludes zero."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


def resampled_means(
    columns: NDArray[np.float64], groups: Sequence[str], seed: int
) -> NDArray[np.float64]:
    """Means of the columns `(n, k)` over bootstrap draws of whole groups, `(RESAMPLES, k)`."""
    names, index = np.unique(np.asarray(groups), return_inverse=True)
    sums = np.zeros((len(names), columns.shape[1]))
    np.add.at(sums, index, columns)
    counts = np.bincount(index, minlength=len(names))
    draws = np.random.default_rng(seed).multinomial(
        len(names), np.full(len(names), 1 / len(names)), size=RESAMPLES
    )
    means: NDArray[np.float64] = (draws @ sums) / (draws @ counts)[:, None]
    return means


def _over_draws(means: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """Average `(RESAMPLES, k)` over the k draws of a random control, themselves resampled."""
    k = means.shape[1]
    weights = np.random.default_rng(seed + 1).multinomial(k, np.full(k, 1 / k), size=len(means))
    averaged: NDArray[np.float64] = (means * weights).sum(1) / k
    return averaged


def mean_estimate(values: NDArray[np.float64], groups: Sequence[str], *, seed: int = 0) -> Estimate:
    """Estimate a mean over samples, resampling whole groups, and draws where there are several.

    Args:
        values: `(n,)`, or `(n, k)` for k draws of a random control.
        groups: the group of each sample; below `MIN_GROUPS` of them there is no interval.
        seed: of the bootstrap.
    """
    if len(set(groups)) < MIN_GROUPS:
        value = float(values.mean()) if len(values) else None
        return Estimate(value, reason=f"an interval needs {MIN_GROUPS} groups or more")
    columns = values[:, None] if values.ndim == 1 else values
    means = _over_draws(resampled_means(columns, groups, seed), seed)
    low, high = np.quantile(means, [0.025, 0.975])
    return Estimate(float(values.mean()), float(low), float(high))


def share_estimate(successes: int, trials: int) -> Estimate:
    """Estimate a share by Wilson's interval, which is honest at 0 and at 1 too."""
    if trials == 0:
        return Estimate(None, reason="nothing was counted")
    interval = binomtest(successes, trials).proportion_ci(method="wilson")
    return Estimate(successes / trials, float(interval.low), float(interval.high))


def ratio_estimate(
    part: NDArray[np.float64],
    whole: NDArray[np.float64],
    groups: Sequence[str],
    *,
    what: str,
    seed: int = 0,
) -> Estimate:
    """Estimate mean(part) / mean(whole) over the same samples, `(n,)` each.

    None, with the reason, where the whole's own interval includes zero: a ratio to nothing says
    nothing.
    """
    base = mean_estimate(whole, groups, seed=seed)
    if base.low is None:
        return Estimate(None, reason=base.reason)
    if not base.clear_of_zero:
        return Estimate(None, reason=f"the interval of {what} includes no effect")
    means = resampled_means(np.stack([part, whole], axis=1), groups, seed)
    means = means[means[:, 1] != 0]  # outcomes of 0 and 1 can all be 0 in a resample
    low, high = np.quantile(means[:, 0] / means[:, 1], [0.025, 0.975])
    return Estimate(float(part.mean() / whole.mean()), float(low), float(high))
