"""Infinitesimal jackknife: the derivative of the full vector's effect by each part's weight.

The gradient is taken at the full vector, where leave-one-out and half-subsets happen, and not at
the untouched model as in `first_order`. Jaeckel (1972); Giordano et al. (2019),
https://arxiv.org/abs/1806.00550.
"""

from torch import Tensor

from trimtab.selector.attribution import products
from trimtab.selector.attribution.game import Game, Players, everyone


def samples(game: Game) -> Tensor:
    """Attribute to samples, `(n,)`; they sum to 0, for a mean gives to one what others lose."""
    scores = products.samples(game, _gradient(game, game.samples))
    return scores - scores.mean()


def features(game: Game) -> Tensor:
    """Attribute to features, `(d_sae,)`."""
    return products.features(game, _gradient(game, game.features))


def cells(game: Game) -> Tensor:
    """Attribute to (sample, feature) cells, `(n, d_sae)`."""
    return products.cells(game, _gradient(game, game.features))


def _gradient(game: Game, players: Players) -> Tensor:
    return game.meter.gradient(players.vectors(everyone(players)[None])[0])
