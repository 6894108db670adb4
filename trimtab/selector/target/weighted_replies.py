"""`weighted_replies`: log-probability of all own replies, weighted by what the classifier says.

Nothing is thrown away: a reply counts for the behaviour as far as the classifier finds it there,
and against it as far as not. Up to a factor the weights are `p - mean p`: the score-function
estimate of how fast the mean probability over the model's replies grows (Williams 1992), with a
baseline.
"""

import numpy as np
from numpy.typing import NDArray

from trimtab.selector.target.ground import Ground
from trimtab.selector.target.replies import MIN_REPLIES, Replies
from trimtab.selector.target.surrogate import Surrogate, on_margin


def soft(probability: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Return weights `(n,)` of replies that show the behaviour with `probability` `(n,)`.

    The mean weighted by `p` less the mean weighted by `1 - p`; they sum to zero. None where either
    side has less than `MIN_REPLIES` in all.
    """
    shows, shows_not = probability.sum(), (1 - probability).sum()
    if min(shows, shows_not) < MIN_REPLIES:
        return None
    weights: NDArray[np.float64] = probability / shows - (1 - probability) / shows_not
    return weights


def surrogate(ground: Ground, replies: Replies | None) -> Surrogate | None:
    """Return the surrogate; None where replies of one side are too few."""
    weights = None if replies is None else soft(replies.probability)
    if replies is None or weights is None:
        return None
    return on_margin("weighted_replies", ground, replies.margin, replies.key, weights)
