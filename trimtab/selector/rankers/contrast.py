"""Contrast statistics: how reliably a feature differs between the sides, over its spread."""

import torch
from torch import Tensor

from trimtab.selector.rankers.evidence import Evidence


def effect_sizes(evidence: Evidence) -> Tensor:
    """Return Cohen's d of the paired differences, `(d_sae,)`; 0 where a feature never differs, and
    of a single sample, which shows no spread.

    The spread has a floor (a tenth of the median over features that differ), so that a feature
    seen once does not look perfectly reliable.
    """
    differences = evidence.feature_differences
    if len(differences) < 2:
        return torch.zeros(differences.shape[1])
    mean, spread = differences.mean(0), differences.std(0)
    differs = spread > 0
    if not bool(differs.any()):
        return torch.zeros_like(mean)
    return mean / (spread + 0.1 * spread[differs].median())


def samples(evidence: Evidence) -> Tensor:
    """Score samples by their difference along the standardised mean difference, `(n,)`.

    That is the diagonal linear discriminant of the features, of the residual without an SAE.
    """
    rows = evidence.parts.residual if evidence.parts.features is None else evidence.parts.features
    variance = rows.var(0, correction=0)
    weights = rows.mean(0) / (variance + variance.mean()).clamp_min(1e-12)
    return rows @ weights


def features(evidence: Evidence) -> Tensor:
    """Score features by the size of their Cohen's d, `(d_sae,)`."""
    sizes = effect_sizes(evidence).abs()
    return sizes.masked_fill(sizes == 0, -torch.inf)
