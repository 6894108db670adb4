"""Do the features of one behaviour steer another?

1. Transfer: every behaviour's dense vector, and its vector of few features, on every other's
   held-out margin and replies, beside as many random features of the first.
2. Prediction: does what is known of two behaviours (likeness of vectors, shared features,
   attribution) rank the transfers? Spearman's correlation; whole behaviours are drawn.
3. Help: a behaviour of which there are few pairs, and another of which there are many: adding the
   other's vector, or several; its own differences on the other's features alone; the other's
   vector through a map that matched pairs teach. Beside each, its own few pairs alone.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from experiments.analogies.maps import MAPS, matched_pairs
from experiments.analogies.transfer import (
    PREDICTORS,
    Cell,
    rank_correlation,
    strongest_features,
)
from experiments.laboratory import Laboratory
from experiments.record import Row, say
from experiments.subject import Subject
from trimtab.selector.intervals import mean_estimate
from trimtab.selector.parts import Choice, compose


@dataclass(frozen=True)
class Sizes:
    """What is measured.

    Attributes:
        features: that a behaviour's small vector has.
        few: pairs of the behaviour that is helped.
        draws: of random features.
    """

    features: int = 32
    few: int = 4
    draws: int = 3


SIZES = Sizes()


def study(laboratory: Laboratory) -> dict[str, list[Row]]:
    """Measure everything, and return the tables."""
    sizes: Sizes = laboratory.sizes
    subjects = list(laboratory.subjects())
    transfers = [
        row
        for one in subjects
        for other in subjects
        for row in _transfer(one, other, sizes, laboratory.config.seed)
    ]
    measured = {
        vector: {
            (row["from"], row["to"]): row["effect"].value
            for row in transfers
            if row["vector"] == vector
        }
        for vector in ("dense", "features")
    }
    predicted: dict[str, dict[Cell, float]] = {
        name: {
            (one.name, other.name): predict(one, other, sizes.features)
            for one in subjects
            for other in subjects
            if one is not other
        }
        for name, predict in PREDICTORS.items()
    }
    predictions: list[Row] = [
        {
            "vector": vector,
            "predictor": name,
            "cells": len(cells),
            "spearman": rank_correlation(cells, measured[vector], laboratory.config.seed),
        }
        for vector in measured
        for name, cells in predicted.items()
    ]
    helped = [
        row
        for other in subjects
        for row in _helped(other, subjects, predicted["first-order attribution"], sizes)
    ]
    return {"transfers": transfers, "predictions": predictions, "helped": helped}


def _transfer(one: Subject, other: Subject, sizes: Sizes, seed: int) -> Iterator[Row]:
    """Yield what the vectors of one behaviour do to another, or to itself."""
    say(f"{one.name} on {other.name}")
    parts, everyone = one.parts, tuple(range(one.parts.n_samples))
    own = strongest_features(one, sizes.features)
    vectors = {"dense": [one.dense], "features": [compose(parts, Choice(everyone, own))]}
    assert parts.features is not None
    fired = parts.features.abs().sum(0).nonzero().flatten()
    generator = torch.Generator().manual_seed(seed)
    vectors["random features"] = [
        compose(parts, Choice(everyone, tuple(fired[some[: sizes.features]].tolist())))
        for some in (torch.randperm(len(fired), generator=generator) for _ in range(sizes.draws))
    ]
    for name, directions in vectors.items():
        row: Row = {"from": one.name, "to": other.name, "vector": name}
        row["effect"] = other.effect(directions)
        if len(directions) == 1:
            row["behavior_rate"] = other.rate(directions[0])
        yield row


def _helped(
    other: Subject, subjects: list[Subject], predicted: dict[Cell, float], sizes: Sizes
) -> Iterator[Row]:
    """Yield what other behaviours add to a behaviour of few pairs."""
    say(f"{other.name}, of few pairs")
    helpers = sorted(
        (one for one in subjects if one is not other),
        key=lambda one: -predicted[one.name, other.name],
    )
    few = tuple(range(sizes.few))
    own = compose(other.parts, Choice(few))
    alone = other.effects(other.bench.at_budget(own))

    def row(way: str, helper: str, direction: Tensor) -> Row:
        found = other.effects(other.bench.at_budget(direction))
        return {
            "behavior": other.name,
            "way": way,
            "helper": helper,
            "effect": mean_estimate(found, other.groups),
            "beyond_few": mean_estimate(found - alone, other.groups),
        }

    yield row("its own few pairs", "", own)
    yield row("all its own pairs", "", other.dense)
    lengths = {one.name: one.bench.at_budget(one.dense) for one in helpers}
    budget = other.bench.at_budget(own)
    for count in (1, 2):
        added = torch.stack([budget, *(lengths[one.name] for one in helpers[:count])]).sum(0)
        yield row(f"with {count} added", ", ".join(one.name for one in helpers[:count]), added)
    best = helpers[0]
    shared = Choice(few, _fired(other, few, strongest_features(best, sizes.features)))
    yield row("its own, on the helper's features", best.name, compose(other.parts, shared))
    pairs = matched_pairs(best, other)[: sizes.few]
    x, y = best.parts.residual[[a for a, _ in pairs]], other.parts.residual[[b for _, b in pairs]]
    yield row("its own matched pairs", best.name, y.mean(0))
    for way, mapped in MAPS.items():
        yield row(way, best.name, mapped(x, y, best.dense))


def _fired(
    subject: Subject, samples: tuple[int, ...], features: tuple[int, ...]
) -> tuple[int, ...]:
    """Return those of the features that differ in the samples; all where none does."""
    assert subject.parts.features is not None
    differs = subject.parts.features[list(samples)].mean(0)[list(features)] != 0
    kept = tuple(np.array(features)[differs.numpy()].tolist())
    return kept or features
