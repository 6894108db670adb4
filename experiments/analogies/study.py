"""Do the features of one behaviour steer another?

1. Transfer: every behaviour's dense vector, and its vector of few features, on every other's
   held-out margin and replies, beside as many random features of the first, and no vector at all.
2. Prediction: does what is known of two behaviours (likeness of vectors, shared features,
   attribution) rank the transfers? Spearman's correlation; whole behaviours are drawn.
3. Help: a behaviour of which there are few pairs, and others of which there are many. The helper is
   the one whose vector is most like that of the few. Added are its features, or two helpers', or
   random ones of their features; the few pairs' differences are taken on its features alone, or on
   random ones; or its feature differences go through a map that the few pairs and their likest ones
   teach, or the same ones exchanged. Beside each, the few pairs alone. Behaviours of unpaired texts
   have no part: a text's difference is one from the mean of all, so that few of them are not few.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from experiments.analogies.maps import MAPS, matched_pairs
from experiments.analogies.transfer import PREDICTORS, Cell, rank_correlation
from experiments.checked import Count
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

    features: Count = 32
    few: Count = 4
    draws: Count = 3


SIZES = Sizes()


def study(laboratory: Laboratory) -> dict[str, list[Row]]:
    """Measure everything, and return the tables."""
    sizes, seed = laboratory.sizes, laboratory.config.seed
    subjects = list(laboratory.subjects())
    transfers: list[Row] = []
    for other in subjects:
        row: Row = {"from": "", "to": other.name, "vector": "unsteered"}
        transfers.append(row | {"behavior_rate": other.rate([None])})
        for one in subjects:
            what = f"{one.name} on {other.name}"
            transfers += laboratory.rows(what, _transfer(one, other, sizes, seed))
    predictions = [
        row
        for vector in ("dense", "features")
        for row in _predictions(subjects, vector, transfers, sizes, seed)
    ]
    paired = [subject for subject in subjects if subject.paired]
    helped = [
        row
        for other in paired
        for row in laboratory.rows(
            f"{other.name}, of few pairs", _helped(other, paired, laboratory)
        )
        if len(paired) > 1
    ]
    return {"transfers": transfers, "predictions": predictions, "helped": helped}


def _transfer(one: Subject, other: Subject, sizes: Sizes, seed: int) -> Iterator[Row]:
    """Yield what the vectors of one behaviour do to another, or to itself."""
    say(f"{one.name} on {other.name}")
    own = one.strongest_features(sizes.features)
    vectors = {
        "dense": [one.dense],
        "features": [_of(one, own)],
        "random features": [_of(one, some) for some in _random(one, sizes, seed)],
    }
    for name, directions in vectors.items():
        yield {
            "from": one.name,
            "to": other.name,
            "vector": name,
            "effect": other.effect(directions),
            "behavior_rate": other.rate(directions),
        }


def _predictions(
    subjects: Sequence[Subject],
    vector: str,
    transfers: Sequence[Row],
    sizes: Sizes,
    seed: int,
) -> Iterator[Row]:
    """Yield a row a predictor, of the transfers of one kind of vector."""
    measured: dict[Cell, float] = {
        (row["from"], row["to"]): row["effect"].value
        for row in transfers
        if row["vector"] == vector
    }
    for name, predict in PREDICTORS.items():
        predicted = {
            (one.name, other.name): predict(one, other, sizes.features)
            for one in subjects
            for other in subjects
            if one is not other and (one.name, other.name) in measured
        }
        estimate, chance = rank_correlation(predicted, measured, seed)
        yield {
            "vector": vector,
            "predictor": name,
            "cells": len(predicted),
            "spearman": estimate,
            "chance": chance,
        }


def _helped(other: Subject, subjects: Sequence[Subject], laboratory: Laboratory) -> Iterator[Row]:
    """Yield what other behaviours add to a behaviour of few pairs."""
    say(f"{other.name}, of few pairs")
    sizes: Sizes = laboratory.sizes
    few = tuple(range(sizes.few))
    own = compose(other.parts, Choice(few))
    alone = other.effects(other.bench.at_budget(own))

    def like(one: Subject) -> float:
        return float(torch.nn.functional.cosine_similarity(one.dense, own, dim=0))

    first, *rest = sorted((s for s in subjects if s is not other), key=like, reverse=True)
    features = first.strongest_features(sizes.features)
    seed = laboratory.config.seed
    drawn = _random(first, sizes, seed)

    def plus(*added: Tensor) -> Tensor:
        """The few pairs' vector and others, each at the budget by itself."""
        return torch.stack([other.bench.at_budget(one) for one in (own, *added)]).sum(0)

    ways: dict[str, list[Tensor]] = {
        "its few pairs": [own],
        "all its pairs": [other.dense],
        "with the helper's features": [plus(_of(first, features))],
        "with random features of the helper": [plus(_of(first, some)) for some in drawn],
    }
    if rest:
        second = rest[0]
        strongest = second.strongest_features(sizes.features)
        ways["with two helpers' features"] = [plus(_of(first, features), _of(second, strongest))]
        ways["with random features of two helpers"] = [
            plus(_of(first, one), _of(second, another))
            for one, another in zip(drawn, _random(second, sizes, seed), strict=True)
        ]
    differences = {
        "on the helper's features": [features],
        "on random features of the helper": drawn,
    }
    for way, choices in differences.items():
        found = [_of(other, some, few) for some in choices]
        ways[way] = [direction for direction in found if direction.norm() > 0]
    assert first.parts.features is not None and other.parts.features is not None
    assert other.parts.decoder is not None
    x = first.parts.features[matched_pairs(first, other, sizes.few)].double().numpy()
    y = other.parts.features[list(few)].double().numpy()
    mean = first.parts.features.mean(0).double().numpy()
    rng = np.random.default_rng(seed)
    matches = {"": [x], ", pairs exchanged": [rng.permutation(x) for _ in range(sizes.draws)]}
    for way, mapped in MAPS.items():
        for how, taught in matches.items():
            found = [torch.from_numpy(mapped(one, y, mean)).float() for one in taught]
            ways[way + how] = [one @ other.parts.decoder for one in found]
    for way, directions in ways.items():
        if not directions:
            continue
        effects = [other.effects(other.bench.at_budget(one)) for one in directions]
        found_effects = np.stack(effects, axis=1)
        yield {
            "behavior": other.name,
            "way": way,
            "helper": "" if way in ("its few pairs", "all its pairs") else first.name,
            "effect": mean_estimate(found_effects, other.groups),
            "beyond_few": mean_estimate(found_effects - alone[:, None], other.groups),
        }


def _of(
    subject: Subject, features: tuple[int, ...], samples: tuple[int, ...] | None = None
) -> Tensor:
    """Return the mean differences of some features, over some samples or all, `(d_model,)`."""
    everyone = tuple(range(subject.parts.n_samples))
    return compose(subject.parts, Choice(samples or everyone, features))


def _random(subject: Subject, sizes: Sizes, seed: int) -> list[tuple[int, ...]]:
    """Draw features among those that differ in a behaviour, as many as its small vector has."""
    assert subject.parts.features is not None
    fired = subject.parts.features.abs().sum(0).nonzero().flatten()
    generator = torch.Generator().manual_seed(seed)
    orders = (torch.randperm(len(fired), generator=generator) for _ in range(sizes.draws))
    return [tuple(fired[order[: sizes.features]].tolist()) for order in orders]
