"""Linear datamodeling score: do an attribution's sums rank subsets as their effects do?

Park et al. (2023), https://arxiv.org/abs/2303.14186.
"""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from trimtab.selector.intervals import RESAMPLES, Estimate
from trimtab.selector.ranks import MIN_VECTORS, spearman

Floats = NDArray[np.float64]


def predicted(scores: Tensor, masks: NDArray[np.bool_], *, averaged: bool) -> Floats:
    """Return the predicted effect of each subset, `(m,)`, up to an increasing function.

    Args:
        scores: of the parts, `(k,)`.
        masks: the subsets, `(m, k)`.
        averaged: a subset's vector is a mean, so that its scores are averaged, else summed. Of
            subsets of one size, both rank alike.
    """
    sums: Floats = masks @ scores.double().numpy()
    return sums / masks.sum(1) if averaged else sums


def lds(prediction: Floats, effects: Floats, *, seed: int = 0) -> Estimate:
    """Estimate the Spearman correlation of predicted and measured effect over subsets.

    The interval is a bootstrap over subsets, given the pairs that effects were measured on; what
    the choice of pairs adds to the doubt is what `ceiling` is for.

    Args:
        prediction: `(m,)`.
        effects: `(m, n_pairs)`.
        seed: of the bootstrap.
    """
    measured = effects.mean(1)
    if len(measured) < MIN_VECTORS:
        return Estimate(None, reason=f"a rank correlation needs {MIN_VECTORS} vectors or more")
    if np.ptp(prediction) == 0 or np.ptp(measured) == 0:
        return Estimate(None, reason="all predictions, or all measurements, are the same")
    draws = np.random.default_rng(seed).integers(len(measured), size=(RESAMPLES, len(measured)))
    found = spearman(prediction[draws], measured[draws])
    low, high = np.nanquantile(found, [0.025, 0.975])
    return Estimate(float(spearman(prediction, measured)), float(low), float(high))
