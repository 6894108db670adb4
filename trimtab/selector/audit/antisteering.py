"""Anti-steering: pairs that a vector moves the wrong way, and vectors that move fewer of them.

A pair's steerability is the slope of its margin over the multiplier; Tan et al. (2024),
https://arxiv.org/abs/2407.12404. The training pairs that cause a negative one have the lowest
attribution towards the margins of the pairs concerned. Remedies drop or re-weight them; which one
is chosen on other pairs than those that it is reported on.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trimtab.selector.intervals import Estimate, rate_estimate

DROPPED = (0.05, 0.1, 0.2, 0.3, 0.5)  # shares of the training pairs, worst first
STRENGTHS = (0.5, 1.0, 2.0)  # of re-weighting, per standard deviation of the scores
KEPT = 0.95  # of the full vector's mean slope: a vector that does nothing harms nobody

Floats = NDArray[np.float64]


def slopes(effects: Callable[[Tensor], Floats], added: Tensor) -> Floats:
    """Return each pair's slope of margin over the multipliers -1, 0 and 1, `(n_pairs,)`.

    Args:
        effects: every pair's effect under an added vector.
        added: the vector `(d_model,)` at multiplier 1.
    """
    return (effects(added) - effects(-added)) / 2


def wrong_way(found: Floats, groups: Sequence[str]) -> Estimate:
    """Estimate the share of pairs `(n,)`, of these groups, with a negative slope."""
    return rate_estimate((found < 0).astype(float), groups)


def remedies(scores: Tensor) -> dict[str, Tensor]:
    """Return the weights of the training pairs, `(n,)` that sum to 1, of every remedy.

    Args:
        scores: attribution towards the pairs that go the wrong way, `(n,)`.
    """
    n = len(scores)
    order = scores.argsort(stable=True)
    weights = {}
    for share in DROPPED:
        kept = torch.ones(n, dtype=torch.float64)
        kept[order[: round(share * n)]] = 0.0
        weights[f"drop {share:.0%}"] = kept
    z = (scores - scores.mean()).double() / scores.std(correction=0).double().clamp_min(1e-12)
    for strength in STRENGTHS:
        weights[f"re-weight {strength:g}"] = (strength * z).exp()
    return {name: w / w.sum() for name, w in weights.items()}


def choose_remedy(full: Floats, found: Mapping[str, Floats]) -> str:
    """Return the remedy that leaves fewest pairs with a negative slope; "none" where none helps.

    A remedy must keep `KEPT` of the full vector's mean slope; of equals the steepest is taken.

    Args:
        full: slopes under the full vector, `(n_pairs,)`.
        found: the same under each remedy's vector.
    """
    name, best = "none", full
    for other, candidate in found.items():
        if candidate.mean() < KEPT * full.mean():
            continue
        fewer = int((candidate < 0).sum()) - int((best < 0).sum())
        if fewer < 0 or (fewer == 0 and name != "none" and candidate.mean() > best.mean()):
            name, best = other, candidate
    return name
