"""Length of a part's term in the full vector: no effect is measured, no direction asked."""

import torch
from torch import Tensor

from trimtab.selector.attribution.game import Game
from trimtab.selector.rankers import norm


def samples(game: Game) -> Tensor:
    """Attribute to samples, `(n,)`, as the ranker does."""
    return norm.samples(game.evidence())


def features(game: Game) -> Tensor:
    """Attribute to features, `(d_sae,)`, as the ranker does; 0 to those that never differ."""
    return norm.features(game.evidence()).nan_to_num(neginf=0.0)


def cells(game: Game) -> Tensor:
    """Attribute to cells by the length of their entry of the receipt, `(n, d_sae)`."""
    evidence = game.evidence()
    lengths: Tensor = torch.linalg.vector_norm(evidence.decoder, dim=1)
    return evidence.feature_differences.abs() * lengths / game.parts.n_samples
