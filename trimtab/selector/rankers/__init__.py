"""Interchangeable orders of usefulness: each file ranks samples, features or both.

A ranker takes the evidence and returns one score a sample `(n,)` or a feature `(d_sae,)`, higher
is more useful. A feature that must not be used (it never fired, or points against its pairs)
scores minus infinity.
"""

from collections.abc import Callable

from torch import Tensor

from trimtab.selector.rankers import contrast, cosine, influence, norm, pursuit, random
from trimtab.selector.rankers.evidence import Evidence

Ranker = Callable[[Evidence], Tensor]

SAMPLE_RANKERS: dict[str, Ranker] = {
    "influence": influence.samples,
    "cosine": cosine.samples,
    "contrast": contrast.samples,
    "norm": norm.samples,
    "random": random.samples,
}

FEATURE_RANKERS: dict[str, Ranker] = {
    "influence": influence.features,
    "pursuit": pursuit.features,
    "cosine": cosine.features,
    "contrast": contrast.features,
    "norm": norm.features,
    "random": random.features,
}

__all__ = ["FEATURE_RANKERS", "SAMPLE_RANKERS", "Evidence", "Ranker"]
