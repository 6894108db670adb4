"""How well a line through the space tells the two sides apart, in groups that it never saw."""

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from trimtab.selector.intervals import MIN_GROUPS, RESAMPLES, Estimate, tails

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Words = NDArray[np.str_]

FOLDS = 5


def side_auc(rows: Floats, positive: Bools, groups: Words, seed: int) -> Estimate:
    """Estimate a linear probe's area under the ROC curve over held-out groups.

    Whole groups are drawn for the interval.

    Args:
        rows: `(n, d)`.
        positive: whether each is of the positive side, `(n,)`.
        groups: `(n,)`; no group is in two folds.
        seed: of the bootstrap.
    """
    names, index = np.unique(groups, return_inverse=True)
    if len(names) < max(FOLDS, MIN_GROUPS):
        return Estimate(None, reason=f"a probe needs {max(FOLDS, MIN_GROUPS)} groups or more")
    scores = np.zeros(len(rows))
    for seen, held in GroupKFold(FOLDS).split(rows, groups=index):
        probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))
        scores[held] = probe.fit(rows[seen], positive[seen]).decision_function(rows[held])
    one, other = scores[positive][:, None], scores[~positive][None]
    wins = (one > other) + 0.5 * (one == other)
    times = np.random.default_rng(seed).multinomial(
        len(names), np.full(len(names), 1 / len(names)), size=RESAMPLES
    )
    ups, downs = times[:, index[positive]], times[:, index[~positive]]
    both = ups.sum(1) * downs.sum(1)
    drawn = ((ups @ wins) * downs).sum(1)[both > 0] / both[both > 0]
    low, high = np.quantile(drawn, tails(len(names)))
    return Estimate(float(wins.mean()), float(low), float(high))
