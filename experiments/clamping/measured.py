"""What every clamp did, against the unsteered model and against random features."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from experiments.clamping.tasks import Outcome, Outcomes, Task
from experiments.paired import holm, mcnemar, paired_t, wrongly_changed
from experiments.record import Row
from trimtab.selector.intervals import Estimate, mean_estimate, rate_difference, rate_estimate


class Measured(NamedTuple):
    """One clamp of one set of features.

    Attributes:
        choice: how the features were found, or those that random ones are like.
        features: "chosen" or "random".
        members: the features.
        clamp: a name of its strength.
        fraction: of each feature's strongest activation, signed.
        raw: what the features were set to, `(count,)`.
        damage: KL on neutral text, nats per token.
        outcomes: by measure.
    """

    choice: str
    features: str
    members: tuple[int, ...]
    clamp: str
    fraction: float
    raw: NDArray[np.float64]
    damage: float
    outcomes: Outcomes


def rows_of(task: Task, base: Outcomes, found: Sequence[Measured]) -> list[Row]:
    """Return a row a clamp and measure, with p corrected for all clamps of the same measure."""
    floors = task.floors(base)
    controls = {
        (one.choice, len(one.members), one.clamp): one.outcomes
        for one in found
        if one.features == "random"
    }
    rows: list[Row] = []
    for measure, unsteered in base.items():
        some: list[Row] = []
        for one in found:
            row: Row = {
                "task": task.name,
                "measure": measure,
                "choice": one.choice,
                "features": one.features,
                "count": len(one.members),
                "clamp": one.clamp,
                "fraction": one.fraction,
                "raw": float(one.raw.mean()),
                "raw_weakest": float(one.raw[np.abs(one.raw).argmin()]),
                "raw_strongest": float(one.raw[np.abs(one.raw).argmax()]),
                "damage": one.damage,
                "asked": len(unsteered.values),
                "unsteered": float(np.mean(unsteered.values)),
            }
            if measure in floors:
                some.append(row | {"value": Estimate(None, reason=floors[measure])})
                continue
            control = controls.get((one.choice, len(one.members), one.clamp))
            beside = control[measure] if control and one.features == "chosen" else None
            some.append(row | _compared(unsteered, one.outcomes[measure], beside))
        tested = [row for row in some if "p" in row]
        for row, p in zip(tested, holm([row["p"] for row in tested]), strict=True):
            row["p_holm"] = p
        rows += some
    return rows


def _compared(before: Outcome, after: Outcome, control: Outcome | None) -> Row:
    """Compare one measure with the unsteered model's on the same questions."""
    old, new = np.array(before.values), np.array(after.values)
    groups = [str(i) for i in range(len(new))]
    row: Row = {
        "value": rate_estimate(new, groups) if after.binary else mean_estimate(new, groups),
        "change": _difference(new, old, groups, after.binary),
        "p": mcnemar(old, new) if after.binary else paired_t(new - old),
    }
    if before.answers is not None and after.answers is not None:
        row["wrongly_changed"] = wrongly_changed(old, new, before.answers, after.answers)
    if control is not None:
        row["beyond_random"] = _difference(new, np.array(control.values), groups, after.binary)
    return row


def _difference(
    one: NDArray[np.float64], other: NDArray[np.float64], groups: list[str], binary: bool
) -> Estimate:
    if binary:
        return rate_difference(one[:, None], other[:, None], groups)
    return mean_estimate(one - other, groups)
