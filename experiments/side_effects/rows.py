"""Scores of vectors and clamps as rows: beside the unsteered model, and beside random ones."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import ttest_ind

from experiments.record import Row
from experiments.side_effects.battery import Scores
from trimtab.selector.intervals import MIN_GROUPS, Estimate, resampled_means, tails

Floats = NDArray[np.float64]


def stacked(draws: Sequence[Scores], measure: str) -> Floats:
    """Return a measure of several draws, `(n, draws)`."""
    return np.stack([np.array(one[measure]) for one in draws], axis=1)


def apart(changes: Floats, own: NDArray[np.bool_], control: Floats | None) -> Row:
    """Compare the changes on a topic's items with those on the rest.

    Args:
        changes: `(n,)`, which is tested by Welch's t; or `(n, draws)` of a random control.
        own: which of the n are the topic's.
        control: changes by random draws, `(n, draws)`; None where `changes` are the control's.
    """
    columns = changes.reshape(len(own), -1)
    row: Row = {
        "items": len(own),
        "change": difference_of_two(columns[own], columns[~own]),
    }
    if changes.ndim == 1:
        alike = np.ptp(changes[own]) == np.ptp(changes[~own]) == 0
        test = ttest_ind(changes[own], changes[~own], equal_var=False)
        row["p"] = 1.0 if alike else float(test.pvalue)
    if control is not None:
        beyond = columns - control
        row["beyond_random"] = difference_of_two(beyond[own], beyond[~own])
    return row


def difference_of_two(one: Floats, other: Floats) -> Estimate:
    """Estimate the mean of `one` `(n, draws)` less that of `other` `(m, draws)`, of other items.

    The interval is over the items of both, and over draws where there are several.
    """
    fewest, draws = min(len(one), len(other)), one.shape[1]
    value = float(one.mean() - other.mean())
    if fewest < MIN_GROUPS:
        return Estimate(value, reason=f"an interval needs {MIN_GROUPS} items or more of each")
    if np.ptp(one.mean(1)) == np.ptp(other.mean(1)) == 0:
        return Estimate(value, reason="no item differs from the others")
    of_one, of_other = (
        resampled_means(values, [str(i) for i in range(len(values))], seed)
        for seed, values in enumerate((one, other))
    )
    rng = np.random.default_rng(2)
    often = rng.multinomial(draws, np.full(draws, 1 / draws), size=len(of_one)) / draws
    low, high = np.quantile(((of_one - of_other) * often).sum(1), tails(fewest))
    return Estimate(value, float(low), float(high))
