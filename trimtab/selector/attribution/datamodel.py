"""Datamodel regression: a linear model of the effect of random halves, by who is in them.

Ilyas et al. (2022), https://arxiv.org/abs/2202.00622. The strength of the penalty is chosen by
cross-validation on the same halves; a truth that judges the scores must come from other ones.
"""

from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LassoCV, RidgeCV
from torch import Tensor

from trimtab.errors import SelectionError
from trimtab.selector.attribution.game import Game, Players
from trimtab.selector.audit.subsets import draw_subsets

FOLDS = 5
ALPHAS = np.logspace(-3, 4, 22)  # for effects of unit variance and entries of -1 and 1


def ridge_samples(game: Game) -> Tensor:
    """Attribute to samples by ridge regression, `(n,)`."""
    return _scores(game, game.samples, RidgeCV(alphas=ALPHAS))


def ridge_features(game: Game) -> Tensor:
    """Attribute to features by ridge regression, `(d_sae,)`."""
    return _scores(game, game.features, RidgeCV(alphas=ALPHAS))


def lasso_samples(game: Game) -> Tensor:
    """Attribute to samples by the lasso, `(n,)`."""
    return _scores(game, game.samples, LassoCV(cv=FOLDS, max_iter=100_000, tol=1e-3))


def lasso_features(game: Game) -> Tensor:
    """Attribute to features by the lasso, `(d_sae,)`."""
    return _scores(game, game.features, LassoCV(cv=FOLDS, max_iter=100_000, tol=1e-3))


def _scores(game: Game, players: Players, regression: Any) -> Tensor:
    """Fit as many halves as the budget allows; a score is what belonging adds to the effect."""
    k = len(players.terms)
    if k < 2 or game.budget < 2 * FOLDS:
        raise SelectionError(
            f"a datamodel of {k} parts from {game.budget} subsets cannot be fitted; it needs 2 "
            f"parts and {2 * FOLDS} subsets or more"
        )
    masks = draw_subsets(k, k // 2, game.budget, game.seed)
    effects = np.array([game.value(players, mask) for mask in masks])
    spread = effects.std()
    if spread == 0:
        return players.spread(torch.zeros(k))
    regression.fit(np.where(masks, 1.0, -1.0), (effects - effects.mean()) / spread)
    return players.spread(torch.from_numpy(2 * spread * regression.coef_))
