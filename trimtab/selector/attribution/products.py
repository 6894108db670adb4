"""Gradient times term: what a linear effect with a given gradient owes to each part.

The vector is bilinear, so a cell's product is exact, and a row of cells sums to a feature.
"""

from torch import Tensor

from trimtab.selector.attribution.game import Game
from trimtab.selector.rankers import influence


def samples(game: Game, gradient: Tensor) -> Tensor:
    """Return the product with each sample's share of the dense vector, `(n,)`."""
    return game.multiplier / game.parts.n_samples * (game.parts.residual @ gradient)


def features(game: Game, gradient: Tensor) -> Tensor:
    """Return the product with each feature's term in the SAE vector, `(d_sae,)`."""
    return game.multiplier * influence.gains(game.evidence(gradient))


def cells(game: Game, gradient: Tensor) -> Tensor:
    """Return the product with each (sample, feature) entry of the receipt, `(n, d_sae)`."""
    evidence = game.evidence(gradient)
    along = game.multiplier / game.parts.n_samples * (evidence.decoder @ gradient)
    return evidence.feature_differences * along
