"""Every surrogate that a ground, and the model's own replies on it, allow."""

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from trimtab.selector.surrogates import SURROGATES
from trimtab.selector.target import (
    dataset,
    dataset_first_tokens,
    own_replies,
    own_replies_first_tokens,
    projection,
    weighted_replies,
)
from trimtab.selector.target.ground import Ground
from trimtab.selector.target.replies import Replies, write_replies
from trimtab.selector.target.surrogate import Surrogate

Build = Callable[[Ground, Replies | None], Surrogate | None]

ON_SAMPLES: dict[str, Build] = {
    "dataset": dataset.surrogate,
    "dataset_first_tokens": dataset_first_tokens.surrogate,
    "projection": projection.surrogate,
}
ON_REPLIES: dict[str, Build] = {
    "own_replies": own_replies.surrogate,
    "own_replies_first_tokens": own_replies_first_tokens.surrogate,
    "weighted_replies": weighted_replies.surrogate,
}


def on_samples(ground: Ground) -> tuple[Surrogate, ...]:
    """Return the surrogates that need no reply."""
    return _built(ON_SAMPLES, ground, None)


def on_replies(ground: Ground, directions: Sequence[Tensor]) -> tuple[Surrogate, ...]:
    """Let the model write replies under some vectors, and return the surrogates on them.

    Where too few replies turn out as they were meant, some surrogates are left out.
    """
    return _built(ON_REPLIES, ground, write_replies(ground, directions))


def joined(old: Sequence[Surrogate], fresh: Sequence[Surrogate]) -> tuple[Surrogate, ...]:
    """Return all surrogates in their usual order, the fresh ones in place of old namesakes."""
    found = {surrogate.name: surrogate for surrogate in (*old, *fresh)}
    return tuple(found[name] for name in SURROGATES if name in found)


def _built(
    builders: Mapping[str, Build], ground: Ground, replies: Replies | None
) -> tuple[Surrogate, ...]:
    found = [build(ground, replies) for build in builders.values()]
    return tuple(surrogate for surrogate in found if surrogate is not None)
