"""Iterative pruning: drop what is least useful, measure, rank again, and keep the whole curve.

A vector is a sum of terms, one a sample or one a feature. At equal damage its effect is, to first
order, that of its direction: the cosine of its angle to the target's gradient. Each step drops the
terms whose removal raises that cosine most (or lowers it least), ranks what is left anew, and at a
few sizes the vector is measured for real. Samples and features can be pruned one kind after the
other, or together. The gradient stays the target's own, averaged along the dense vector: one taken
anew at each size costs three passes more a point and found nothing better where it was tried.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trimtab.errors import VectorError
from trimtab.selector.parts import Choice, Parts, terms

AT_ONCE = 0.02  # of what is left of a kind goes between two rankings, and never less than one
SHRINK = 0.4  # of the receipt's rows is left from one measurement of joint pruning to the next


@dataclass(frozen=True)
class CurvePoint:
    """What is left at one size, and what it does: the target's effect, and that over the full's."""

    kept: tuple[int, ...]
    effect: float
    faithfulness: float | None


def usefulness(terms: Tensor, gradient: Tensor) -> Tensor:
    """Return how fast the cosine of sum and gradient grows with each term's weight, `(k,)`.

    Args:
        terms: `(k, d_model)`.
        gradient: `(d_model,)`.
    """
    total = terms.sum(0)
    length = total.norm().clamp_min(1e-15)
    unit = total / length
    along = gradient / gradient.norm().clamp_min(1e-15)
    slopes: Tensor = (terms @ along - (unit @ along) * (terms @ unit)) / length
    return slopes


def drop_order(terms: Tensor, gradient: Tensor) -> list[int]:
    """Return indices of terms `(k, d_model)` in the order in which they are dropped, last the best.

    At most the share `AT_ONCE` of what is left goes between two rankings.
    """
    left = torch.arange(len(terms))
    order: list[int] = []
    while len(left) > 1:
        count = max(1, int(AT_ONCE * len(left)))
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
        measure: the target's effect at equal damage of a vector made of these indices; a size at
            which it raises VectorError is passed over.
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
        try:
            effect = measure(kept)
        except VectorError:  # nothing brings what is left to the damage budget
            continue
        faithfulness = effect / full_effect if full_effect > 0 else None
        curve.append(CurvePoint(kept, effect, faithfulness))
        if faithfulness is not None and faithfulness < tolerance:
            break
    return curve


def sizes_down_from(count: int) -> list[int]:
    """Return sizes from `count` down to 1, each about 0.6 of the one before."""
    sizes = [count]
    while sizes[-1] > 1:
        sizes.append(min(sizes[-1] - 1, max(1, round(0.6 * sizes[-1]))))
    return sizes


def prune_jointly(
    parts: Parts,
    start: Choice,
    gradient: Tensor,
    refit: Callable[[Choice], Choice] = lambda choice: choice,
    *,
    shrink: float = SHRINK,
) -> Iterator[Choice]:
    """Yield ever smaller choices, samples and features pruned together, down to one of each.

    The next to go is the part, of either kind, whose loss buys the most smallness: what the cosine
    to the gradient loses by it, over the share of its kind that it is. The number of the receipt's
    rows, samples times features, falls by `shrink` from one yield to the next.

    Args:
        parts: what vectors are made of.
        start: what is left at first; it is yielded too.
        gradient: `(d_model,)` of the target's effect.
        refit: gives what is yielded other coefficients; it may drop features.
        shrink: share of the rows that is left.
    """
    choice = start
    yield choice
    while _n_rows(choice) > 1:
        rows = max(shrink * _n_rows(choice), 1.0)
        while _n_rows(choice) > rows:
            choice = _drop_cheapest(parts, choice, gradient)
        choice = refit(choice)
        yield choice


def _drop_cheapest(parts: Parts, choice: Choice, gradient: Tensor) -> Choice:
    """Return the choice without its cheapest samples, or without its cheapest features."""
    samples, features = terms(parts, choice)
    lost = {"samples": _lost(samples, gradient), "features": _lost(features, gradient)}
    prices = {}
    for kind, losses in lost.items():
        count = len(losses)
        if count < 2:
            continue
        worst = losses.argsort()[: max(1, int(AT_ONCE * count))]
        prices[kind] = (float(losses[worst].mean()) * count, set(worst.tolist()))
    kind = min(prices, key=lambda kind: prices[kind][0])
    gone = prices[kind][1]
    if kind == "samples":
        kept = tuple(s for i, s in enumerate(choice.samples) if i not in gone)
        return Choice(kept, choice.features, choice.coefficients)
    assert choice.features is not None
    left = [i for i in range(len(choice.features)) if i not in gone]
    sizes = choice.coefficients
    return Choice(
        choice.samples,
        tuple(choice.features[i] for i in left),
        None if sizes is None else tuple(sizes[i] for i in left),
    )


def _lost(terms: Tensor, gradient: Tensor) -> Tensor:
    """Return what the cosine of sum and gradient loses without each term, `(k,)`, exactly.

    Args:
        terms: `(k, d_model)`.
        gradient: `(d_model,)`.
    """
    total = terms.sum(0)
    without = total - terms
    whole = torch.cosine_similarity(total, gradient, dim=0)
    return whole - torch.cosine_similarity(without, gradient[None], dim=1)


def _n_rows(choice: Choice) -> int:
    return len(choice.samples) * (1 if choice.features is None else len(choice.features))
