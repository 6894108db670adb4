"""`own_replies_first_tokens`: the margin on the first tokens of the model's own kept replies."""

from trimtab.selector.target.dataset_first_tokens import FIRST_TOKENS
from trimtab.selector.target.ground import Ground
from trimtab.selector.target.own_replies import kept
from trimtab.selector.target.replies import Replies
from trimtab.selector.target.surrogate import Surrogate, on_margin


def surrogate(ground: Ground, replies: Replies | None) -> Surrogate | None:
    """Return the surrogate; None where too few replies were kept."""
    weights = None if replies is None else kept(replies)
    if replies is None or weights is None:
        return None
    margin = ground.bench.margin(replies.samples, max_tokens=FIRST_TOKENS)
    key = f"{replies.key}, first tokens"
    return on_margin("own_replies_first_tokens", ground, margin, key, weights)
