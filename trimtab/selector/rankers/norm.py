"""Size: the samples that differ most between their sides, the features that carry most of it."""

import torch
from torch import Tensor

from trimtab.selector.rankers.evidence import Evidence


def samples(evidence: Evidence) -> Tensor:
    """Score samples by the length of their residual difference, `(n,)`."""
    return torch.linalg.vector_norm(evidence.parts.residual, dim=1)


def features(evidence: Evidence) -> Tensor:
    """Score features by the length of their term in the full vector, `(d_sae,)`."""
    size = evidence.feature_differences.mean(0).abs() * torch.linalg.vector_norm(
        evidence.decoder, dim=1
    )
    return size.masked_fill(size == 0, -torch.inf)
