"""`dataset_first_tokens`: the margin on the first tokens of the pairs' own completions.

What a reply becomes is often decided by how it begins, and the rest dilutes the mean.
"""

from trimtab.selector.target.ground import Ground
from trimtab.selector.target.replies import Replies
from trimtab.selector.target.surrogate import Surrogate, on_margin

FIRST_TOKENS = 4


def surrogate(ground: Ground, _: Replies | None) -> Surrogate:
    """Return the surrogate."""
    margin = ground.bench.margin(ground.tune, longest=ground.bench.longest, max_tokens=FIRST_TOKENS)
    return on_margin("dataset_first_tokens", ground, margin, "dataset, first tokens")
