"""Measured leave-one-out: the full vector's effect less that of the vector without the part.

The vectors are exact and free (a sample's is `(n v - r_i) / (n - 1)`); each effect is measured.
"""

import torch
from torch import Tensor

from trimtab.selector.attribution.game import Game, Players, everyone


def samples(game: Game) -> Tensor:
    """Attribute to samples, `(n,)`, with `n + 1` evaluations."""
    return _scores(game, game.samples)


def features(game: Game) -> Tensor:
    """Attribute to features, `(d_sae,)`, with one evaluation more than there are active ones."""
    return _scores(game, game.features)


def _scores(game: Game, players: Players) -> Tensor:
    full = game.value(players, everyone(players))
    scores = torch.zeros(len(players.terms))
    for player in range(len(scores)):
        rest = everyone(players)
        rest[player] = False
        scores[player] = full - game.value(players, rest)
    return players.spread(scores)
