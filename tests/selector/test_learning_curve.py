"""How many samples are needed: planted curves are found again, and nothing is made up."""

import json
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from trimtab.errors import VectorError
from trimtab.selector.learning_curve import (
    BEYOND,
    DRAWS,
    SHARE,
    curve,
    fit,
    learning_curve,
    subset_sizes,
)
from trimtab.selector.report import how_many

Floats = NDArray[np.float64]
GROUPS = [f"g{i // 2}" for i in range(24)]


def planted(
    asymptote: float, noise: float, *, jitter: float = 0.0
) -> Callable[[tuple[int, ...]], Floats]:
    """Effects that follow the curve, a little apart from pair to pair and from draw to draw."""
    rng = np.random.default_rng(0)

    def effects(kept: tuple[int, ...]) -> Floats:
        mean = float(curve(np.array([float(len(kept))]), asymptote, noise)[0])
        apart: Floats = 1 + 0.05 * rng.normal(size=24)
        found: Floats = mean * apart + jitter * rng.normal() / len(kept) ** 0.5
        return found

    return effects


@settings(max_examples=40, deadline=None)
@given(n=st.integers(1, 5000))
def test_sizes_double_up_to_the_whole(n: int) -> None:
    sizes = subset_sizes(n)
    assert sizes[0] == 1 and sizes[-1] == n
    assert all(a < b <= 2 * a for a, b in pairwise(sizes))


def test_eighty_samples_take_about_thirty_evaluations() -> None:
    asked: list[tuple[int, ...]] = []

    def effects(kept: tuple[int, ...]) -> Floats:
        asked.append(kept)
        return np.ones(24)

    learning_curve(80, effects, GROUPS)
    assert len(asked) == DRAWS * (len(subset_sizes(80)) - 1) + 1 == 29
    assert all(len(set(kept)) == len(kept) and max(kept) < 80 for kept in asked)


@settings(max_examples=40, deadline=None)
@given(asymptote=st.floats(0.01, 5), noise=st.floats(0.05, 50))
def test_the_curve_that_made_the_points_is_found(asymptote: float, noise: float) -> None:
    sizes = np.repeat([1.0, 2, 4, 8, 16, 32, 64], 2)
    found = fit(sizes, curve(sizes, asymptote, noise))
    assert list(found) == [pytest.approx(asymptote, rel=0.01), pytest.approx(noise, rel=0.03)]


def test_a_draw_gone_wild_hardly_moves_the_curve() -> None:
    sizes = np.repeat([1.0, 2, 4, 8, 16, 32, 64], 4)
    effects = curve(sizes, 1.0, 3.0)
    effects[9] = -1.0
    asymptote, _ = fit(sizes, effects)
    assert asymptote == pytest.approx(1.0, rel=0.1)


def test_the_number_needed_is_where_the_curve_reaches_its_share() -> None:
    found = learning_curve(80, planted(0.4, 5.0), GROUPS)
    assert found.asymptote.value == pytest.approx(0.4, rel=0.05)
    assert found.noise is not None and found.asymptote.value is not None
    for needed, whole in (
        (found.needed, float(curve(np.array([80.0]), found.asymptote.value, found.noise)[0])),
        (found.needed_of_asymptote, found.asymptote.value),
    ):
        assert needed.value is not None and needed.low is not None and needed.high is not None
        assert needed.low <= needed.value <= needed.high
        reached = curve(np.array([needed.value]), found.asymptote.value, found.noise)
        assert reached[0] == pytest.approx(SHARE * whole, rel=1e-6)
    assert found.needed.value <= 80  # type: ignore[operator]
    assert found.misfit is not None and found.misfit < 0.03


def test_noisy_draws_widen_the_interval() -> None:
    calm = learning_curve(64, planted(0.4, 5.0, jitter=0.01), GROUPS).needed
    wild = learning_curve(64, planted(0.4, 5.0, jitter=0.3), GROUPS).needed
    assert wild.high - wild.low > calm.high - calm.low  # type: ignore[operator]


def test_a_curve_that_does_not_flatten_promises_no_number() -> None:
    found = learning_curve(40, planted(4.0, 20000.0), GROUPS)
    assert found.needed_of_asymptote.value is None
    assert f"{40 * BEYOND:,}" in str(found.needed_of_asymptote.reason)
    assert "any number could is unknown" in how_many(found.to_json())
    assert found.needed.value is not None


@pytest.mark.parametrize("effect", [-0.2, 0.0])
def test_without_an_effect_there_is_nothing_to_reach(effect: float) -> None:
    rng = np.random.default_rng(0)
    found = learning_curve(40, lambda _: effect + 0.01 * rng.normal(size=24), GROUPS)
    assert (found.needed.value, found.noise) == (None, None)
    assert "not clear of zero" in str(found.needed.reason)
    assert how_many(found.to_json()).startswith("How many samples are needed cannot be said")
    assert [point.n for point in found.points] == subset_sizes(40)


def test_a_few_samples_or_groups_are_too_few_for_a_curve() -> None:
    assert "three sizes" in str(learning_curve(2, planted(1, 1), GROUPS).needed.reason)
    assert "groups" in str(learning_curve(40, planted(1, 1), ["one"] * 24).needed.reason)


def test_draws_that_nothing_brings_to_the_budget_are_left_out() -> None:
    effects = planted(0.4, 5.0)
    count = 0

    def failing(kept: tuple[int, ...]) -> Floats:
        nonlocal count
        count += 1
        if count <= DRAWS + 1:
            raise VectorError("nothing reaches the budget")
        return effects(kept)

    found = learning_curve(40, failing, GROUPS)
    assert [(p.n, p.draws) for p in found.points][:2] == [(2, DRAWS - 1), (4, DRAWS)]
    assert found.needed.value is not None


def test_a_curve_is_the_same_again_and_survives_json() -> None:
    one, two = (learning_curve(40, planted(0.4, 5.0, jitter=0.1), GROUPS) for _ in range(2))
    assert one.to_json() == two.to_json() == json.loads(json.dumps(one.to_json()))


def test_the_sentence_counts_in_whole_samples() -> None:
    found = learning_curve(80, planted(0.4, 5.0), GROUPS)
    sentence = how_many(found.to_json())
    assert sentence.startswith("About ")
    assert "random samples give 95 % of the effect of all 80;" in sentence
    assert "." not in sentence.rstrip(".").replace("95 %", "")
