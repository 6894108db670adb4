"""Agreement: how well samples and features point where the mean difference points."""

import torch
from torch import Tensor

from trimtab.selector.rankers.evidence import Evidence


def samples(evidence: Evidence) -> Tensor:
    """Score samples by the cosine of their difference to the mean difference, `(n,)`."""
    return torch.cosine_similarity(evidence.parts.residual, evidence.mean_residual[None], dim=1)


def features(evidence: Evidence) -> Tensor:
    """Score features by the cosine of their signed direction to the mean difference, `(d_sae,)`."""
    signs = evidence.feature_differences.mean(0).sign()
    cosines = torch.cosine_similarity(evidence.decoder, evidence.mean_residual[None], dim=1)
    return (signs * cosines).masked_fill(signs == 0, -torch.inf)
