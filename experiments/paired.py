"""Paired tests of what a change does to the same questions, and Holm's correction of many."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, ttest_1samp

from trimtab.selector.intervals import Estimate, share_estimate

Floats = NDArray[np.float64]


def mcnemar(before: Floats, after: Floats) -> float:
    """Return McNemar's exact p for zeros and ones of the same questions, `(n,)` each (1947)."""
    gained, lost = int((after > before).sum()), int((after < before).sum())
    return float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0


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
