"""Which way finds the features that matter, with how few of them?

The vector of all feature differences stands at the damage budget. Each way orders its features on
the tuning pairs. On held-out pairs, at that one strength,

- faithfulness: the effect of the first k features alone, as a share of the whole vector's;
- completeness: what is lost when they alone are left out, as the same share.

Then the first features are set to zero in the unsteered model, beside as many random ones that
fire: a feature that carries the behaviour is missed there as well.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from experiments.feature_discovery.orders import ORDERS, Found, terms_at_budget
from experiments.laboratory import Laboratory
from experiments.record import Row, say
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

    kept: tuple[int, ...] = (2, 8, 32, 128)
    tested: int = 48
    ablated: int = 16
    draws: int = 3


SIZES = Sizes()


def study(laboratory: Laboratory) -> dict[str, list[Row]]:
    """Measure everything, and return the tables."""
    sizes: Sizes = laboratory.sizes
    curves: list[Row] = []
    areas: list[Row] = []
    ablations: list[Row] = []
    for subject in laboratory.subjects():
        found = terms_at_budget(subject, sizes.tested, laboratory.config.seed)
        orders = {}
        for way, find in ORDERS.items():
            say(f"{subject.name}: {way}")
            orders[way] = find(found)
        for way, order in orders.items():
            say(f"{subject.name}: first features by {way}")
            points, area = _curve(found, way, order, sizes)
            curves += points
            areas.append(area)
        ablations += _ablations(found, orders, laboratory)
    return {"areas": areas, "curves": curves, "ablations": ablations}


def _curve(found: Found, way: str, order: list[int], sizes: Sizes) -> tuple[list[Row], Row]:
    """Return a row a number of features, and one of their means."""
    subject = found.subject
    whole = found.terms.sum(0)
    full = subject.effects(whole)
    rows, alone, lost = [], [], []
    for k in sizes.kept:
        some = found.terms[order[:k]].sum(0)
        alone.append(subject.effects(some))
        lost.append(full - subject.effects(whole - some))
        rows.append(
            {"behavior": subject.name, "way": way, "features": k}
            | _shares(subject.groups, full, alone[-1], lost[-1])
        )
    means = [np.mean(values, axis=0) for values in (alone, lost)]
    return rows, {"behavior": subject.name, "way": way} | _shares(subject.groups, full, *means)


def _shares(
    groups: list[str],
    full: NDArray[np.float64],
    alone: NDArray[np.float64],
    lost: NDArray[np.float64],
) -> Row:
    what = "the whole vector's effect"
    return {
        "faithfulness": ratio_estimate(alone, full, groups, what=what),
        "completeness": ratio_estimate(lost, full, groups, what=what),
    }


def _ablations(found: Found, orders: dict[str, list[int]], laboratory: Laboratory) -> Iterator[Row]:
    """Yield what setting features to zero does to the unsteered model's held-out margin."""
    subject, sizes = found.subject, laboratory.sizes
    generator = torch.Generator().manual_seed(laboratory.config.seed)
    sets = {way: [order[: sizes.ablated]] for way, order in orders.items() if way != "random"}
    sets["random"] = [
        torch.randperm(len(found.features), generator=generator)[: sizes.ablated].tolist()
        for _ in range(sizes.draws)
    ]
    for way, draws in sets.items():
        say(f"{subject.name}: without the first features by {way}")
        effects = []
        for positions in draws:
            features = [found.features[i] for i in positions]

            def measure(features: list[int] = features) -> list[float]:
                change = FeatureClamp(laboratory.sae, dict.fromkeys(features, 0.0)).edit(1.0)
                assert change is not None
                return [float(x) for x in subject.report.effects(change)]

            key = ("ablated", subject.name, features)
            effects.append(subject.bench.journal.once(key, measure))
        change = mean_estimate(np.array(effects).T, subject.groups)
        yield {"behavior": subject.name, "way": way, "features": sizes.ablated, "change": change}
