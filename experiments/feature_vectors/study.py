"""Does a vector of SAE features do what the dense one does? How few features; where; together?

1. Decompositions: the dense mean difference written as 4, 16, 64 features in four ways, beside the
   mean difference of all features; each by its likeness to the dense vector, its damage where that
   vector stands at the budget, and its effect and behaviour rate at equal damage.
2. Layers: the dense vector of other layers, the feature vector where there is an SAE, and a random
   direction at each.
3. Together: two behaviours' vectors, each at the budget by itself, at one layer or the second at a
   later one. Interference is what both do to the first behaviour, less what each does to it alone:
   zero where effects add up. Beside it, a random direction in the second one's place.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from experiments.checked import Count, Whole
from experiments.controls import random_directions
from experiments.feature_vectors.decompositions import DECOMPOSITIONS
from experiments.laboratory import Laboratory
from experiments.record import Row, say
from experiments.subject import Subject
from trimtab.errors import SelectionError, VectorError
from trimtab.model.families import find_module
from trimtab.model.hook_points import HookPoint
from trimtab.model.hooks import edit
from trimtab.model.sae import load_sae
from trimtab.selector.intervals import Estimate, mean_estimate
from trimtab.selector.parts import compose, everything
from trimtab.selector.scales import digest


@dataclass(frozen=True)
class Sizes:
    """What is measured.

    Attributes:
        atoms: numbers of features that a decomposition may use.
        layers: whose residual is read and steered, beside those of SAEs.
        later: layer at which a second vector is added; it must be beyond the SAE's.
        draws: of a random direction.
    """

    atoms: tuple[Count, ...] = (4, 16, 64)
    layers: tuple[Whole, ...] = (3, 7, 11, 19, 23, 27)
    later: Whole = 23
    draws: Count = 3


SIZES = Sizes()


def study(laboratory: Laboratory) -> dict[str, list[Row]]:
    """Measure everything, and return the tables.

    Raises:
        SelectionError: a second vector would not stand at a later layer than the SAE.
        ModelError: there is no such layer, or no such SAE.
    """
    sizes: Sizes = laboratory.sizes
    if sizes.later <= laboratory.sae.hook_point.layer:
        raise SelectionError(
            f"sizes.feature_vectors: later is {sizes.later}, and must be beyond the SAE's layer, "
            f"{laboratory.sae.hook_point.layer}"
        )
    saes = [load_sae(spec, laboratory.model) for spec in laboratory.config.saes]
    known = {sae.hook_point: sae for sae in saes if sae is not None}
    later = HookPoint(sizes.later, "hook_resid_post")
    bare = {HookPoint(layer, "hook_resid_post") for layer in sizes.layers} | {later}
    for point in bare:  # before anything is measured
        find_module(laboratory.model.module, point)
    random = random_directions(laboratory.model.d_model, sizes.draws, laboratory.config.seed)
    subjects = list(laboratory.subjects())
    decomposed: list[Row] = []
    layered: list[Row] = []
    for one in subjects:
        decomposed += laboratory.rows(one.name, decompositions(laboratory, one, random))
        layered += laboratory.rows(one.name, at_layer(one, random))
    stores = laboratory.stores_at([*known.values(), *sorted(bare - set(known))])
    at_later: dict[str, Subject] = {}
    for point, store in sorted(stores.items()):
        say(f"layer {point.layer}")
        for one in subjects:
            subject = laboratory.subject(one.name, store, known.get(point))
            layered += laboratory.rows(f"{one.name}, {point}", at_layer(subject, random))
            if point == later:
                at_later[one.name] = subject
    together = [
        row
        for one in subjects
        for row in laboratory.rows(
            f"{one.name} with others", with_others(one, subjects, at_later, random)
        )
    ]
    return {"decompositions": decomposed, "layers": layered, "together": together}


def decompositions(
    laboratory: Laboratory, subject: Subject, random: Sequence[Tensor]
) -> Iterator[Row]:
    """Yield a row a way to write the dense vector, and one of random directions."""
    dense, bench = subject.dense, subject.bench
    length = bench.calibrate(dense).multiplier / float(dense.norm())
    vectors = {
        ("dense", None): dense,
        ("mean feature differences", None): compose(subject.parts, everything(subject.parts)),
    }
    for way, decompose in DECOMPOSITIONS.items():
        for atoms in laboratory.sizes.atoms:
            vectors[way, atoms] = decompose(subject.parts, laboratory.sae, dense, atoms)
    whole = subject.effects(bench.at_budget(dense))
    for (way, atoms), vector in vectors.items():
        say(f"{subject.name}: {way}{'' if atoms is None else f', {atoms} features'}")
        row: Row = {
            "behavior": subject.name,
            "vector": way,
            "features": atoms,
            "cosine": float(torch.nn.functional.cosine_similarity(vector, dense, dim=0)),
            "missing": float((dense - vector).norm() / dense.norm()),
        }
        try:
            added = bench.at_budget(vector)
        except VectorError as error:  # an encoder may see nothing in a vector
            yield row | {"effect": Estimate(None, reason=str(error))}
            continue
        strength = length * float(vector.norm())
        found = subject.effects(added)
        yield row | {
            "damage": bench.divergence(vector, bench.damage, strength, meter="search").mean,
            "effect": mean_estimate(found, subject.groups),
            "beyond_dense": mean_estimate(found - whole, subject.groups),
            "behavior_rate": subject.rate([vector]),
        }
    yield {
        "behavior": subject.name,
        "vector": "random direction",
        "effect": subject.effect(random),
        "behavior_rate": subject.rate(random),
    }
    yield {"behavior": subject.name, "vector": "unsteered", "behavior_rate": subject.rate([None])}


def at_layer(subject: Subject, random: Sequence[Tensor]) -> Iterator[Row]:
    """Yield what a layer's dense vector does, its feature vector and random directions."""
    vectors = {"dense": [subject.dense]}
    if subject.parts.features is not None:
        features = compose(subject.parts, everything(subject.parts))
        vectors["mean feature differences"] = [features]
    vectors["random direction"] = list(random)
    for vector, directions in vectors.items():
        yield {
            "behavior": subject.name,
            "layer": subject.bench.hook_point.layer,
            "vector": vector,
            "effect": subject.effect(directions),
            "behavior_rate": subject.rate(directions),
        }


def with_others(
    one: Subject,
    subjects: Sequence[Subject],
    at_later: Mapping[str, Subject],
    random: Sequence[Tensor],
) -> Iterator[Row]:
    """Yield what a second vector does to a behaviour's own, a row a second vector."""
    own = one.bench.at_budget(one.dense)
    alone = one.effects(own)
    for other in (*subjects, None):
        if other is one:
            continue
        say(f"{one.name} with {'a random direction' if other is None else other.name}")
        here = list(random) if other is None else [other.dense]
        above = list(random) if other is None else [at_later[other.name].dense]
        seconds = [one.bench.at_budget(direction) for direction in here]
        laters = [at_later[one.name].bench.at_budget(direction) for direction in above]
        later = at_later[one.name].bench.hook_point
        by_itself = np.stack([one.effects(second) for second in seconds], axis=1)
        both = np.stack([one.effects(own + second) for second in seconds], axis=1)
        by_itself_later = np.stack([_with_later(one, None, later, x) for x in laters], axis=1)
        both_later = np.stack([_with_later(one, own, later, x) for x in laters], axis=1)
        total = own + seconds[0]
        row: Row = {
            "behavior": one.name,
            "other": "random direction" if other is None else other.name,
            "cosine": float(torch.nn.functional.cosine_similarity(own, seconds[0], dim=0)),
            "damage_of_both": one.bench.divergence(
                total, one.bench.damage, float(total.norm()), meter="search"
            ).mean,
        }
        first = alone[:, None]
        effects = {
            "alone": first,
            "other_alone": by_itself,
            "both": both,
            "interference": both - first - by_itself,
            "other_later_alone": by_itself_later,
            "both_later": both_later,
            "interference_later": both_later - first - by_itself_later,
        }
        yield row | {name: mean_estimate(found, one.groups) for name, found in effects.items()}


def _with_later(
    subject: Subject, added: Tensor | None, later: HookPoint, second: Tensor
) -> NDArray[np.float64]:
    """Return the effects `(n,)` of `second` at a later layer, and of `added` at the subject's."""
    margin, bench = subject.report, subject.bench

    def measure() -> list[float]:
        base = margin.base  # of the untouched model
        with edit(bench.model, later, lambda x: x + second.to(x)):
            steered = margin.per_sample(None if added is None else lambda x: x + added.to(x))
        return [float(x) for x in steered - base]

    below = None if added is None else digest(added)
    key = ("later", subject.name, below, str(later), digest(second))
    return np.array(bench.journal.once(key, measure))
