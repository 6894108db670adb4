"""First-order influence: the gradient at the untouched model times each part's term."""

import torch
from torch import Tensor

from trimtab.selector.attribution import products
from trimtab.selector.attribution.game import Game


def samples(game: Game) -> Tensor:
    """Attribute to samples, `(n,)`."""
    return products.samples(game, _gradient(game))


def features(game: Game) -> Tensor:
    """Attribute to features, `(d_sae,)`."""
    return products.features(game, _gradient(game))


def cells(game: Game) -> Tensor:
    """Attribute to (sample, feature) cells, `(n, d_sae)`."""
    return products.cells(game, _gradient(game))


def _gradient(game: Game) -> Tensor:
    return game.meter.gradient(torch.zeros(game.parts.residual.shape[1]))
