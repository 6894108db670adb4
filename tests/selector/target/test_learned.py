"""The mixture: fitted without negative weights, judged on vectors that it did not see."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from trimtab.selector.ranks import spearman
from trimtab.selector.target.learned import fit, mixture, predicted
from trimtab.selector.target.surrogate import Surrogate

WEIGHTS = {"dataset": 2.0, "own_replies": 0.5, "projection": 0.0}
DIRECTION = torch.arange(16.0)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 999))
def test_weights_are_never_negative_and_a_change_of_units_changes_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    effects, rates = rng.normal(size=(20, 3)), rng.uniform(size=20)
    weights = fit(effects, rates)
    assert (weights >= 0).all()
    units = np.array([10.0, 0.1, 3.0])
    np.testing.assert_allclose(fit(effects * units, rates) * units, weights, atol=1e-6)


def test_what_predicts_the_rates_gets_the_weight() -> None:
    rng = np.random.default_rng(0)
    effects = rng.normal(size=(60, 3))
    rates = 0.5 + 0.1 * effects[:, 0] + 0.05 * effects[:, 1] - 0.1 * effects[:, 2]
    weights = fit(effects, rates)
    assert weights[0] > weights[1] > 0
    assert weights[2] == pytest.approx(0, abs=1e-9)  # used against its meaning, it is not used
    without = effects[:, :2]
    assert spearman(predicted(without, without @ [0.1, 0.05]), without @ [0.1, 0.05]) > 0.95


def test_a_prediction_never_sees_the_vector_that_it_is_for() -> None:
    rng = np.random.default_rng(1)
    effects, rates = rng.normal(size=(12, 2)), rng.uniform(size=12)
    before = predicted(effects, rates)
    changed = rates.copy()
    changed[4] += 10
    after = predicted(effects, changed)
    assert after[4] == pytest.approx(before[4])
    assert np.abs(after - before).max() > 0.1
    chance = np.mean([
        spearman(predicted(rng.normal(size=(20, 4)), noise), noise)
        for noise in rng.uniform(size=(20, 20))
    ])  # fmt: skip
    assert chance < 0.15  # nothing is learnt from noise


def test_the_mixtures_effect_and_gradient_are_weighted_sums(
    plain_surrogate: Callable[..., Surrogate],
) -> None:
    asked: list[str] = []

    def says(name: str, value: float) -> Callable[[Tensor], float]:
        def say(direction: Tensor) -> float:
            asked.append(name)
            return value * float(direction.sum())

        return say

    members = [
        plain_surrogate("dataset", says("dataset", 0.1), torch.ones(16)),
        plain_surrogate("own_replies", says("own_replies", 0.2)),
        plain_surrogate("projection", says("projection", 5.0), torch.zeros(16)),
    ]
    mixed = mixture(members, WEIGHTS)
    assert mixed.name == "learned"
    assert mixed.effect(DIRECTION) == pytest.approx((2 * 0.1 + 0.5 * 0.2) * 120)
    assert set(asked) == {"dataset", "own_replies"}  # what has no weight is not measured
    assert mixed.gradient is not None
    assert torch.equal(mixed.gradient(DIRECTION), 2 * torch.ones(16))  # own replies had none here


def test_the_mixtures_parts_are_its_groups() -> None:
    one = Surrogate("dataset", lambda _: np.array([1.0, 2.0, 6.0]), ["a", "a", "b"])
    other = Surrogate("own_replies", lambda _: np.array([4.0, 8.0]), ["b", "c"])
    mixed = mixture([one, other], WEIGHTS)
    assert list(mixed.groups) == ["a", "b", "c"]
    np.testing.assert_allclose(mixed.effects(DIRECTION), 3 * np.array([2.0, 5.0, 2.0]))
    assert mixed.effect(DIRECTION) == pytest.approx(2 * one.effect(DIRECTION) + 0.5 * 6.0)
    assert mixed.gradient is None


def test_a_mixture_of_one_surrogate_ranks_as_the_surrogate_does() -> None:
    rng = np.random.default_rng(0)
    alone, mixed = [], []
    for _ in range(60):
        rates = rng.normal(size=12)
        effects = 0.6 * rates + 0.8 * rng.normal(size=12)
        alone.append(float(spearman(effects, rates)))
        mixed.append(float(spearman(predicted(effects[:, None], rates), rates)))
    # a fit that turns the surrogate off ranks by chance, so a little is lost
    assert np.nanmean(mixed) == pytest.approx(np.mean(alone), abs=0.1)
