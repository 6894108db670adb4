"""Estimates with 95 % intervals: bootstrap over groups, Wilson for shares."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, norm
from scipy.stats import t as student

RESAMPLES = 2000
MIN_GROUPS = 5  # below it a bootstrap sees too little to bound anything
Z = norm.ppf(0.975)


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


def mean_estimate(values: NDArray[np.float64], groups: Sequence[str], *, seed: int = 0) -> Estimate:
    """Estimate a mean over samples, resampling whole groups.

    Where there are several draws, their own variance is added, which few of them know badly: the
    interval is Student's, with the degrees of freedom of such a sum (Satterthwaite 1946,
    https://doi.org/10.2307/3002019).

    Args:
        values: `(n,)`, or `(n, k)` for k draws of a random control.
        groups: the group of each sample; below `MIN_GROUPS` of them there is no interval.
        seed: of the bootstrap.
    """
    if len(set(groups)) < MIN_GROUPS:
        value = float(values.mean()) if len(values) else None
        return Estimate(value, reason=f"an interval needs {MIN_GROUPS} groups or more")
    columns = values[:, None] if values.ndim == 1 else values
    value, n_groups, k = float(values.mean()), len(set(groups)), columns.shape[1]
    means = resampled_means(columns, groups, seed)
    if k == 1:
        low, high = np.quantile(means, tails(n_groups))
        return Estimate(value, float(low), float(high))
    of_groups = float(means.mean(1).var()) * n_groups / (n_groups - 1)
    of_draws = float(columns.mean(0).var(ddof=1)) / k
    variance = of_groups + of_draws
    if variance == 0:
        return Estimate(value, value, value)
    freedom = variance**2 / (of_groups**2 / (n_groups - 1) + of_draws**2 / (k - 1))
    reach = float(student.ppf(0.975, freedom)) * math.sqrt(variance)
    return Estimate(value, value - reach, value + reach)


def tails(n_groups: int) -> tuple[float, float]:
    """Return the quantiles of a bootstrap over so many groups that bound a 95 % interval.

    Percentiles are too narrow where groups are few, by the variance's n in place of n - 1 and by a
    normal's tails in place of Student's; these quantiles make up for both: Hesterberg (2015),
    https://doi.org/10.1080/00031305.2015.1089789.
    """
    reach = math.sqrt(n_groups / (n_groups - 1)) * student.ppf(0.975, n_groups - 1)
    low = float(norm.cdf(-reach))
    return low, 1 - low


def share_estimate(successes: int, trials: int) -> Estimate:
    """Estimate a share by Wilson's interval, which is honest at 0 and at 1 too."""
    if trials == 0:
        return Estimate(None, reason="nothing was counted")
    interval = binomtest(successes, trials).proportion_ci(method="wilson")
    return Estimate(successes / trials, float(interval.low), float(interval.high))


def rate_estimate(shown: NDArray[np.float64], groups: Sequence[str]) -> Estimate:
    """Estimate the share of ones, over groups of what was shown and over draws.

    Wilson's interval where nothing is grouped and there is one draw, or where all are the same: a
    bootstrap would claim certainty.

    Args:
        shown: zeros and ones, `(n,)`, or `(n, k)` for k draws.
        groups: of the n.
    """
    columns = shown[:, None] if shown.ndim == 1 else shown
    n, alone = len(columns), len(set(groups)) == len(groups)
    if n and columns.min() == columns.max():
        counted = len(set(groups))
        return share_estimate(counted if columns.max() else 0, counted)
    if not n or (alone and columns.shape[1] == 1):
        return share_estimate(int(columns.sum()), n)
    return _within(mean_estimate(columns, groups), 0.0, 1.0)


def rate_difference(
    one: NDArray[np.float64], other: NDArray[np.float64], groups: Sequence[str]
) -> Estimate:
    """Estimate by how much one rate exceeds another over the same questions.

    Where the two differ by the same on every question a bootstrap would claim certainty; then
    Newcombe's interval of two shares stands in, as if they were not paired (1998,
    https://doi.org/10.1002/(SICI)1097-0258(19980430)17:8<873::AID-SIM779>3.0.CO;2-I, method 10).

    Args:
        one: zeros and ones, `(n, k)` for k draws.
        other: the same of the other, with as many draws or one of both having one.
        groups: of the n questions.
    """
    difference = one - other
    if not difference.size or np.ptp(difference.mean(1)) > 0:
        return _within(mean_estimate(difference, groups), -1.0, 1.0)
    p, q = (
        share_estimate(round(len(set(groups)) * float(shown.mean())), len(set(groups)))
        for shown in (one, other)
    )
    assert None not in (p.value, p.low, p.high, q.value, q.low, q.high)
    down = math.hypot(p.value - p.low, q.high - q.value)  # type: ignore[operator]
    up = math.hypot(p.high - p.value, q.value - q.low)  # type: ignore[operator]
    value = float(difference.mean())
    return _within(Estimate(value, value - down, value + up), -1.0, 1.0)


def _within(found: Estimate, least: float, most: float) -> Estimate:
    """Cut an interval off where no value can lie."""
    if found.low is None or found.high is None:
        return found
    return replace(found, low=max(found.low, least), high=min(found.high, most))


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
        return Estimate(None, reason=f"the interval of {what} includes zero")
    means = resampled_means(np.stack([part, whole], axis=1), groups, seed)
    means = means[means[:, 1] != 0]  # outcomes of 0 and 1 can all be 0 in a resample
    low, high = np.quantile(means[:, 0] / means[:, 1], tails(len(set(groups))))
    return Estimate(float(part.mean() / whole.mean()), float(low), float(high))
