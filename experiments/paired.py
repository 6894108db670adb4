"""Paired tests of what a change does to the same questions, and Holm's correction of many."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from trimtab.selector.intervals import Estimate, share_estimate

Floats = NDArray[np.float64]

DRAWS = 20_000  # of the bootstrap: Holm's correction of hundreds of tests needs small p


def mcnemar(before: Floats, after: Floats) -> float:
    """Return McNemar's exact p for zeros and ones of the same questions, `(n,)` each (1947)."""
    gained, lost = int((after > before).sum()), int((after < before).sum())
    return float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0


def bootstrap_p(differences: Floats) -> float:
    """Return the two-sided p of a mean difference `(n,)` being zero, by a paired bootstrap.

    It is the share of draws that miss the mean by at least its distance from zero.
    """
    mean = differences.mean()
    if mean == 0:
        return 1.0
    off = np.abs(_weights(len(differences)) @ differences - mean)
    return float((1 + (off >= abs(mean) - 1e-12).sum()) / (1 + DRAWS))


@lru_cache(maxsize=4)
def _weights(n: int) -> Floats:
    drawn = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), size=DRAWS)
    weights: Floats = drawn / n
    return weights


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
