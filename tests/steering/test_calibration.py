"""Calibration finds the multiplier that does a given damage, or says that there is none."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from trimtab.errors import VectorError
from trimtab.model.hook_points import HookPoint
from trimtab.model.language_model import LanguageModel
from trimtab.model.sae import SAE
from trimtab.steering.apply import Edit, Steering
from trimtab.steering.calibration import TOLERANCE, calibrate
from trimtab.steering.clamp import FeatureClamp
from trimtab.steering.damage import Damage, Divergence
from trimtab.steering.positions import Positions
from trimtab.steering.vector import SteeringVector

POINT = HookPoint(1, "hook_resid_post")
TEXTS = ["The quick brown fox jumps over the lazy dog.", "What is the answer to the question?"]


@dataclass
class Dial:
    """A steering whose edit hands out its multiplier."""

    hook_point: HookPoint = POINT
    positions: Positions = "all"

    def edit(self, multiplier: float) -> Edit:
        return lambda x: x + multiplier


class Meter:
    """Damage as a known function of the multiplier."""

    def __init__(self, kl: Callable[[float], float]) -> None:
        self.kl = kl
        self.asked: list[float] = []

    def __call__(self, change: Edit) -> Divergence:
        multiplier = float(change(torch.zeros((), dtype=torch.float64)))
        self.asked.append(multiplier)
        return Divergence(self.kl(multiplier), 2 * self.kl(multiplier))


def measured(kl: Callable[[float], float]) -> tuple[Steering, Damage, Meter]:
    meter = Meter(kl)
    return Dial(), cast(Damage, meter), meter


@given(
    scale=st.floats(1e-3, 1e1),
    power=st.floats(1.0, 6.0),
    ceiling=st.floats(2.0, 20.0),
    budget=st.floats(1e-3, 1.5),
    start=st.floats(1e-2, 1e2),
)
def test_the_budget_is_hit_whatever_the_curve_and_the_start(
    scale: float, power: float, ceiling: float, budget: float, start: float
) -> None:
    def kl(multiplier: float) -> float:
        return ceiling * -math.expm1(-((scale * multiplier) ** power) / ceiling)

    dial, damage, meter = measured(kl)
    found = calibrate(dial, damage, budget, start=start)
    assert found.damage == Divergence(kl(found.multiplier), 2 * kl(found.multiplier))
    assert abs(math.log(found.damage.mean / budget)) <= TOLERANCE
    assert found.multiplier > 0
    assert found.curve == tuple(sorted((m, kl(m)) for m in set(meter.asked)))
    assert len(meter.asked) == len(set(meter.asked))  # nothing is measured twice


def test_a_quadratic_takes_few_measurements() -> None:
    dial, damage, meter = measured(lambda m: 3e-4 * m * m)
    calibrate(dial, damage, 0.1)
    assert len(meter.asked) == 2


@pytest.mark.parametrize(
    "kl",
    [
        lambda _: 0.0,  # does nothing
        lambda m: 0.01 * math.tanh(m),  # saturates below the budget
        lambda m: 0.5 + m,  # as a clamp far from what is there: even a breath is too much
        lambda _: float("nan"),
    ],
)
def test_a_budget_out_of_reach_is_an_error(kl: Callable[[float], float]) -> None:
    dial, damage, _ = measured(kl)
    with pytest.raises(VectorError, match="no multiplier reaches the damage budget"):
        calibrate(dial, damage, 0.1)


def test_a_curve_that_jumps_over_the_budget_is_an_error_and_no_false_answer() -> None:
    dial, damage, _ = measured(lambda m: 0.01 * m if m < 3 else 5.0)
    with pytest.raises(VectorError, match="no multiplier reaches the damage budget"):
        calibrate(dial, damage, 0.1)


@pytest.mark.parametrize("budget", [0.0, -0.1, float("nan")])
def test_a_budget_that_is_not_positive_is_refused(budget: float) -> None:
    dial, damage, _ = measured(lambda m: m * m)
    with pytest.raises(VectorError, match="budget"):
        calibrate(dial, damage, budget)


@pytest.mark.parametrize("budget", [0.01, 0.1, 0.5])
def test_a_vector_in_a_model_reaches_its_budget(tiny_model: LanguageModel, budget: float) -> None:
    damage = Damage(tiny_model, POINT, TEXTS)
    for seed in range(3):
        direction: Tensor = torch.randn(16, generator=torch.Generator().manual_seed(seed))
        vector = SteeringVector(direction, POINT)
        found = calibrate(vector, damage, budget)
        assert found.damage.mean == pytest.approx(budget, rel=TOLERANCE + 1e-3)
        assert damage(vector.edit(found.multiplier)) == found.damage


def test_a_clamp_can_be_calibrated_too(tiny_model: LanguageModel, tiny_sae: SAE) -> None:
    damage = Damage(tiny_model, tiny_sae.hook_point, TEXTS)
    clamp = FeatureClamp(tiny_sae, {3: 1.0})
    found = calibrate(clamp, damage, 0.3)
    assert found.damage.mean == pytest.approx(0.3, rel=TOLERANCE + 1e-3)
    assert damage(clamp.edit(found.multiplier)) == found.damage
