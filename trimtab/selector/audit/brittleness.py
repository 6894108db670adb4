"""Brittleness: how the effect falls when the samples that an attribution names are dropped."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from trimtab.selector.attribution import Game
from trimtab.selector.attribution.game import everyone
from trimtab.selector.intervals import Estimate, mean_estimate


@dataclass(frozen=True)
class DropPoint:
    """The effect of what is left after `dropped` samples went."""

    dropped: int
    effect: Estimate


def drop_curve(
    game: Game, scores: Sequence[Tensor], counts: Sequence[int], groups: Sequence[str]
) -> list[DropPoint]:
    """Return the effect after the top samples of an attribution are dropped, at each count.

    Args:
        game: whose meter measures on pairs that gave no score, at the game's fixed multiplier.
        scores: `(n,)` each; several are draws of a random control and are averaged over.
        counts: how many samples are dropped; each below n.
        groups: of the meter's pairs, for the interval.
    """
    orders = [one.argsort(descending=True, stable=True) for one in scores]
    curve = []
    for count in counts:
        effects = []
        for order in orders:
            left = everyone(game.samples)
            left[order[:count].numpy()] = False
            effects.append(game.meter.effects(game.samples.vectors(left[None])[0]))
        curve.append(DropPoint(count, mean_estimate(np.stack(effects, axis=1), groups)))
    return curve
