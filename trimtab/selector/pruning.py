"""Iterative pruning: drop what is least useful, measure, rank again, and keep the whole curve.

A vector is a sum of terms, one a sample or one a feature. At equal damage its effect is, to first
order, that of its direction: the cosine of its angle to the target's gradient. Each step drops the
terms whose removal raises that cosine most (or lowers it least), ranks what is left anew, and at a
few sizes the vector is measured for real.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class CurvePoint:
    """What is left at one size, and what it does: the target's effect, and that over the full's."""

    kept: tuple[int, ...]
    effect: float
    faithfulness: float | None


def usefulness(terms: Tensor, gradient: Tensor) -> Tensor:
    """Return how fast the cosine of sum and gradient grows with each term, `(k,)`, over its value.

    Args:
        terms: `(k, d_model)`.
        gradient: `(d_model,)`.
    """
    total = terms.sum(0)
    along = (gradient @ total).clamp_min(1e-9 * gradient.norm() * total.norm() + 1e-30)
    return terms @ gradient / along - terms @ total / (total @ total).clamp_min(1e-30)


def drop_order(terms: Tensor, gradient: Tensor, *, at_once: float = 0.02) -> list[int]:
    """Return indices of terms `(k, d_model)` in the order in which they are dropped, last the best.

    At most the share `at_once` of what is left goes between two rankings.
    """
    left = torch.arange(len(terms))
    order: list[int] = []
    while len(left) > 1:
        count = max(1, int(at_once * len(left)))
        worst = usefulness(terms[left], gradient).argsort()[:count]
        order.extend(left[worst].tolist())
        keep = torch.ones(len(left), dtype=torch.bool)
        keep[worst] = False
        left = left[keep]
    return order + left.tolist()


def prune(
    terms: Tensor,
    gradient: Tensor,
    measure: Callable[[tuple[int, ...]], float],
    sizes: Sequence[int],
    *,
    full_effect: float,
    tolerance: float,
) -> list[CurvePoint]:
    """Measure ever smaller remainders until one keeps less than `tolerance` of the full effect.

    Args:
        terms: `(k, d_model)`, one a sample or feature.
        gradient: `(d_model,)` of the target's effect.
        measure: the target's effect at equal damage of a vector made of these indices.
        sizes: how many terms to measure at, descending; sizes above k are passed over.
        full_effect: effect of the full vector; faithfulness is None where it is not positive.
        tolerance: the share of it at which pruning stops; the point that fails is kept, too.
    """
    order = drop_order(terms, gradient)
    curve: list[CurvePoint] = []
    for size in sizes:
        if not 1 <= size <= len(order):
            continue
        kept = tuple(sorted(order[-size:]))
        effect = measure(kept)
        faithfulness = effect / full_effect if full_effect > 0 else None
        curve.append(CurvePoint(kept, effect, faithfulness))
        if faithfulness is not None and faithfulness < tolerance:
            break
    return curve


def sizes_down_from(count: int, *, shrink: float = 0.6) -> list[int]:
    """Return sizes from `count` down to 1, each about `shrink` of the one before."""
    sizes = [count]
    while sizes[-1] > 1:
        sizes.append(min(sizes[-1] - 1, max(1, round(shrink * sizes[-1]))))
    return sizes
