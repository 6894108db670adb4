"""Size: the samples that differ most between their sides, the features that carry most of it."""

import torch
from torch import Tensor

from trimtab.selector.rankers.evidence import Evidence


def samples(evidence: Evidence) -> Tensor:
    """Score samples by the length of their residual difference, `(n,)`."""
    lengths: Tensor = torch.linalg.vector_norm(evidence.parts.residual, dim=1)
    return lengths


def features(evidence: Evidence) -> Tensor:
    """Score features by the length of their term in the full vector, `(d_sae,)`."""
    lengths: Tensor = torch.linalg.vector_norm(evidence.decoder, dim=1)
    size = evidence.feature_differences.mean(0).abs() * lengths
    return size.masked_fill(size == 0, -torch.inf)
