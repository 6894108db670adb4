"""Truncated Monte-Carlo Shapley: what a part adds to those before it, over random orders.

An order is broken off once `PATIENCE` values in a row lie within `TOLERANCE` of the full effect;
what is left of it adds nothing then. Without that, an order's contributions sum to the full effect
exactly. Ghorbani and Zou (2019), https://arxiv.org/abs/1904.02868.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trimtab.selector.attribution.game import Game, Players, everyone

TOLERANCE = 0.01  # of the full effect
PATIENCE = 5  # one value within tolerance may be chance


def samples(game: Game) -> Tensor:
    """Attribute to samples, `(n,)`."""
    return _scores(game, game.samples)


def features(game: Game) -> Tensor:
    """Attribute to features, `(d_sae,)`."""
    return _scores(game, game.features)


def _scores(game: Game, players: Players) -> Tensor:
    """Average whole orders until the budget is spent, at least one."""
    rng = np.random.default_rng(game.seed)
    begun = game.meter.cost
    full = game.value(players, everyone(players))
    totals = np.zeros(len(players.terms))
    orders = 0
    while orders == 0 or game.meter.cost - begun < game.budget:
        totals += _contributions(game, players, rng.permutation(len(totals)), full)
        orders += 1
    return players.spread(torch.from_numpy(totals / orders))


def _contributions(
    game: Game, players: Players, order: NDArray[np.int64], full: float
) -> NDArray[np.float64]:
    """Return what each player adds in one order, `(k,)`."""
    added = np.zeros(len(order))
    mask = np.zeros(len(order), dtype=bool)
    before, near = 0.0, 0
    for place, player in enumerate(order, start=1):
        mask[player] = True
        value = full if place == len(order) else game.value(players, mask)
        added[player] = value - before
        before = value
        near = near + 1 if abs(full - value) <= TOLERANCE * abs(full) else 0
        if near >= PATIENCE:
            break
    return added
