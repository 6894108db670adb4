"""Does a vector of SAE features do what the dense one does? How few features; where; together?

1. Decompositions: the dense mean difference written as 4, 16, 64 features in four ways, beside the
   mean difference of all features; each by its likeness to the dense vector, its damage where that
   vector stands at the budget, and its effect and behaviour rate at equal damage.
2. Layers: the dense vector of other layers, and the feature vector of the SAE's.
3. Together: another behaviour's vector added at the same layer, or at a later one. Interference is
   what it does to the first one's effect, less nothing: beside it a random direction in its place.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from experiments.feature_vectors.decompositions import DECOMPOSITIONS
from experiments.laboratory import Laboratory
from experiments.record import Row, say
from experiments.subject import Subject
from trimtab.errors import VectorError
from trimtab.model.hook_points import HookPoint
from trimtab.model.hooks import edit
from trimtab.selector.intervals import mean_estimate
from trimtab.selector.parts import compose, everything
from trimtab.selector.scales import digest


@dataclass(frozen=True)
class Sizes:
    """What is measured.

    Attributes:
        atoms: numbers of features that a decomposition may use.
        layers: whose residual is read and steered, beside the SAE's.
        later: layer at which a second vector is added.
        draws: of a random direction.
    """

    atoms: tuple[int, ...] = (4, 16, 64)
    layers: tuple[int, ...] = (3, 7, 11, 19, 23, 27)
    later: int = 23
    draws: int = 3


SIZES = Sizes()


def study(laboratory: Laboratory) -> dict[str, list[Row]]:
    """Measure everything, and return the tables."""
    sizes: Sizes = laboratory.sizes
    subjects = list(laboratory.subjects())
    decomposed = [row for subject in subjects for row in decompositions(laboratory, subject)]
    layered = [row for subject in subjects for row in at_sae(subject)]
    points = [HookPoint(layer, "hook_resid_post") for layer in sizes.layers]
    later = HookPoint(sizes.later, "hook_resid_post")
    added_later: dict[str, Tensor] = {}
    for point, store in laboratory.stores_at(sorted({*points, later})).items():
        say(f"layer {point.layer}")
        for name in laboratory.config.behaviors:
            subject = laboratory.subject(name, store)
            if point in points:
                layered.append(_layer_row(subject, "dense", subject.dense))
            if point == later:
                added_later[name] = subject.bench.at_budget(subject.dense)
    say("two behaviours at once")
    together = list(pairs_of_behaviors(subjects, later, added_later, sizes, laboratory))
    return {"decompositions": decomposed, "layers": layered, "together": together}


def decompositions(laboratory: Laboratory, subject: Subject) -> Iterator[Row]:
    """Yield a row a way to write the dense vector, and a row for a random direction."""
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
        rest = float((dense - vector).norm() / dense.norm())
        row = {
            "behavior": subject.name,
            "vector": way,
            "features": atoms,
            "cosine": float(torch.nn.functional.cosine_similarity(vector, dense, dim=0)),
            "missing": rest,
        }
        try:
            strength = length * float(vector.norm())
            unscaled = bench.divergence(vector, bench.damage, strength, meter="search")
            effect = subject.effect([vector])
            beyond = mean_estimate(subject.effects(bench.at_budget(vector)) - whole, subject.groups)
            yield row | {
                "damage": unscaled.mean,
                "effect": effect,
                "beyond_dense": beyond,
                "behavior_rate": subject.rate(vector),
            }
        except VectorError as error:  # an encoder may see nothing in a vector
            yield row | {"why_not": str(error)}
    random = random_directions(len(dense), laboratory.sizes.draws, laboratory.config.seed)
    yield {
        "behavior": subject.name,
        "vector": "random direction",
        "effect": subject.effect(random),
        "behavior_rate": subject.rate(random[0]),
    }
    yield {"behavior": subject.name, "vector": "unsteered", "behavior_rate": subject.rate(None)}


def at_sae(subject: Subject) -> Iterator[Row]:
    """Yield the rows of the SAE's own layer."""
    yield _layer_row(subject, "dense", subject.dense)
    features = compose(subject.parts, everything(subject.parts))
    yield _layer_row(subject, "mean feature differences", features)


def _layer_row(subject: Subject, vector: str, direction: Tensor) -> Row:
    return {
        "behavior": subject.name,
        "layer": subject.bench.hook_point.layer,
        "vector": vector,
        "effect": subject.effect([direction]),
        "behavior_rate": subject.rate(direction),
    }


def pairs_of_behaviors(
    subjects: list[Subject],
    later: HookPoint,
    added_later: dict[str, Tensor],
    sizes: Sizes,
    laboratory: Laboratory,
) -> Iterator[Row]:
    """Yield what a second vector does to the effect of the first, for every two behaviours."""
    random = random_directions(laboratory.model.d_model, sizes.draws, laboratory.config.seed)
    for one in subjects:
        own = one.bench.at_budget(one.dense)
        alone = one.effects(own)
        drawn = [one.effects(own + one.bench.at_budget(r)) - alone for r in random]
        control = mean_estimate(np.stack(drawn, axis=1), one.groups)
        for other in subjects:
            if other is one:
                continue
            say(f"{one.name} with {other.name}")
            second = one.bench.at_budget(other.dense)
            both = one.effects(own + second)
            above = _with_later(one, own, later, added_later[other.name])
            yield {
                "behavior": one.name,
                "other": other.name,
                "cosine": float(torch.nn.functional.cosine_similarity(own, second, dim=0)),
                "alone": mean_estimate(alone, one.groups),
                "other_alone": mean_estimate(one.effects(second), one.groups),
                "interference": mean_estimate(both - alone, one.groups),
                "interference_later": mean_estimate(above - alone, one.groups),
                "interference_random": control,
            }


def _with_later(
    subject: Subject, added: Tensor, later: HookPoint, second: Tensor
) -> NDArray[np.float64]:
    """Return the effects `(n,)` of `added` where `second` is added at a later layer too."""
    margin, bench = subject.report, subject.bench

    def measure() -> list[float]:
        base = margin.base  # of the untouched model
        with edit(bench.model, later, lambda x: x + second.to(x)):
            return [float(x) for x in margin.per_sample(lambda x: x + added.to(x)) - base]

    key = ("later", subject.name, digest(added), str(later), digest(second))
    return np.array(bench.journal.once(key, measure))


def random_directions(width: int, draws: int, seed: int) -> list[Tensor]:
    """Return random directions, `(width,)` each."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(width, generator=generator) for _ in range(draws)]
