"""What is compared: parts of the residual that are given, found in different ways."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
from torch import Tensor

from experiments.controls import stand_ins
from experiments.ravel import ways
from experiments.ravel.changes import Change, nothing, of_features, of_subspace, whole

NOTHING = "no interchange"


@dataclass(frozen=True)
class Found:
    """What is given for an attribute.

    Attributes:
        changes: one, or one a draw of a random control.
        features: how many are given; None where it is none of features.
        dimensions: the same of directions.
    """

    changes: tuple[Change, ...]
    features: int | None = None
    dimensions: int | None = None


@dataclass(frozen=True, eq=False)
class Finder:
    """Finds what to give for one attribute.

    Attributes:
        lesson: what it is found by.
        tune: how good a change is on the validation pairs: cause times isolation, and by how much
            more it moves the attribute's odds than others'.
        features: numbers of features to choose from.
        dimensions: numbers of directions to choose from.
        subspace: directions of the trained subspace, and of the one that the pursuit aims at.
        draws: of random features.
        seed: of the draws.
    """

    lesson: ways.Lesson
    tune: Callable[[Change], tuple[float, float]]
    features: Sequence[int]
    dimensions: Sequence[int]
    subspace: int
    draws: int
    seed: int

    @cached_property
    def order(self) -> list[int]:
        """The features by attribution."""
        return ways.by_attribution(self.lesson)

    @cached_property
    def attributed(self) -> Found:
        """The first features by attribution."""
        return self.first(self.order)

    def given(self, features: Sequence[int]) -> Found:
        """Return what gives some features."""
        return Found((of_features(self.lesson.sae, features),), features=len(features))

    def first(self, order: Sequence[int]) -> Found:
        """Return the first features of an order, as many as the validation pairs say."""
        return self._best([self.given(order[:count]) for count in self.features])

    def leading(self, directions: Callable[[int], Tensor]) -> Found:
        """Return the subspace of the first directions, as many as the validation pairs say."""
        bases = [directions(count) for count in self.dimensions]
        return self._best([Found((of_subspace(one),), dimensions=len(one)) for one in bases])

    def _best(self, candidates: Sequence[Found]) -> Found:
        """The candidate that is best on the validation pairs, the smallest of equals."""
        return max(candidates, key=lambda found: self.tune(found.changes[0]))


def _full_sae(finder: Finder) -> Found:
    sae = finder.lesson.sae
    return Found((of_features(sae),), features=sae.d_sae)


def _pursuit(finder: Finder) -> Found:
    basis = ways.probe(finder.lesson, finder.subspace)
    return finder.first(ways.by_pursuit(finder.lesson, basis, max(finder.features)))


def _random(finder: Finder) -> Found:
    """Features that add about as much as attribution's on the training pairs, one for one."""
    lesson, chosen = finder.lesson, finder.order[: finder.attributed.features]
    differences = lesson.differences(lesson.own).abs().mean(0)
    lengths = (differences * lesson.sae.W_dec.norm(dim=1)).float().cpu().numpy()
    rng = np.random.default_rng(finder.seed)
    drawn = stand_ins(lengths, chosen, finder.draws, rng, usable=lengths > 0)
    return Found(tuple(of_features(lesson.sae, some) for some in drawn), features=len(drawn[0]))


def _rotation(finder: Finder) -> Found:
    basis = ways.rotation(finder.lesson, finder.subspace)
    return Found((of_subspace(basis),), dimensions=len(basis))


METHODS: dict[str, Callable[[Finder], Found]] = {
    NOTHING: lambda _: Found((nothing,)),
    "whole residual": lambda _: Found((whole,)),
    "full SAE": _full_sae,
    "best feature": lambda finder: finder.given(finder.order[:1]),
    "attribution": lambda finder: finder.attributed,
    "pursuit of the probe": _pursuit,
    "trained mask": lambda finder: finder.given(ways.by_masks(finder.lesson)),
    "random features": _random,
    "principal components": lambda finder: finder.leading(partial(ways.principal, finder.lesson)),
    "probe": lambda finder: finder.leading(partial(ways.probe, finder.lesson)),
    "trained subspace": _rotation,
}
