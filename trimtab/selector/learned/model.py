"""The learned model: ridge regression of a pair's usefulness on what is seen of it.

Usefulness is learnt as a rank among the pairs of its own behaviour, so that behaviours can be
learnt from together. Statistics are standardised, and the features weigh as much as all of them.
The model is a list of coefficients, refitted from stored numbers whenever it is wanted.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from scipy.stats import rankdata
from sklearn.linear_model import RidgeCV

from trimtab.selector.learned.views import COSINE, STATISTICS, Floats, View

ALPHAS = np.logspace(-2, 5, 15)  # of ridge; generalised cross-validation chooses

Way = Literal["learned", "cosine"]
"""`learned` looks at everything; `cosine` at the cosine to the other pairs' difference alone."""

WAYS: tuple[Way, ...] = get_args(Way)


@dataclass(frozen=True, eq=False)
class Fitted:
    """A linear model of rank by view.

    Attributes:
        centre, scale: of the statistics, `(s,)`.
        of_statistics: coefficients of the standardised statistics, `(s,)`.
        of_features: coefficients of the features, `(d,)`.
        intercept: mean rank of what it was fitted to.
    """

    centre: Floats
    scale: Floats
    of_statistics: Floats
    of_features: Floats
    intercept: float

    def predict(self, seen: View) -> Floats:
        """Return the predicted rank of each pair, `(n,)`, about -0.5 to 0.5."""
        statistics, features = self.contributions(seen)
        found: Floats = self.intercept + statistics.sum(1) + features.sum(1)
        return found

    def contributions(self, seen: View) -> tuple[Floats, Floats]:
        """Return what each statistic `(n, s)` and each feature `(n, d)` adds to the prediction."""
        standard = (seen.statistics - self.centre) / self.scale
        return standard * self.of_statistics, seen.features * self.of_features


def ranks(usefulness: Floats) -> Floats:
    """Return usefulness as ranks, from just above -0.5 to just below 0.5, ties shared, `(n,)`."""
    found: Floats = (rankdata(usefulness) - 0.5) / len(usefulness) - 0.5
    return found


def fit(seen: View, target: Floats, way: Way = "learned") -> Fitted:
    """Fit the ranks `target` `(n,)` of the pairs that are seen.

    Args:
        seen: what the model looks at.
        target: `ranks` of usefulness within each pair's behaviour.
        way: how much of it.
    """
    centre = seen.statistics.mean(0)
    spread = seen.statistics.std(0)
    scale = np.where(spread > 1e-9, spread, 1.0)
    used = np.arange(len(STATISTICS)) == COSINE if way == "cosine" else spread > 1e-9
    standard = (seen.statistics - centre) / scale * used
    weight = float(len(STATISTICS)) ** 0.5
    columns = [standard, weight * seen.features] if way == "learned" else [standard]
    ridge = RidgeCV(alphas=ALPHAS).fit(np.concatenate(columns, axis=1), target)
    of_statistics, of_features = np.split(ridge.coef_, [len(STATISTICS)])
    if way == "cosine":
        of_features = np.zeros(seen.features.shape[1])
    return Fitted(
        centre, scale, of_statistics * used, weight * of_features, float(ridge.intercept_)
    )
