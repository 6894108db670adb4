"""Random order: the control that every other ranker has to beat."""

import torch
from torch import Tensor

from trimtab.selector.rankers.evidence import Evidence


def samples(evidence: Evidence) -> Tensor:
    """Score samples at random, `(n,)`."""
    generator = torch.Generator().manual_seed(evidence.seed)
    return torch.rand(evidence.parts.n_samples, generator=generator)


def features(evidence: Evidence) -> Tensor:
    """Score features that fired at random, `(d_sae,)`."""
    generator = torch.Generator().manual_seed(evidence.seed)
    scores = torch.rand(evidence.decoder.shape[0], generator=generator)
    fired = evidence.feature_differences.abs().sum(0) > 0
    return scores.masked_fill(~fired, -torch.inf)
