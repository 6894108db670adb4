"""Scores of vectors and clamps as rows: beside the unsteered model, and beside random ones."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from experiments.paired import holm, mcnemar, paired_t
from experiments.record import Row
from experiments.side_effects.battery import ACCURACIES, Scores
from trimtab.selector.intervals import (
    MIN_GROUPS,
    Estimate,
    mean_estimate,
    rate_difference,
    rate_estimate,
    resampled_means,
    tails,
)

Floats = NDArray[np.float64]


def stacked(draws: Sequence[Scores], measure: str) -> Floats:
    """Return a measure of several draws, `(n, draws)`."""
    return np.stack([np.array(one[measure]) for one in draws], axis=1)


def compared(measure: str, base: Floats, found: Floats, control: Floats | None) -> Row:
    """Compare a measure with the unsteered model's, and with random draws, on the same items.

    Args:
        measure: its name.
        base: `(n,)`.
        found: `(n, draws)`; only one draw has a p value.
        control: `(n, draws)`; None where `found` is the control.
    """
    groups = [str(i) for i in range(len(base))]
    estimate = rate_estimate if measure in ACCURACIES else mean_estimate
    row: Row = {
        "measure": measure,
        "items": len(base),
        "unsteered": float(base.mean()),
        "value": estimate(found, groups),
        "change": _difference(measure, found, base[:, None], groups),
    }
    if found.shape[1] == 1:
        one = found[:, 0]
        row["p"] = mcnemar(base, one) if measure in ACCURACIES else paired_t(one - base)
    if control is not None:
        row["beyond_random"] = _difference(measure, found, control, groups)
    return row


def corrected(rows: Sequence[Row]) -> list[Row]:
    """Return the rows with Holm's correction of p for all of the same measure."""
    for measure in dict.fromkeys(row["measure"] for row in rows):
        tested = [row for row in rows if row["measure"] == measure and "p" in row]
        for row, p in zip(tested, holm([row["p"] for row in tested]), strict=True):
            row["p_holm"] = p
    return list(rows)


def difference_of_two(one: Floats, other: Floats) -> Estimate:
    """Estimate the mean of `one` `(n,)` less that of `other` `(m,)`, of other items."""
    fewest = min(len(one), len(other))
    value = float(one.mean() - other.mean())
    if fewest < MIN_GROUPS:
        return Estimate(value, reason=f"an interval needs {MIN_GROUPS} items or more of each")
    draws = [
        resampled_means(values[:, None], [str(i) for i in range(len(values))], seed)[:, 0]
        for seed, values in enumerate((one, other))
    ]
    low, high = np.quantile(draws[0] - draws[1], tails(fewest))
    return Estimate(value, float(low), float(high))


def _difference(measure: str, one: Floats, other: Floats, groups: list[str]) -> Estimate:
    if measure in ACCURACIES:
        return rate_difference(one, other, groups)
    if one.shape[1] == 1:  # draws of the control are resampled, too
        return mean_estimate(one - other, groups)
    return mean_estimate(one - other.mean(1, keepdims=True), groups)
