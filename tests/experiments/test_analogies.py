"""Maps say no more than their rows do, and correlations know how few cells they have."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.analogies import table
from experiments.analogies.maps import linear, orthogonal
from experiments.analogies.transfer import MIN_BEHAVIORS, rank_correlation

SEEDS = st.integers(0, 2**32 - 1)


@given(SEEDS)
def test_an_orthogonal_map_turns_rows_into_those_that_are_turned(seed: int) -> None:
    rng = np.random.default_rng(seed)
    turn, _ = np.linalg.qr(rng.standard_normal((12, 12)))
    x = rng.standard_normal((4, 12))
    np.testing.assert_allclose(orthogonal(x, x @ turn, x[0]), x[0] @ turn, atol=1e-8)


@given(SEEDS)
def test_an_orthogonal_map_drops_what_its_rows_say_nothing_of_and_lengthens_nothing(
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    x, y, at = rng.standard_normal((4, 50)), rng.standard_normal((4, 50)), rng.standard_normal(50)
    mapped = orthogonal(x, y, at)
    inside = np.linalg.lstsq(y.T, mapped, rcond=None)[0] @ y
    np.testing.assert_allclose(inside, mapped, atol=1e-8)
    of_rows = np.linalg.lstsq(x.T, at, rcond=None)[0] @ x
    np.testing.assert_allclose(orthogonal(x, y, of_rows), mapped, atol=1e-8)
    assert np.linalg.norm(mapped) <= np.linalg.norm(of_rows) * (1 + 1e-9)
    noise = 1e-12 * rng.standard_normal(x.shape)
    np.testing.assert_allclose(orthogonal(x + noise, y, at), mapped, atol=1e-6)


@given(SEEDS)
def test_a_linear_map_leads_into_the_span_of_the_second_rows(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y, at = rng.standard_normal((3, 20)), rng.standard_normal((3, 20)), rng.standard_normal(20)
    mapped = linear(x, y, at)
    inside = np.linalg.lstsq(y.T, mapped, rcond=None)[0] @ y
    np.testing.assert_allclose(inside, mapped, atol=1e-8)


def cells(count: int, noise: float, seed: int = 0) -> tuple[dict, dict]:  # type: ignore[type-arg]
    rng = np.random.default_rng(seed)
    names = [f"behavior {i}" for i in range(count)]
    true = {(a, b): float(rng.standard_normal()) for a in names for b in names if a != b}
    return true, {cell: x + noise * float(rng.standard_normal()) for cell, x in true.items()}


def test_a_perfect_prediction_correlates_fully_and_hardly_by_chance() -> None:
    true, _ = cells(MIN_BEHAVIORS, 0.0)
    estimate, chance = rank_correlation(true, {**true, ("a", "a"): 9.0}, 0)
    assert estimate.value == pytest.approx(1)
    assert estimate.low == pytest.approx(1)
    assert chance is not None
    assert chance < 0.01


def test_few_behaviors_have_a_chance_and_no_interval() -> None:
    predicted, measured = cells(5, 0.5)
    estimate, chance = rank_correlation(predicted, measured, 0)
    assert estimate.low is None
    assert "behaviours or more" in (estimate.reason or "")
    assert chance is not None
    assert 1 / 120 <= chance < 0.2


def test_chance_alone_is_seldom_called_a_correlation() -> None:
    called = 0
    for seed in range(40):
        predicted, _ = cells(5, 0.0, seed)
        measured, _ = cells(5, 0.0, 1000 + seed)
        _, chance = rank_correlation(predicted, measured, 0)
        assert chance is not None
        called += chance <= 0.05
    assert called <= 7


def test_a_constant_prediction_has_no_correlation() -> None:
    _, measured = cells(5, 0.5)
    estimate, chance = rank_correlation(dict.fromkeys(measured, 1.0), measured, 0)
    assert (estimate.value, chance) == (None, None)


def test_the_table_counts_who_clearly_steers_a_behavior_and_names_the_strongest(
    tmp_path: Path,
) -> None:
    effects = {"a": (0.5, 0.4, 0.6), "b": (0.3, 0.2, 0.4), "c": (-0.1, -0.2, -0.05), "d": None}
    rows = [
        {"from": one, "to": "a", "vector": "dense", "behavior_rate": 0.75 if one == "a" else None}
        | dict(zip(("effect", "effect_low", "effect_high"), found or [None] * 3, strict=True))
        for one, found in effects.items()
    ]
    pl.DataFrame(rows).write_parquet(tmp_path / "transfers.parquet")
    row = {"vector": "dense", "predictor": "x", "cells": 3, "chance": 0.5, "spearman": 0.1}
    pl.DataFrame([row]).write_parquet(tmp_path / "predictions.parquet")
    row = {"behavior": "a", "way": "x", "helper": "b", "effect": 0.1, "beyond_few": 0.0}
    pl.DataFrame([row]).write_parquet(tmp_path / "helped.parquet")
    shown = table.draw(tmp_path)
    assert "| a | dense | 3 | 1 | 1 | b | c | 0.50 [0.40, 0.60] | 0.30 [0.20, 0.40] |" in shown
    assert "| a | dense | 0.75 |" in shown
