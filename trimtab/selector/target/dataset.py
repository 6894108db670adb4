"""`dataset`: the margin on the pairs' own completions."""

from trimtab.selector.target.ground import Ground
from trimtab.selector.target.replies import Replies
from trimtab.selector.target.surrogate import Surrogate, on_margin


def surrogate(ground: Ground, _: Replies | None) -> Surrogate:
    """Return the surrogate."""
    return on_margin(
        "dataset", ground, ground.bench.margin(ground.tune, longest=ground.bench.longest), "dataset"
    )
