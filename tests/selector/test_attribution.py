"""Attributions share out the full vector's effect as defined, at the cost they say."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from trimtab.errors import SelectionError
from trimtab.model.hook_points import HookPoint
from trimtab.model.language_model import LanguageModel
from trimtab.pairs import Sample
from trimtab.selector.attribution import ESTIMATORS, Game, Meter, Unit, attribute
from trimtab.selector.attribution.game import everyone
from trimtab.selector.attribution.meter import GRADIENT_COST, margin_effects
from trimtab.selector.parts import Choice, Parts, compose, everything
from trimtab.steering.margin import Margin
from trimtab.steering.vector import SteeringVector

NewParts = Callable[..., Parts]
D_MODEL = 12
UNITS: list[tuple[Unit, str]] = [
    (unit, name) for unit, known in ESTIMATORS.items() for name in known
]
SERIOUS = [(unit, name) for unit, name in UNITS if name != "random"]
EQUIVARIANT = [pair for pair in SERIOUS if pair[1] not in ("shapley", "ridge", "lasso")]


def direction(seed: int = 9) -> Tensor:
    return torch.randn(D_MODEL, generator=torch.Generator().manual_seed(seed))


def linear(seed: int = 9) -> Meter:
    """Two pairs whose effects are linear in the vector."""
    along = direction(seed)

    def effects(vector: Tensor) -> np.ndarray:
        value = float(along.double() @ vector.double())
        return np.array([value - 1e-9 * abs(value), value + 1e-9 * abs(value)])

    return Meter(effects, lambda _: along)


def curved(seed: int = 9) -> Meter:
    """An effect with a cubic along every direction, whose gradient is known."""
    a, b = direction(seed), direction(seed + 1)

    def effects(vector: Tensor) -> np.ndarray:
        x, y = float(a.double() @ vector.double()), float(b.double() @ vector.double())
        return np.array([x + 0.1 * y * y - 0.01 * x**3])

    def gradient(at: Tensor) -> Tensor:
        x, y = float(a @ at), float(b @ at)
        return (1 - 0.03 * x * x) * a + 0.2 * y * b

    return Meter(effects, gradient)


def full_effect(game: Game, unit: Unit) -> float:
    players = game.samples if unit == "samples" else game.features
    return game.value(players, everyone(players))


@pytest.mark.parametrize(("unit", "name"), UNITS)
def test_every_estimator_scores_every_part_and_repeats_itself(
    new_parts: NewParts, unit: Unit, name: str
) -> None:
    shapes = {"samples": (8,), "features": (40,), "cells": (8, 40)}
    parts = new_parts(0, 8)
    found = attribute(name, Game(parts, curved(), 0.3, budget=40), unit)
    again = attribute(name, Game(parts, curved(), 0.3, budget=40), unit)
    assert found.scores.shape == shapes[unit]
    assert found.scores.isfinite().all()
    assert torch.equal(found.scores, again.scores)
    assert found.cost == again.cost


@pytest.mark.parametrize(("unit", "name"), [pair for pair in UNITS if pair[0] != "samples"])
def test_what_never_fired_is_owed_nothing(new_parts: NewParts, unit: Unit, name: str) -> None:
    scores = attribute(name, Game(new_parts(0, 8), curved(), budget=40), unit).scores
    assert (scores[..., 38:] == 0).all()


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), n=st.integers(2, 12), multiplier=st.floats(0.1, 3))
def test_leaving_one_out_is_the_full_mean_less_the_sample(
    seed: int, n: int, multiplier: float
) -> None:
    rows = torch.randn(n, D_MODEL, generator=torch.Generator().manual_seed(seed))
    parts = Parts(tuple(map(str, range(n))), rows)
    players = Game(parts, linear(), multiplier).samples
    full = players.vectors(everyone(players)[None])[0]
    for i in range(n):
        rest = everyone(players)
        rest[i] = False
        exact = (n * full - multiplier * rows[i]) / (n - 1)
        torch.testing.assert_close(players.vectors(rest[None])[0], exact, atol=1e-4, rtol=1e-4)


def test_a_coalition_makes_the_vector_that_the_same_choice_makes(parts: Parts) -> None:
    game = Game(parts, linear(), 2.0)
    mask = np.arange(30) % 3 == 0
    chosen = compose(parts, Choice(tuple(np.flatnonzero(mask).tolist())))
    torch.testing.assert_close(game.samples.vectors(mask[None])[0], 2 * chosen)
    whole = game.features.vectors(everyone(game.features)[None])[0]
    full_sae = 2 * compose(parts, everything(parts))
    torch.testing.assert_close(whole, full_sae, atol=1e-4, rtol=1e-4)


def test_the_empty_coalition_does_nothing_and_costs_nothing(parts: Parts) -> None:
    game = Game(parts, linear())
    assert game.value(game.samples, np.zeros(30, dtype=bool)) == 0
    assert game.meter.cost == 0


@pytest.mark.parametrize("unit", ["features", "cells"])
@pytest.mark.parametrize("name", ["first_order", "jackknife", "integrated"])
def test_of_a_linear_effect_products_share_out_the_whole(
    parts: Parts, unit: Unit, name: str
) -> None:
    game = Game(parts, linear(), 1.7)
    total = float(attribute(name, game, unit).scores.sum())
    assert total == pytest.approx(full_effect(game, unit), rel=1e-3)


@pytest.mark.parametrize("name", ["leave_one_out", "shapley"])
def test_in_an_additive_game_a_measured_feature_is_owed_its_own_term(
    parts: Parts, name: str
) -> None:
    game = Game(parts, linear(), 1.7, budget=1)
    exact = attribute("first_order", game, "features").scores
    found = attribute(name, game, "features").scores
    torch.testing.assert_close(found, exact, atol=1e-3, rtol=1e-3)


def test_of_a_linear_effect_the_jackknife_is_leave_one_out(parts: Parts) -> None:
    game = Game(parts, linear())
    exact = attribute("leave_one_out", game).scores
    found = attribute("jackknife", game).scores * 30 / 29
    torch.testing.assert_close(found, exact, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("unit", ["samples", "features", "cells"])
def test_integrated_gradients_sum_to_the_effect_of_a_curved_one(parts: Parts, unit: Unit) -> None:
    game = Game(parts, curved(), 0.5)
    total = float(attribute("integrated", game, unit).scores.sum())
    assert total == pytest.approx(full_effect(game, unit), rel=1e-3)


@pytest.mark.parametrize("name", ["first_order", "jackknife", "integrated"])
def test_cells_sum_to_their_features(parts: Parts, name: str) -> None:
    game = Game(parts, curved(), 0.5)
    cells = attribute(name, game, "cells").scores
    features = attribute(name, game, "features").scores
    torch.testing.assert_close(cells.sum(0), features, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("unit", ["samples", "features"])
def test_shapley_values_sum_to_the_full_effect_within_the_truncation(
    parts: Parts, unit: Unit
) -> None:
    game = Game(parts, curved(), 0.5, budget=100)
    whole = full_effect(game, unit)
    total = float(attribute("shapley", game, unit).scores.sum())
    assert abs(total - whole) <= 0.011 * abs(whole)


def test_shapley_values_of_two_samples_are_those_of_the_definition() -> None:
    rows = torch.stack([direction(1), direction(2)])
    game = Game(Parts(("a", "b"), rows), curved(), budget=400)
    alone = [game.meter.effect(row) for row in rows]
    both = game.meter.effect(rows.mean(0))
    exact = [(alone[0] + both - alone[1]) / 2, (alone[1] + both - alone[0]) / 2]
    found = attribute("shapley", game).scores
    assert found.tolist() == pytest.approx(exact, abs=0.15 * max(map(abs, exact)))


@pytest.mark.parametrize("name", ["ridge", "lasso"])
def test_a_datamodel_recovers_a_linear_game(parts: Parts, name: str) -> None:
    game = Game(parts, linear(), budget=200)
    exact = attribute("first_order", game).scores
    found = attribute(name, game).scores
    assert torch.corrcoef(torch.stack([found, exact]))[0, 1] > 0.995
    of_features = attribute(name, game, "features").scores
    exact = attribute("first_order", game, "features").scores
    torch.testing.assert_close(of_features, exact, atol=0.1 * float(exact.abs().max()), rtol=0.0)


def test_a_datamodel_of_an_effect_that_is_always_the_same_owes_nothing(parts: Parts) -> None:
    constant = Meter(lambda _: np.ones(3), torch.zeros_like)
    for name in ("ridge", "lasso"):
        assert not attribute(name, Game(parts, constant, budget=20)).scores.any()


@pytest.mark.parametrize(("unit", "name"), EQUIVARIANT)
def test_scores_move_with_their_parts(parts: Parts, unit: Unit, name: str) -> None:
    assert parts.features is not None and parts.decoder is not None
    rows = torch.randperm(30, generator=torch.Generator().manual_seed(5))
    columns = torch.randperm(40, generator=torch.Generator().manual_seed(6))
    moved = Parts(
        tuple(parts.sample_ids[i] for i in rows.tolist()),
        parts.residual[rows],
        parts.features[rows][:, columns],
        parts.decoder[columns],
    )
    before = attribute(name, Game(parts, curved(), 0.5), unit).scores
    after = attribute(name, Game(moved, curved(), 0.5), unit).scores
    expected = {
        "samples": lambda: before[rows],
        "features": lambda: before[columns],
        "cells": lambda: before[rows][:, columns],
    }[unit]()
    torch.testing.assert_close(after, expected, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize(
    ("name", "cost"),
    [
        ("first_order", GRADIENT_COST),
        ("jackknife", GRADIENT_COST),
        ("integrated", 5 * GRADIENT_COST),
        ("leave_one_out", 31),
        ("ridge", 50),
        ("lasso", 50),
        ("cosine", 0),
        ("norm", 0),
        ("random", 0),
    ],
)
def test_an_estimator_costs_what_it_asks(parts: Parts, name: str, cost: int) -> None:
    game = Game(parts, linear(), budget=50)
    game.meter.effect(direction())  # somebody else's question
    assert attribute(name, game).cost == cost


def test_truncation_saves_shapley_evaluations(parts: Parts) -> None:
    steady = Parts(parts.sample_ids, direction().expand(30, D_MODEL).clone())
    found = attribute("shapley", Game(steady, linear(), budget=1))
    assert found.cost == 1 + 5  # the full vector, and patience


def test_what_cannot_be_attributed_is_refused_with_the_way_out(dense_parts: Parts) -> None:
    game = Game(dense_parts, linear(), budget=3)
    with pytest.raises(SelectionError, match="choose from first_order"):
        attribute("tarot", game)
    with pytest.raises(SelectionError, match="attributes to cells"):
        attribute("shapley", game, "cells")
    with pytest.raises(SelectionError, match="no SAE features"):
        attribute("first_order", game, "features")
    with pytest.raises(SelectionError, match="10 subsets or more"):
        attribute("ridge", game)


def test_a_margins_meter_measures_what_a_steering_vector_does(tiny_model: LanguageModel) -> None:
    point = HookPoint(1, "hook_resid_post")
    ask = ({"role": "user", "content": "What is the answer?"},)
    pairs = [
        Sample(str(i), "b", ask, f"Yes, {w}.", f"No {w}") for i, w in enumerate(["fox", "dog"])
    ]
    margin = Margin(tiny_model, pairs, point)
    meter = Meter(partial(margin_effects, margin), margin.gradient)
    vector = torch.randn(16, generator=torch.Generator().manual_seed(0))
    change = SteeringVector(vector, point).edit(0.5)
    assert change is not None
    np.testing.assert_allclose(meter.effects(0.5 * vector), margin.effects(change), atol=1e-6)
    torch.testing.assert_close(meter.gradient(vector), margin.gradient(vector))
    assert meter.cost == 1 + GRADIENT_COST
