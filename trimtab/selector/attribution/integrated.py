"""Integrated gradients along the multiplier, from the untouched model to the full vector.

The attributions sum to the full vector's effect, up to the quadrature's error: Sundararajan et al.
(2017), https://arxiv.org/abs/1703.01365; Aumann and Shapley (1974).
"""

import numpy as np
from torch import Tensor

from trimtab.selector.attribution import products
from trimtab.selector.attribution.game import Game, Players, everyone

NODES = 5  # Gauss-Legendre: exact where the effect's gradient is a polynomial of degree 9


def samples(game: Game) -> Tensor:
    """Attribute to samples, `(n,)`."""
    return products.samples(game, _gradient(game, game.samples))


def features(game: Game) -> Tensor:
    """Attribute to features, `(d_sae,)`."""
    return products.features(game, _gradient(game, game.features))


def cells(game: Game) -> Tensor:
    """Attribute to (sample, feature) cells, `(n, d_sae)`."""
    return products.cells(game, _gradient(game, game.features))


def _gradient(game: Game, players: Players) -> Tensor:
    """Average the gradient along the players' full vector, `(d_model,)`."""
    full = players.vectors(everyone(players)[None])[0]
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    total = full * 0
    for node, weight in zip(nodes, weights, strict=True):
        total = total + float(weight) / 2 * game.meter.gradient(float(1 + node) / 2 * full)
    return total
