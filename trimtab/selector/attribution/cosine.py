"""Cosine of a part's term to the full vector: no effect is measured."""

import torch
from torch import Tensor

from trimtab.selector.attribution.game import Game
from trimtab.selector.rankers import cosine


def samples(game: Game) -> Tensor:
    """Attribute to samples, `(n,)`, as the ranker does."""
    return cosine.samples(game.evidence())


def features(game: Game) -> Tensor:
    """Attribute to features, `(d_sae,)`, as the ranker does; 0 to those that never differ."""
    return cosine.features(game.evidence()).nan_to_num(neginf=0.0)


def cells(game: Game) -> Tensor:
    """Attribute to cells by the cosine of their own sign of the direction, `(n, d_sae)`."""
    evidence = game.evidence()
    cosines = torch.cosine_similarity(evidence.decoder, evidence.mean_residual[None], dim=1)
    return evidence.feature_differences.sign() * cosines
