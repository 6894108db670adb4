"""Attribution: how much of the full vector's effect is owed to each sample, feature or cell.

Each file is one estimator behind one signature: it takes the game and returns one score a sample
`(n,)`, a feature `(d_sae,)`, or a (sample, feature) cell `(n, d_sae)`, higher where the part adds
more to the effect. `trimtab.selector.rankers` order parts for search and pruning, at equal damage;
here a score predicts an effect at one fixed multiplier, and `trimtab.selector.audit` measures how
well. Measuring each cell would cost an evaluation a cell: those have products only, which are
exact to first order, and the controls.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from trimtab.errors import SelectionError
from trimtab.selector.attribution import (
    cosine,
    datamodel,
    first_order,
    integrated,
    jackknife,
    leave_one_out,
    norm,
    random,
    shapley,
)
from trimtab.selector.attribution.game import Game, Players
from trimtab.selector.attribution.meter import Meter

Unit = Literal["samples", "features", "cells"]
Estimator = Callable[[Game], Tensor]

ESTIMATORS: dict[Unit, dict[str, Estimator]] = {
    "samples": {
        "first_order": first_order.samples,
        "jackknife": jackknife.samples,
        "integrated": integrated.samples,
        "leave_one_out": leave_one_out.samples,
        "shapley": shapley.samples,
        "ridge": datamodel.ridge_samples,
        "lasso": datamodel.lasso_samples,
        "cosine": cosine.samples,
        "norm": norm.samples,
        "random": random.samples,
    },
    "features": {
        "first_order": first_order.features,
        "jackknife": jackknife.features,
        "integrated": integrated.features,
        "leave_one_out": leave_one_out.features,
        "shapley": shapley.features,
        "ridge": datamodel.ridge_features,
        "lasso": datamodel.lasso_features,
        "cosine": cosine.features,
        "norm": norm.features,
        "random": random.features,
    },
    "cells": {
        "first_order": first_order.cells,
        "jackknife": jackknife.cells,
        "integrated": integrated.cells,
        "cosine": cosine.cells,
        "norm": norm.cells,
        "random": random.cells,
    },
}

DEFAULTS: dict[Unit, str] = {
    "samples": "jackknife",
    "features": "integrated",
    "cells": "integrated",
}
"""The cheapest that rank subsets as measured; docs/studies/minimal.md has the figures."""


@dataclass(frozen=True, eq=False)
class Attribution:
    """Scores `(n,)`, `(d_sae,)` or `(n, d_sae)`, and what they cost in forward passes.

    A forward pass is one evaluation of the margin over all scored pairs; a gradient counts as
    `trimtab.selector.attribution.meter.GRADIENT_COST` of them.
    """

    scores: Tensor
    cost: int


def attribute(estimator: str, game: Game, unit: Unit = "samples") -> Attribution:
    """Attribute the full vector's effect to samples, features or cells.

    Raises:
        SelectionError: there is no such estimator for this unit, the parts have no SAE features,
            or there is too little to fit a datamodel to.
    """
    known = ESTIMATORS[unit]
    if estimator not in known:
        raise SelectionError(
            f"no estimator {estimator!r} attributes to {unit}; choose from {', '.join(known)}"
        )
    if unit != "samples":
        game.check_features()
    begun = game.meter.cost
    scores = known[estimator](game)
    return Attribution(scores, game.meter.cost - begun)


__all__ = [
    "DEFAULTS",
    "ESTIMATORS",
    "Attribution",
    "Estimator",
    "Game",
    "Meter",
    "Players",
    "Unit",
    "attribute",
]
