"""Whether features that are closer to a task do more to it when they are clamped."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from experiments.clamping.measured import Measured
from experiments.clamping.tasks import Outcomes
from experiments.record import Row
from trimtab.selector.intervals import MIN_GROUPS, Estimate, resampled_means, tails

MIN_SETS = 4  # fewer have no order worth a correlation
MEASURES = ("mc1", "mc2", "log-probability")  # which every model has

Floats = NDArray[np.float64]


def closeness(
    task: str,
    base: Outcomes,
    found: Sequence[Measured],
    near: Mapping[str, Floats],
    seed: int,
) -> list[Row]:
    """Return Spearman's correlation of closeness and change, over sets of features at a clamp.

    Sets are all that were clamped alike, chosen and random, of every number of features; the larger
    ones hold the smaller. The interval is over questions: it is of these sets, and says nothing of
    others.

    Args:
        task: its name.
        base: of the unsteered model.
        found: what each clamp did.
        near: measures of closeness, by name, a number a feature, `(d_sae,)`; a set has its mean.
        seed: of the bootstrap.
    """
    rows: list[Row] = []
    for measure in (name for name in MEASURES if name in base):
        before = np.array(base[measure].values)
        for clamp in dict.fromkeys(one.clamp for one in found):
            some = [one for one in found if one.clamp == clamp]
            changes = np.stack([np.array(s.outcomes[measure].values) - before for s in some], 1)
            for name, values in near.items():
                close = np.array([values[list(one.members)].mean() for one in some])
                rows.append(
                    {
                        "task": task,
                        "measure": measure,
                        "clamp": clamp,
                        "closeness": name,
                        "sets": len(some),
                        "spearman": spearman_estimate(close, changes, seed),
                        "spearman_of_size": spearman_estimate(close, changes, seed, size=True),
                    }
                )
    return rows


def spearman_estimate(close: Floats, changes: Floats, seed: int, *, size: bool = False) -> Estimate:
    """Estimate the rank correlation of closeness `(k,)` and mean change, of `(n, k)` questions.

    Args:
        close: of each set.
        changes: of each question under each set.
        seed: of the bootstrap.
        size: of the change's size, whichever way it goes.
    """
    n, k = changes.shape
    mean = changes.mean(0)
    if k < MIN_SETS or np.ptp(close) == 0 or np.ptp(np.abs(mean) if size else mean) == 0:
        return Estimate(None, reason="too few sets, or all are alike")
    value = float(_correlations(close, mean[None], size)[0])
    if n < MIN_GROUPS:
        return Estimate(value, reason=f"an interval needs {MIN_GROUPS} questions or more")
    means = resampled_means(changes, [str(i) for i in range(n)], seed)
    low, high = np.nanquantile(_correlations(close, means, size), tails(n))
    return Estimate(value, float(low), float(high))


def _correlations(close: Floats, means: Floats, size: bool) -> Floats:
    """Return Spearman's correlation of `(k,)` with each row of `(draws, k)`; NaN of a flat one."""
    x = rankdata(close)
    y = rankdata(np.abs(means) if size else means, axis=1)
    x, y = x - x.mean(), y - y.mean(1, keepdims=True)
    lengths = np.linalg.norm(y, axis=1) * np.linalg.norm(x)
    with np.errstate(invalid="ignore"):
        found: Floats = np.where(lengths > 0, y @ x / lengths, np.nan)
    return found
