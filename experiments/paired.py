"""What a change does to the same questions: estimates, paired tests, Holm's correction of many."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, ttest_1samp

from experiments.record import Row
from trimtab.selector.intervals import (
    Estimate,
    mean_estimate,
    rate_difference,
    rate_estimate,
    share_estimate,
)

Floats = NDArray[np.float64]


def compared(before: Floats, after: Floats, control: Floats | None = None, *, binary: bool) -> Row:
    """Compare a measure with the unsteered model's, and with random draws, on the same items.

    Args:
        before: of the unsteered model, `(n,)`.
        after: `(n,)`, which is tested; or `(n, draws)` of a random control, which is not, and
            belongs to no family of tests.
        control: `(n, draws)`, None where there is none.
        binary: whether they are zeros and ones.
    """
    items = [str(i) for i in range(len(before))]
    found = after.reshape(len(before), -1)

    def difference(other: Floats) -> Estimate:
        return (
            rate_difference(found, other, items) if binary else mean_estimate(found - other, items)
        )

    row: Row = {
        "items": len(before),
        "unsteered": float(before.mean()),
        "value": (rate_estimate if binary else mean_estimate)(found, items),
        "change": difference(before[:, None]),
    }
    if after.ndim == 1:
        row["p"] = mcnemar(before, after) if binary else paired_t(after - before)
        row["least_p_gain"], row["least_p_loss"] = attainable(before) if binary else (0.0, 0.0)
    if control is not None:
        row["beyond_random"] = difference(control)
    return row


def corrected(rows: Sequence[Row]) -> list[Row]:
    """Return the rows with Holm's correction of p for all of the same measure, and their number."""
    for measure in dict.fromkeys(row["measure"] for row in rows):
        tested = [row for row in rows if row["measure"] == measure and "p" in row]
        for row, p in zip(tested, holm([row["p"] for row in tested]), strict=True):
            row |= {"p_holm": p, "tests": len(tested)}
    return list(rows)


def mcnemar(before: Floats, after: Floats) -> float:
    """Return McNemar's exact p for zeros and ones of the same questions, `(n,)` each (1947)."""
    gained, lost = int((after > before).sum()), int((after < before).sum())
    return float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0


def attainable(before: Floats) -> tuple[float, float]:
    """Return the smallest p that McNemar's test can have for a gain, and for a loss.

    There is no more to be gained than what is wrong, and no more to be lost than what is right.
    """
    right = int(before.sum())
    gain, loss = (min(1.0, 2 * 0.5**count) for count in (len(before) - right, right))
    return gain, loss


def paired_t(differences: Floats) -> float:
    """Return the two-sided p of Student's paired test, of differences `(n,)` on the same questions.

    A bootstrap's share of draws would claim certainty of eight questions that differ the same way,
    and has no p as small as Holm's correction of hundreds of tests asks for. Where all differ by
    the same there is no spread to test by; the p is the sign test's.
    """
    if np.ptp(differences) < 1e-12:
        return 1.0 if abs(differences[0]) < 1e-12 else float(min(1.0, 2 * 0.5 ** len(differences)))
    return float(ttest_1samp(differences, 0.0).pvalue)


def holm(p: Sequence[float]) -> list[float]:
    """Return p values corrected for their number (Holm 1979); none gets smaller."""
    corrected = np.empty(len(p))
    least = 0.0
    for rank, place in enumerate(np.argsort(p, kind="stable")):
        least = max(least, min(1.0, (len(p) - rank) * p[place]))
        corrected[place] = least
    return [float(value) for value in corrected]


def wrongly_changed(
    before: Floats, after: Floats, answers: Sequence[str], changed: Sequence[str]
) -> Estimate:
    """Estimate, of the answers that changed, the share that were right and are wrong now.

    Args:
        before: whether each answer was right, zeros and ones `(n,)`.
        after: whether it is now.
        answers: what they were.
        changed: what they are now.
    """
    other = np.array([one != two for one, two in zip(answers, changed, strict=True)])
    return share_estimate(int((other & (after < before)).sum()), int(other.sum()))
