"""The game whose credit is shared out: players make a vector, and the vector has an effect.

Players are samples, which make the mean of their residual differences; or features, which make the
sum of their terms in the full SAE vector. The vector is added at one fixed multiplier.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trimtab.errors import SelectionError
from trimtab.selector.attribution.meter import Meter
from trimtab.selector.parts import Parts
from trimtab.selector.rankers import Evidence

Masks = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Players:
    """Who plays, and what vector a coalition makes.

    Attributes:
        terms: `(k, d_model)`, float64, each player's own vector at the game's multiplier.
        averaged: a coalition makes the mean of its terms, else their sum.
        index: `(k,)` numbers of the players among all `size` samples or features; those that
            are left out add nothing to any coalition.
        size: how many samples or features there are.
    """

    terms: Tensor
    averaged: bool
    index: Tensor
    size: int

    def vectors(self, masks: Masks) -> Tensor:
        """Return the vector of each coalition, `(m, d_model)` float32, of masks `(m, k)`.

        The empty coalition makes the zero vector.
        """
        chosen = torch.from_numpy(np.asarray(masks)).double()
        sums = chosen @ self.terms
        if self.averaged:
            sums = sums / chosen.sum(1, keepdim=True).clamp_min(1)
        return sums.float()

    def spread(self, scores: Tensor) -> Tensor:
        """Return scores of the players `(k,)` as scores of all, `(size,)` float32, others 0."""
        everyone = torch.zeros(self.size)
        everyone[self.index] = scores.float()
        return everyone


@dataclass(frozen=True, eq=False)
class Game:
    """What is attributed: the mean effect of the full vector at a fixed multiplier.

    Attributes:
        parts: rows of the samples, and of the features where features or cells are asked for.
        meter: measures vectors; use float32, in which small differences can be told apart.
        multiplier: how many times the vector is added.
        budget: margin evaluations that an estimator which samples coalitions may spend, about.
        seed: of such an estimator, and of the random one.
    """

    parts: Parts
    meter: Meter
    multiplier: float = 1.0
    budget: int = 256
    seed: int = 0

    @property
    def samples(self) -> Players:
        """The samples, whose coalitions make dense vectors."""
        n = self.parts.n_samples
        return Players(self.multiplier * self.parts.residual.double(), True, torch.arange(n), n)

    @property
    def features(self) -> Players:
        """The features that differ on average, whose coalitions make vectors of all samples."""
        evidence = self.evidence()
        mean = evidence.feature_differences.double().mean(0)
        index = mean.nonzero().flatten()
        terms = self.multiplier * mean[index, None] * evidence.decoder[index].double()
        return Players(terms, False, index, len(mean))

    def evidence(self, gradient: Tensor | None = None) -> Evidence:
        """Return what a ranker looks at; without a gradient, for one that needs none.

        Raises:
            SelectionError: from `features` of parts that have none.
        """
        zero = torch.zeros(self.parts.residual.shape[1])
        return Evidence(self.parts, zero if gradient is None else gradient, self.seed)

    def check_features(self) -> None:
        """Raise SelectionError where the parts have no SAE features."""
        if self.parts.features is None or self.parts.decoder is None:
            raise SelectionError(
                "these parts have no SAE features to attribute to; attribute to samples, or build "
                "the store with an SAE"
            )

    def value(self, players: Players, mask: Masks) -> float:
        """Return the mean effect of one coalition's vector; 0 of the empty one, unasked."""
        return self.meter.effect(players.vectors(mask[None])[0]) if mask.any() else 0.0


def everyone(players: Players) -> Masks:
    """Return the mask of the whole, `(k,)`."""
    return np.ones(len(players.terms), dtype=bool)
