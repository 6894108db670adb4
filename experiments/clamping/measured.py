"""What every clamp did, against the unsteered model and against random features."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from experiments.clamping.tasks import Outcomes
from experiments.paired import compared, corrected, wrongly_changed
from experiments.record import Row
from trimtab.selector.intervals import Estimate


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


def rows_of(
    task: str, base: Outcomes, found: Sequence[Measured], floors: dict[str, str]
) -> list[Row]:
    """Return a row a clamp and measure; one of random features holds all their draws.

    Args:
        task: its name.
        base: of the unsteered model.
        found: what each clamp did.
        floors: measures that say nothing on this model, and why.
    """
    alike: dict[tuple[str, str, int, str], list[Measured]] = {}
    for one in found:
        alike.setdefault((one.choice, one.features, len(one.members), one.clamp), []).append(one)
    rows: list[Row] = []
    for measure, unsteered in base.items():
        before = np.array(unsteered.values)
        for (choice, features, count, clamp), draws in alike.items():
            some = [one.outcomes[measure] for one in draws if measure in one.outcomes]
            if not some:
                continue
            raw = np.concatenate([one.raw for one in draws])
            row: Row = {
                "task": task,
                "measure": measure,
                "choice": choice,
                "features": features,
                "draws": len(draws),
                "count": count,
                "clamp": clamp,
                "fraction": float(np.mean([one.fraction for one in draws])),
                "raw": float(raw.mean()),
                "raw_weakest": float(raw[np.abs(raw).argmin()]),
                "raw_strongest": float(raw[np.abs(raw).argmax()]),
                "damage": float(np.mean([one.damage for one in draws])),
            }
            if measure in floors:
                rows.append(
                    row
                    | {"items": len(before), "unsteered": float(before.mean())}
                    | {"value": Estimate(None, reason=floors[measure])}
                )
                continue
            after = np.array([one.values for one in some]).T
            if features == "random":
                rows.append(row | compared(before, after, binary=unsteered.binary))
                continue
            beside = [
                one.outcomes[measure].values
                for one in alike.get((choice, "random", count, clamp), ())
            ]
            control = np.array(beside).T if beside else None
            row |= compared(before, after[:, 0], control, binary=unsteered.binary)
            if unsteered.answers is not None and some[0].answers is not None:
                row["wrongly_changed"] = wrongly_changed(
                    before, after[:, 0], unsteered.answers, some[0].answers
                )
            rows.append(row)
    return corrected(rows)
