"""Controls beside the exported vector: every draw counts, and none that cannot be measured."""

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor

from trimtab.errors import VectorError
from trimtab.selector.exploration.surface import Candidate
from trimtab.selector.parts import Choice, Parts
from trimtab.selector.proof import controls as proof
from trimtab.selector.proof.controls import draws_as_good, measure_controls
from trimtab.selector.proof.evaluate import Outcome

DRAWS = 4


def outcome(effects: list[list[float]], shown: list[list[float]]) -> Outcome:
    return Outcome(np.array(effects), np.array(shown), None, ())


def test_draws_that_do_as_much_are_counted_one_by_one() -> None:
    minimal = outcome([[1.0], [3.0]], [[1.0], [0.0]])
    control = outcome([[0.0, 2.0, 5.0], [0.0, 2.0, 5.0]], [[0, 1, 0], [0, 1, 0]])
    assert draws_as_good(minimal, control) == {"of": 3, "effect": 2, "behavior_rate": 1}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Tensor, float | None]]:
    """What was calibrated, and near what."""
    monkeypatch.setattr(proof, "measure", lambda _, __, directions: len(directions))
    monkeypatch.setattr(proof, "measure_unsteered", lambda *_: 1)
    monkeypatch.setattr(proof, "lexical_vector", lambda *_, **__: None)
    monkeypatch.setattr(proof, "examples_to_show", lambda _: [])
    return []


def controls(
    asked: list[tuple[Tensor, float | None]], parts: Parts, unreachable: set[int]
) -> tuple[dict[str, Any], dict[str, str]]:
    def calibrate(direction: Tensor, _: Any, *, meter: str, near: float | None) -> Any:
        asked.append((direction, near))
        if len(asked) in unreachable:
            raise VectorError("no multiplier reaches the damage budget")
        return SimpleNamespace(multiplier=float(len(asked)))

    bench = SimpleNamespace(calibrate=calibrate, model=None, hook_point=None, chat=1, system=0)
    material = SimpleNamespace(pools={"mean": parts}, select=())
    return measure_controls(
        cast(Any, bench),
        cast(Any, SimpleNamespace(damage=None)),
        cast(Any, material),
        "mean",
        Candidate("mean", Choice((1, 2), (3, 4, 5)), 1.0, "", "search"),
        torch.ones(12),
        draws=DRAWS,
        seed=0,
        say=lambda *_: None,
    )


def test_draws_of_one_control_start_where_the_last_one_ended(
    asked: list[tuple[Tensor, float | None]], parts: Parts
) -> None:
    found, absent = controls(asked, parts, set())
    assert found["random_samples"] == found["random_dictionary"] == DRAWS
    assert absent == {}
    kinds = [1, 1, *[DRAWS] * 5]
    assert len(asked) == sum(kinds)
    start = 0
    for count in kinds:
        nears = [near for _, near in asked[start : start + count]]
        assert nears == [None, *(float(start + i) for i in range(1, count))]
        start += count


def test_a_draw_that_reaches_no_budget_is_left_out_and_a_control_of_none_is_absent(
    asked: list[tuple[Tensor, float | None]], parts: Parts
) -> None:
    found, absent = controls(asked, parts, {2, 4})
    assert "full_sae" not in found
    assert absent == {"full_sae": "no multiplier reaches the damage budget"}
    assert found["random_samples"] == DRAWS - 1
