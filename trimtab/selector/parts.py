"""The algebra of a steering vector: what it is made of, and what is kept of it.

For pair i and feature j let `d_ij` be the pooled difference of activations and `r_i` that of the
residual. A vector is bilinear in sample weights `w` and feature coefficients `m`:

    dense vector      v(w)    = sum_i w_i r_i
    feature vector    v(w, m) = sum_j m_j W_dec[j] sum_i w_i d_ij

so any choice of samples and features is a masked sum over cached rows, and the receipt, one term a
(sample, feature), sums to the vector exactly. `w` and `m` stay non-negative: every part keeps the
direction that its own pairs gave it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trimtab.errors import SelectionError


@dataclass(frozen=True, eq=False)
class Parts:
    """What vectors of one behaviour can be made of; all float32 on the CPU.

    Attributes:
        sample_ids: ids of the `n` samples.
        residual: `(n, d_model)`, a row a sample: pooled positive less pooled negative residual.
        features: `(n, d_sae)`, the same of SAE features; None without an SAE.
        decoder: `(d_sae, d_model)`, the directions of the features; None without an SAE.
    """

    sample_ids: tuple[str, ...]
    residual: Tensor
    features: Tensor | None = None
    decoder: Tensor | None = None

    @property
    def n_samples(self) -> int:
        """Number of samples."""
        return len(self.sample_ids)

    def rows(self, indices: Sequence[int]) -> "Parts":
        """Return the parts that only these samples give."""
        keep = list(indices)
        return Parts(
            tuple(self.sample_ids[i] for i in keep),
            self.residual[keep],
            None if self.features is None else self.features[keep],
            self.decoder,
        )


@dataclass(frozen=True)
class Choice:
    """Which samples are kept, each with the same weight, and which features with what coefficient.

    `features` None stands for the dense vector, which needs no SAE.

    Raises:
        SelectionError: nothing is kept, something is kept twice, or a coefficient is negative.
    """

    samples: tuple[int, ...]
    features: tuple[int, ...] | None = None
    coefficients: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if not self.samples or self.features == ():
            raise SelectionError("a vector needs at least one sample and one feature")
        if len(set(self.samples)) < len(self.samples):
            raise SelectionError("a sample is chosen twice")
        if self.features is not None and len(set(self.features)) < len(self.features):
            raise SelectionError("a feature is chosen twice")
        if self.coefficients is not None:
            if self.features is None or len(self.coefficients) != len(self.features):
                raise SelectionError("there must be one coefficient for each feature")
            if min(self.coefficients) < 0:
                raise SelectionError("coefficients must not be negative")


def shares(parts: Parts, choice: Choice) -> Tensor:
    """Return the receipt's factors: `(samples, features)`, or `(samples, 1)` for a dense vector.

    Entry (i, j) is `w_i m_j d_ij`, the factor of feature j's direction that sample i gives; for a
    dense vector it is `w_i`, the factor of the sample's own residual difference. float64.
    """
    weight = 1.0 / len(choice.samples)
    if choice.features is None:
        return torch.full((len(choice.samples), 1), weight, dtype=torch.float64)
    if parts.features is None:
        raise SelectionError("these parts have no SAE features; choose a dense vector")
    chosen = parts.features[list(choice.samples)][:, list(choice.features)].double()
    coefficients = choice.coefficients or (1.0,) * len(choice.features)
    return weight * chosen * torch.tensor(coefficients, dtype=torch.float64)


def compose(parts: Parts, choice: Choice) -> Tensor:
    """Return the vector `(d_model,)`, float32, that a choice of parts makes."""
    factors = shares(parts, choice)
    if choice.features is None:
        return (factors.T @ parts.residual[list(choice.samples)].double()).squeeze(0).float()
    assert parts.decoder is not None
    return (factors.sum(0) @ parts.decoder[list(choice.features)].double()).float()


def terms(parts: Parts, choice: Choice) -> tuple[Tensor, Tensor]:
    """Return what each sample and what each feature adds to a choice's vector.

    They are `(samples, d_model)` and `(features, d_model)`, float32, either of which sums to the
    vector; for a dense vector the second is the vector itself, `(1, d_model)`.
    """
    factors = shares(parts, choice).float()
    if choice.features is None:
        of_samples = factors * parts.residual[list(choice.samples)]
        return of_samples, of_samples.sum(0, keepdim=True)
    assert parts.decoder is not None
    directions = parts.decoder[list(choice.features)]
    return factors @ directions, factors.sum(0)[:, None] * directions


def everything(parts: Parts) -> Choice:
    """Return the choice of every sample and every feature that fired: the full SAE vector."""
    if parts.features is None:
        return Choice(tuple(range(parts.n_samples)))
    fired = torch.nonzero(parts.features.abs().sum(0) > 0).flatten()
    return Choice(tuple(range(parts.n_samples)), tuple(fired.tolist()))
