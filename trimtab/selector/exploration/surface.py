"""The Pareto surface: how much effect so few samples and features have, at equal damage."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor

from trimtab.selector.parts import Choice

Method = Literal[
    "pruning",
    "few samples",
    "decomposition",
    "joint pruning",
    "pursuit",
    "gates",
    "search",
    "random",
]
FAITHFUL: tuple[Method, ...] = ("few samples", "decomposition")
"""Methods that stay near the dense vector, whatever the target says."""


@dataclass(frozen=True)
class Candidate:
    """A choice of parts, how it came about, and its effect on the target at equal damage.

    Attributes:
        pooling: of the parts.
        choice: which of them.
        effect: on the target.
        origin: how it came about, in words.
        method: that found it.
        towards: `(d_model,)`, what matched coefficients were matched to; None without such.
    """

    pooling: str
    choice: Choice
    effect: float
    origin: str
    method: Method
    towards: Tensor | None = field(default=None, compare=False, repr=False)

    @property
    def size(self) -> tuple[int, int]:
        """How many samples and how many features are kept."""
        features = self.choice.features
        return len(self.choice.samples), 0 if features is None else len(features)

    @property
    def log_rows(self) -> float:
        """One number for smallness: the logarithm of the receipt's rows, samples times features.

        Doubling the samples weighs as much as doubling the features.
        """
        samples, features = self.size
        return math.log(samples) + math.log(max(features, 1))


def pareto(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return the candidates that no other beats or equals in effect, samples and features."""

    def beaten(one: Candidate) -> bool:
        return any(
            other is not one
            and other.effect >= one.effect
            and other.size[0] <= one.size[0]
            and other.size[1] <= one.size[1]
            and (other.effect, *other.size) != (one.effect, *one.size)
            for other in candidates
        )

    unique = {(c.pooling, c.choice): c for c in candidates}
    return [candidate for candidate in unique.values() if not beaten(candidate)]


def surface_rows(
    candidates: Sequence[Candidate], rates: Mapping[Candidate, float], **marked: Candidate | None
) -> list[dict[str, Any]]:
    """Return a row a candidate, as the exported table holds them.

    Args:
        candidates: all that were measured; random ones stand beside the front and never on it.
        rates: behaviour rates of those whose replies were judged.
        marked: a column of truth values each, true for the one candidate that it names.
    """
    front = set(pareto([c for c in candidates if c.method != "random"]))
    return [
        {
            "method": c.method,
            "origin": c.origin,
            "pooling": c.pooling,
            "samples": c.size[0],
            "features": c.size[1] or None,
            "effect": c.effect,
            "behavior_rate": rates.get(c),
            "front": c in front,
            **{name: c == candidate for name, candidate in marked.items()},
        }
        for c in candidates
    ]
