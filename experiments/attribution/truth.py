"""Attributions against measured effects: scores over random subsets, ceilings, brittleness."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from experiments.attribution.lab import Lab
from experiments.attribution.sizes import Sizes
from trimtab.selector.attribution import ESTIMATORS, Attribution, Game, Unit, attribute
from trimtab.selector.audit.brittleness import drop_curve
from trimtab.selector.audit.lds import lds, predicted
from trimtab.selector.audit.subsets import draw_subsets, measured_effects
from trimtab.selector.parts import Parts
from trimtab.selector.ranks import ceiling

DROPPED = (0.05, 0.1, 0.2, 0.3, 0.5)  # shares of the samples
TRUTH_SEED = 1_000_003  # apart from the datamodels', which must not learn from the truth

KNOWING = "measured on the scored pairs"
FIXED = "measured at the fixed multiplier"

Row = dict[str, Any]
Floats = NDArray[np.float64]
Say = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Truth:
    """Subsets of one unit's parts, their vectors, and how an attribution predicts them.

    Attributes:
        masks: `(m, k)`; of cells, `k = n * d_sae`.
        vectors: `(m, d_model)`, as they are added.
        averaged: whether a vector is a mean of its parts.
    """

    unit: Unit
    name: str
    masks: NDArray[np.bool_]
    vectors: Tensor
    averaged: bool


def full_game(lab: Lab, parts: Parts, sizes: Sizes, seed: int) -> Game:
    """Return the game on the scored pairs, at the dense vector's calibrated multiplier."""
    dense = parts.residual.double().mean(0).float()
    multiplier = float(lab.at_equal_damage(dense).norm() / dense.norm())
    return Game(parts, lab.meter("scored"), multiplier, sizes.budget, seed)


def attributions(game: Game, say: Say) -> Iterator[tuple[Unit, str, Attribution]]:
    """Yield every estimator's attribution; those to features and cells where there is an SAE."""
    for unit, estimators in ESTIMATORS.items():
        if unit != "samples" and game.parts.features is None:
            continue
        for name in estimators:
            say(f"{name.replace('_', ' ')} of {unit}")
            yield unit, name, attribute(name, game, unit)


def truths(game: Game, sizes: Sizes, seed: int) -> list[Truth]:
    """Draw the subsets that judge, and make their vectors."""
    players, n = game.samples, game.parts.n_samples
    seed += TRUTH_SEED
    halves = draw_subsets(n, n // 2, sizes.halves, seed)
    small = np.concatenate(
        [draw_subsets(n, k, sizes.small, seed + k) for k in sizes.small_sizes if k < n]
    )
    found = [
        Truth("samples", "halves", halves, players.vectors(halves), True),
        Truth("samples", "8 to 32 samples", small, players.vectors(small), True),
    ]
    if game.parts.features is None or game.parts.decoder is None:
        return found
    features = game.features
    playing = draw_subsets(len(features.index), len(features.index) // 2, sizes.parts, seed + 1)
    masks = np.zeros((sizes.parts, features.size), dtype=bool)
    masks[:, features.index.numpy()] = playing
    found.append(Truth("features", "halves", masks, features.vectors(playing), False))
    entries = game.parts.features
    cells = np.random.default_rng(seed + 2).random((sizes.parts, *entries.shape)) < 0.5
    sums = torch.stack([(entries * torch.from_numpy(mask)).mean(0) for mask in cells])
    vectors = game.multiplier * sums @ game.parts.decoder
    found.append(Truth("cells", "halves", cells.reshape(sizes.parts, -1), vectors, False))
    return found


def score(
    lab: Lab, game: Game, found: list[tuple[Unit, str, Attribution]], sizes: Sizes, say: Say
) -> tuple[list[Row], list[Row]]:
    """Return a row an estimator and set of subsets, and a row a measured subset.

    Beside the estimators stand `KNOWING`, the score on held-out pairs of an estimator that knew
    every subset's effect on the scored ones; and `FIXED`, the rank correlation of subsets' effects
    at the fixed multiplier with those at equal damage.
    """
    rows: list[Row] = []
    subsets: list[Row] = []
    for truth in truths(game, sizes, game.seed):
        effects = {}
        for where in ("scored", "held_out"):
            say(f"{len(truth.masks)} subsets of {truth.unit}, {truth.name}, on {where} pairs")
            effects[where] = measured_effects(truth.vectors, lab.effects(where))
        which = {"unit": truth.unit, "subsets": truth.name, "n_subsets": len(truth.masks)}
        limits = {f"ceiling_{w}": ceiling(e, lab.groups(w)) for w, e in effects.items()}
        for unit, name, attribution in found:
            if unit == truth.unit:
                scores = attribution.scores.flatten()
                prediction = predicted(scores, truth.masks, averaged=truth.averaged)
                row = {**which, "estimator": name, "cost": attribution.cost} | limits
                rows.append(row | {f"lds_{w}": lds(prediction, e) for w, e in effects.items()})
        knowing = {"lds_held_out": lds(effects["scored"].mean(1), effects["held_out"])}
        rows.append({**which, "estimator": KNOWING, "cost": len(truth.masks)} | limits | knowing)
        if (truth.unit, truth.name) == ("samples", "halves"):
            rows += _at_equal_damage(lab, truth, effects, found, sizes, say)
        for mask, one, other in zip(truth.masks, *effects.values(), strict=True):
            subsets.append(
                {
                    **which,
                    "members": None if truth.unit == "cells" else np.flatnonzero(mask).tolist(),
                }
                | {"scored": one.tolist(), "held_out": other.tolist()}
            )
    return rows, subsets


def _at_equal_damage(
    lab: Lab,
    truth: Truth,
    effects: dict[str, Floats],
    found: list[tuple[Unit, str, Attribution]],
    sizes: Sizes,
    say: Say,
) -> list[Row]:
    """Measure the first few subsets again, each scaled to the damage budget."""
    count = min(sizes.calibrated, len(truth.masks))
    say(f"{count} of them at equal damage")
    vectors = [lab.at_equal_damage(vector) for vector in truth.vectors[:count]]
    common: Row = {"unit": truth.unit, "subsets": "halves at equal damage", "n_subsets": count}
    again = {w: measured_effects(vectors, lab.effects(w)) for w in effects}
    rows = []
    for unit, name, attribution in found:
        if unit == "samples":
            prediction = predicted(attribution.scores, truth.masks[:count], averaged=True)
            scores = {f"lds_{w}": lds(prediction, e) for w, e in again.items()}
            rows.append(common | {"estimator": name, "cost": attribution.cost} | scores)
    same = {f"lds_{w}": lds(effects[w][:count].mean(1), e) for w, e in again.items()}
    return [*rows, common | {"estimator": FIXED, "cost": count} | same]


def brittleness(
    lab: Lab, game: Game, found: list[tuple[Unit, str, Attribution]], sizes: Sizes, say: Say
) -> list[Row]:
    """Return the effect on held-out pairs after the top samples of each estimator are dropped."""
    n = game.parts.n_samples
    counts = [0, *(round(share * n) for share in DROPPED)]
    held_out = replace(game, meter=lab.meter("held_out"))
    generator = torch.Generator().manual_seed(game.seed)
    orders = {name: [a.scores] for unit, name, a in found if unit == "samples"}
    orders["random"] = [torch.rand(n, generator=generator) for _ in range(sizes.draws)]
    rows = []
    for name, scores in orders.items():
        say(f"dropping the top by {name.replace('_', ' ')}")
        for point in drop_curve(held_out, scores, counts, lab.groups("held_out")):
            rows.append({"estimator": name, "n": n, **vars(point)})
    return rows
