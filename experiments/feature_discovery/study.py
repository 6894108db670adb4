"""Which way finds the features that matter, with how few of them?

The vector of all feature differences stands at the damage budget. Each way orders its features on
the tuning pairs. On held-out pairs

- faithfulness: the effect of the first k features alone, brought to equal damage, as a share of the
  whole vector's;
- completeness: what is lost when they alone are left out at that one strength, as the same share.

Then the model is not steered at all: features that fire more on the positive side are set to zero,
the first ones of each way, which should cost the positive side some of its likelihood. Beside them
random ones of the same sign, as many as have terms as long together.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from experiments.checked import Count
from experiments.controls import as_strong
from experiments.feature_discovery.orders import (
    ATTRIBUTION,
    ORDERS,
    Found,
    random_orders,
    terms_at_budget,
)
from experiments.laboratory import Laboratory
from experiments.record import Row, say
from experiments.subject import Subject
from trimtab.errors import TrimtabError, VectorError
from trimtab.model.sae import SAE
from trimtab.selector.intervals import mean_estimate, ratio_estimate
from trimtab.steering.clamp import FeatureClamp


@dataclass(frozen=True)
class Sizes:
    """What is measured.

    Attributes:
        kept: numbers of features.
        tested: features that are removed and measured one by one.
        ablated: features that are set to zero in the model.
        draws: of random features to set to zero.
    """

    kept: tuple[Count, ...] = (2, 8, 32, 128)
    tested: Count = 48
    ablated: Count = 16
    draws: Count = 3


SIZES = Sizes()
WHAT = ("faithfulness", "completeness")
RANDOM = "random"


def study(laboratory: Laboratory) -> dict[str, list[Row]]:
    """Measure everything, and return the tables."""
    curves: list[Row] = []
    areas: list[Row] = []
    ablations: list[Row] = []
    for subject in laboratory.subjects():
        try:
            found = terms_at_budget(subject, laboratory.sizes.tested, laboratory.config.seed)
        except TrimtabError as error:
            laboratory.fail(subject.name, error)
            continue
        orders = {}
        for way, find in ORDERS.items():
            say(f"{subject.name}: {way}")
            orders[way] = find(found)
        measured = dict(_measurements(found, orders, laboratory.sizes))
        full = subject.effects(found.terms.sum(0))
        curves += _curves(subject, full, measured, laboratory.sizes.kept)
        areas += _areas(subject, full, measured)
        ablations += laboratory.rows(subject.name, _ablations(found, orders, laboratory))
    return {"areas": areas, "curves": curves, "ablations": ablations}


class Measured(NamedTuple):
    """Effects on the held-out pairs, `(n, draws)`: of features alone, and what is lost without."""

    alone: NDArray[np.float64]
    lost: NDArray[np.float64]


def _measurements(
    found: Found, orders: Mapping[str, list[int]], sizes: Sizes
) -> Iterator[tuple[str, list[Measured]]]:
    """Yield, a way, what its first features do, by their number; random ones first."""
    full = found.subject.effects(found.terms.sum(0))
    ways = {RANDOM: random_orders(found, sizes.draws)} | {w: [o] for w, o in orders.items()}
    for way, draws in ways.items():
        say(f"{found.subject.name}: first features by {way}")
        yield way, [_measured(found, full, draws, k) for k in sizes.kept]


def _curves(
    subject: Subject,
    full: NDArray[np.float64],
    measured: Mapping[str, list[Measured]],
    kept: Sequence[int],
) -> Iterator[Row]:
    """Yield a row a way and number of features."""
    for way, by_count in measured.items():
        for k, one in zip(kept, by_count, strict=True):
            name: Row = {"behavior": subject.name, "way": way, "features": k}
            yield name | _shares(subject.groups, full, one)


def _areas(
    subject: Subject, full: NDArray[np.float64], measured: Mapping[str, list[Measured]]
) -> Iterator[Row]:
    """Yield a row a way, of the means over the numbers of features, beside two other ways."""
    means = {
        way: Measured(*(np.mean(values, axis=0) for values in zip(*by_count, strict=True)))
        for way, by_count in measured.items()
    }
    for way, one in means.items():
        row: Row = {"behavior": subject.name, "way": way} | _shares(subject.groups, full, one)
        for name, other in {"random": RANDOM, "attribution": ATTRIBUTION}.items():
            for what, values, control in zip(WHAT, one, means[other], strict=True):
                if way not in (RANDOM, other):
                    difference = mean_estimate(values - control, subject.groups)
                    row[f"{what}_beyond_{name}"] = difference
        yield row


def _measured(
    found: Found, full: NDArray[np.float64], draws: Sequence[list[int]], k: int
) -> Measured:
    subject = found.subject
    whole = found.terms.sum(0)
    alone, lost = [], []
    for order in draws:
        some = found.terms[order[:k]].sum(0)
        try:
            alone.append(subject.effects(subject.bench.at_budget(some)))
        except VectorError:  # these few move nothing, however strong
            alone.append(np.zeros_like(full))
        lost.append(full - subject.effects(whole - some))
    return Measured(np.stack(alone, axis=1), np.stack(lost, axis=1))


def _shares(groups: list[str], full: NDArray[np.float64], measured: Measured) -> Row:
    what = "the whole vector's effect"
    return {
        name: ratio_estimate(values.mean(1), full, groups, what=what)
        for name, values in zip(WHAT, measured, strict=True)
    }


def _ablations(
    found: Found, orders: Mapping[str, list[int]], laboratory: Laboratory
) -> Iterator[Row]:
    """Yield what setting features to zero does to the unsteered model's held-out margin."""
    subject, sizes = found.subject, laboratory.sizes
    positive = found.positive
    lengths = np.where(positive, found.terms.norm(dim=1).numpy(), 0.0)
    for way, order in orders.items():
        say(f"{subject.name}: without the first features by {way}")
        chosen = [i for i in order if positive[i]][: sizes.ablated]
        without = _without(found, laboratory.sae, chosen)[:, None]
        others = as_strong(lengths, chosen, sizes.draws, np.random.default_rng(found.seed))
        control = np.stack([_without(found, laboratory.sae, one) for one in others], axis=1)
        yield {
            "behavior": subject.name,
            "way": way,
            "features": len(chosen),
            "random_features": round(np.mean([len(one) for one in others])),
            "change": mean_estimate(without, subject.groups),
            "as_strong": mean_estimate(control, subject.groups),
            "beyond": mean_estimate(without - control, subject.groups),
        }


def _without(found: Found, sae: SAE, positions: Sequence[int]) -> NDArray[np.float64]:
    """Return what setting features to zero does to every held-out margin, `(n,)`."""
    subject = found.subject
    features = sorted(found.features[i] for i in positions)

    def measure() -> list[float]:
        change = FeatureClamp(sae, dict.fromkeys(features, 0.0)).edit(1.0)
        assert change is not None
        return [float(x) for x in subject.report.effects(change)]

    return np.array(subject.bench.journal.once(("without", subject.name, features), measure))
