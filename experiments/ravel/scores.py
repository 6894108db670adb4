"""Cause, isolation, and what sums them up, with intervals over base entities."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from experiments.record import Row
from trimtab.selector.intervals import (
    MIN_GROUPS,
    Estimate,
    resampled_means,
    share_estimate,
    tails,
)

Floats = NDArray[np.float64]

ROUNDING = 1e-12


class Answers(NamedTuple):
    """What the prompts of one or several attributes became, `(n,)` each.

    Attributes:
        right: share of draws in which the answer is the one that should come.
        nats: change of the odds of the source's value against the base's.
        entities: the base of each.
    """

    right: Floats
    nats: Floats
    entities: Sequence[str]


class Measured(NamedTuple):
    """An interchange for one attribute: prompts of that attribute, and of all others."""

    own: Answers
    others: Answers


def scores(measured: Sequence[Measured], seed: int) -> Row:
    """Return the estimates of one attribute, or of several, averaged.

    Whole entities are drawn, of all prompts at once. Where every draw says the same, a bootstrap
    would claim certainty: Wilson's interval of so many entities stands in for it, and for mean and
    product what the bounds of cause and isolation come to.

    Args:
        measured: an interchange for each attribute.
        seed: of the bootstrap.

    Returns:
        `cause` and `isolation`: shares of right answers; their `mean` and `product`, made for each
        attribute before they are averaged; `graded` and `graded_others`, nats.
    """
    answers = [part for one in measured for part in one]
    entities = [entity for part in answers for entity in part.entities]
    columns = np.zeros((len(entities), 3 * len(answers)))  # of each part: rows, right, nats
    first = 0
    for i, part in enumerate(answers):
        rows = slice(first, first + len(part.right))
        columns[rows, 3 * i : 3 * i + 3] = np.stack([np.ones(len(part.right)), *part[:2]], axis=1)
        first = rows.stop
    values = _of(columns.mean(0, keepdims=True))
    if len(set(entities)) < MIN_GROUPS:
        why = f"an interval needs {MIN_GROUPS} entities or more"
        return {name: Estimate(float(value[0]), reason=why) for name, value in values.items()}
    drawn = _of(resampled_means(columns, entities, seed))
    n = len(set(entities))
    row: Row = {}
    for name in ("cause", "isolation"):
        wilson = share_estimate(round(float(values[name][0]) * n), n)
        row[name] = _estimate(values[name], drawn[name], n, (wilson.low, wilson.high))
    low, high = ([getattr(one, end) for one in row.values()] for end in ("low", "high"))
    certain = {
        "mean": (sum(low) / 2, sum(high) / 2),
        "product": (low[0] * low[1], high[0] * high[1]),
    }
    for name in ("mean", "product", "graded", "graded_others"):
        row[name] = _estimate(values[name], drawn[name], n, certain.get(name))
    return row


def _of(means: Floats) -> dict[str, Floats]:
    """The scores of draws of means `(n, columns)`, `(n,)`; NaN where one lacks some prompts."""
    count, right, nats = np.moveaxis(means.reshape(len(means), -1, 2, 3), 3, 0)
    with np.errstate(invalid="ignore"):
        right, nats = right / count, nats / count
    cause, isolation = right[..., 0], right[..., 1]
    found = {
        "cause": cause,
        "isolation": isolation,
        "mean": (cause + isolation) / 2,
        "product": cause * isolation,
        "graded": nats[..., 0],
        "graded_others": nats[..., 1],
    }
    return {name: each.mean(1) for name, each in found.items()}


def _estimate(
    value: Floats, drawn: Floats, n: int, certain: tuple[float | None, float | None] | None
) -> Estimate:
    """Bound a value `(1,)` by draws of `n` entities, or by `certain` where they say the same."""
    drawn = drawn[~np.isnan(drawn)]
    if certain is not None and np.ptp(drawn) < ROUNDING:
        return Estimate(float(value[0]), *certain)
    low, high = np.quantile(drawn, tails(n))
    return Estimate(float(value[0]), float(low), float(high))
