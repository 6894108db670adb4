"""Size: the samples that differ most between their sides, the features that carry most of it."""

from torch import Tensor

from trimtab.selector.rankers.evidence import Evidence


def samples(evidence: Evidence) -> Tensor:
    """Score samples by the length of their residual difference, `(n,)`."""
    return evidence.parts.residual.norm(dim=1)


def features(evidence: Evidence) -> Tensor:
    """Score features by the length of their term in the full vector, `(d_sae,)`."""
    size = evidence.feature_differences.mean(0).abs() * evidence.decoder.norm(dim=1)
    return size.masked_fill(size == 0, -float("inf"))
