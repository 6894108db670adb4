"""A vector of the panel, with the truth about it: what the model writes."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trimtab.errors import VectorError
from trimtab.selector.target.ground import Ground

SAME = 0.999  # cosine from which two vectors are one


@dataclass(frozen=True, eq=False)
class Member:
    """A vector and its behaviour rate.

    Attributes:
        name: what it is.
        direction: `(d_model,)`.
        shown: whether the reply to each prompt shows the behaviour at equal damage, `(n_prompts,)`.
        at: when it joined: "start", or at which checkpoint.
    """

    name: str
    direction: Tensor
    shown: NDArray[np.bool_]
    at: str

    @property
    def rate(self) -> float:
        """Its behaviour rate."""
        return float(self.shown.mean())


def tried(ground: Ground, name: str, direction: Tensor, at: str) -> Member | None:
    """Let the model write under a vector; None where nothing brings it to the damage budget."""
    try:
        return Member(name, direction, ground.shown(direction), at)
    except VectorError:
        return None


def is_new(direction: Tensor, others: Iterable[Tensor]) -> bool:
    """Whether a direction is none of the others, whatever their lengths."""
    return all(float(torch.cosine_similarity(direction, other, dim=0)) < SAME for other in others)
