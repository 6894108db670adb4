"""Whether features that are closer to a task do more to it when they are clamped."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from experiments.clamping.measured import Measured
from experiments.clamping.tasks import Outcomes
from experiments.record import Row
from trimtab.selector.intervals import MIN_GROUPS, Estimate, resampled_means, tails

MIN_SETS = 4  # of one size; fewer have no order worth a correlation
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

    Sets are all that were clamped alike, chosen and random. They are ranked among those of as many
    features: larger sets are nearer to the mean in closeness, and do more. The interval is over
    questions: it is of these sets, and says nothing of others.

    Args:
        task: its name.
        base: of the unsteered model.
        found: what each clamp did, where all do the same damage.
        near: measures of closeness, by name, a number a feature, `(d_sae,)`; a set has its mean.
        seed: of the bootstrap.
    """
    rows: list[Row] = []
    for measure in (name for name in MEASURES if name in base):
        before = np.array(base[measure].values)
        for clamp in dict.fromkeys(one.clamp for one in found):
            some = [one for one in found if one.clamp == clamp]
            changes = np.stack([np.array(s.outcomes[measure].values) - before for s in some], 1)
            sizes = [len(one.members) for one in some]
            for name, values in near.items():
                close = np.array([values[list(one.members)].mean() for one in some])
                rows.append(
                    {
                        "task": task,
                        "measure": measure,
                        "clamp": clamp,
                        "closeness": name,
                        "sets": len(some),
                        "spearman": spearman_estimate(close, changes, sizes, seed),
                        "spearman_of_size": spearman_estimate(
                            close, changes, sizes, seed, size=True
                        ),
                    }
                )
    return rows


def spearman_estimate(
    close: Floats, changes: Floats, sizes: Sequence[int], seed: int, *, size: bool = False
) -> Estimate:
    """Estimate the rank correlation of closeness `(k,)` and mean change, of `(n, k)` questions.

    Args:
        close: of each set.
        changes: of each question under each set.
        sizes: of the k sets; ranks are among those of the same size.
        seed: of the bootstrap.
        size: of the change's size, whichever way it goes.
    """
    n = len(changes)
    mean = changes.mean(0)[None]
    few = min(sizes.count(one) for one in sizes) < MIN_SETS
    value = np.nan if few else float(_correlations(close, mean, sizes, size)[0])
    if np.isnan(value):
        return Estimate(None, reason="too few sets, or all are alike")
    if n < MIN_GROUPS:
        return Estimate(value, reason=f"an interval needs {MIN_GROUPS} questions or more")
    means = resampled_means(changes, [str(i) for i in range(n)], seed)
    low, high = np.nanquantile(_correlations(close, means, sizes, size), tails(n))
    return Estimate(value, float(low), float(high))


def _correlations(close: Floats, means: Floats, sizes: Sequence[int], size: bool) -> Floats:
    """Return Spearman's correlation of `(k,)` with each row of `(draws, k)`; NaN of a flat one."""
    x = _ranks(close[None], sizes)[0]
    y = _ranks(np.abs(means) if size else means, sizes)
    lengths = np.linalg.norm(y, axis=1) * np.linalg.norm(x)
    with np.errstate(invalid="ignore"):
        found: Floats = np.where(lengths > 0, y @ x / lengths, np.nan)
    return found


def _ranks(values: Floats, sizes: Sequence[int]) -> Floats:
    """Return the ranks of `(rows, k)` among those of the same size, less their mean."""
    ranks = np.empty(values.shape)
    for one in set(sizes):
        own = np.array(sizes) == one
        found = rankdata(values[:, own], axis=1)
        ranks[:, own] = found - found.mean(1, keepdims=True)
    return ranks
