"""`own_replies`: the margin on replies that the model wrote itself.

Only those count that the classifier finds on the side that they were written for.
"""

import numpy as np
from numpy.typing import NDArray

from trimtab.selector.target.ground import Ground
from trimtab.selector.target.replies import MIN_REPLIES, Replies
from trimtab.selector.target.surrogate import Surrogate, on_margin


def kept(replies: Replies) -> NDArray[np.float64] | None:
    """Return weights `(n,)`: mean of the kept positives less mean of the kept negatives.

    None where a side has fewer than `MIN_REPLIES`.
    """
    shows = replies.probability > 0.5
    positive = (replies.positive & shows).astype(float)
    negative = (~replies.positive & ~shows).astype(float)
    if min(positive.sum(), negative.sum()) < MIN_REPLIES:
        return None
    weights: NDArray[np.float64] = positive / positive.sum() - negative / negative.sum()
    return weights


def surrogate(ground: Ground, replies: Replies | None) -> Surrogate | None:
    """Return the surrogate; None where too few replies were kept."""
    weights = None if replies is None else kept(replies)
    if replies is None or weights is None:
        return None
    return on_margin("own_replies", ground, replies.margin, replies.key, weights)
