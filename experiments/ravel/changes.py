"""What a way to split the residual adds to a base when it takes its part from a source."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from trimtab.model.sae import SAE

Change = Callable[[Tensor, Tensor], Tensor]
"""Takes residuals `(n, d_model)` of bases and of sources, and returns what bases are given."""


def nothing(base: Tensor, _source: Tensor) -> Tensor:
    """Give a base nothing."""
    return torch.zeros_like(base)


def whole(base: Tensor, source: Tensor) -> Tensor:
    """Give a base all of the source's residual."""
    return source - base


def of_features(sae: SAE, features: Sequence[int] | None = None) -> Change:
    """Give a base some features' activations, or all: x + decode(f') - decode(f)."""
    some = slice(None) if features is None else list(features)

    def change(base: Tensor, source: Tensor) -> Tensor:
        difference = sae.encode(source) - sae.encode(base)
        return (difference[:, some] @ sae.W_dec[some]).to(base)

    return change


def of_subspace(basis: Tensor) -> Change:
    """Give a base what lies in the span of some directions, orthonormal rows `(k, d_model)`."""
    return lambda base, source: (source - base) @ basis.T @ basis
