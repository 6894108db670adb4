"""Random attributions: the control that every estimator has to beat."""

import torch
from torch import Tensor

from trimtab.selector.attribution.game import Game
from trimtab.selector.rankers import random


def samples(game: Game) -> Tensor:
    """Attribute to samples at random, `(n,)`, as the ranker does."""
    return random.samples(game.evidence())


def features(game: Game) -> Tensor:
    """Attribute to features at random, `(d_sae,)`, as the ranker does; 0 to silent ones."""
    return random.features(game.evidence()).nan_to_num(neginf=0.0)


def cells(game: Game) -> Tensor:
    """Attribute to cells at random, `(n, d_sae)`; 0 to empty ones."""
    differences = game.evidence().feature_differences
    generator = torch.Generator().manual_seed(game.seed)
    return torch.rand(differences.shape, generator=generator) * (differences != 0)
