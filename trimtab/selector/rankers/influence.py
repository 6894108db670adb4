"""First-order influence: what the target gains, to first order, by a part's term in the vector."""

import torch
from torch import Tensor

from trimtab.selector.rankers.evidence import Evidence


def samples(evidence: Evidence) -> Tensor:
    """Score samples by gradient times difference over its length, `(n,)`.

    The length stands for the damage that a sample's difference does: vectors are compared at
    equal damage, where a long difference is scaled down.
    """
    residual = evidence.parts.residual
    lengths: Tensor = torch.linalg.vector_norm(residual, dim=1)
    return residual @ evidence.gradient / lengths.clamp_min(1e-12)


def gains(evidence: Evidence) -> Tensor:
    """Return mean difference times (gradient times direction), `(d_sae,)`, of either sign."""
    return evidence.feature_differences.mean(0) * (evidence.decoder @ evidence.gradient)


def features(evidence: Evidence) -> Tensor:
    """Score features by their gain, `(d_sae,)`; those that lose are not offered."""
    gain = gains(evidence)
    return gain.masked_fill(gain <= 0, -torch.inf)
