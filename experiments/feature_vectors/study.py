"""Does a vector of SAE features do what the dense one does? How few features; where; together?

1. Decompositions: the dense mean difference written as 4, 16, 64 features in four ways, beside the
   mean difference of all features; each by its likeness to the dense vector, its damage where that
   vector stands at the budget, and its effect and behaviour rate at equal damage.
2. Layers: the dense vector of other layers, the feature vector where there is an SAE, and a random
   direction at each.
3. Together: two behaviours' vectors, or those of all, each at the budget by itself, at one layer,
   or the second at a later one; dense ones, and where the SAE is those of few features.
   Interference is what all do to the first behaviour, less what each does to it alone: zero where
   effects add up. Beside it, a random direction in the second one's place.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from experiments.checked import Count, Whole
from experiments.controls import random_directions
from experiments.feature_vectors.decompositions import DECOMPOSITIONS
from experiments.feature_vectors.together import of_features_with_others, with_others
from experiments.laboratory import Laboratory
from experiments.record import Row, say
from experiments.subject import Subject
from trimtab.errors import SelectionError, VectorError
from trimtab.model.families import find_module
from trimtab.model.hook_points import HookPoint
from trimtab.model.sae import load_sae
from trimtab.selector.intervals import Estimate, mean_estimate
from trimtab.selector.parts import compose, everything


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
    atoms = sorted(sizes.atoms)[len(sizes.atoms) // 2]
    for one in subjects:
        found = of_features_with_others(one, subjects, laboratory.sae, atoms)
        together += laboratory.rows(f"{one.name} with others, {atoms} features", found)
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
