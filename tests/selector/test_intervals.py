"""Estimates whose intervals can be trusted, and none where there is nothing to estimate."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trimtab.pairs import Sample, balanced_groups
from trimtab.selector.intervals import (
    Estimate,
    mean_estimate,
    rate_difference,
    rate_estimate,
    ratio_estimate,
    share_estimate,
)


def singles(n: int) -> list[str]:
    return [str(i) for i in range(n)]


def test_a_means_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(200):
        found = mean_estimate(rng.normal(1.0, 2.0, size=40), singles(40))
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= 1.0 <= found.high
    assert 175 <= covered <= 199  # 95 %, less a little for forty samples


@pytest.mark.parametrize("n_negative", [20, 40])
def test_what_moves_both_sides_of_unpaired_texts_alike_does_not_widen_an_interval(
    n_negative: int,
) -> None:
    rng = np.random.default_rng(0)
    n = 40 + n_negative
    signs = np.array([1.0] * 40 + [-1.0] * n_negative)
    weights = signs * n / np.where(signs > 0, 40, n_negative)  # a margin's
    noise = rng.normal(0.3, 0.5, n) * weights
    texts = [
        Sample(str(i), "b", (), "Yes." if s > 0 else None, None if s > 0 else "No.", str(i))
        for i, s in enumerate(signs)
    ]
    groups = balanced_groups(texts)
    still, shifted = mean_estimate(noise, groups), mean_estimate(noise + 3 * weights, groups)
    assert (shifted.low, shifted.high) == pytest.approx((still.low, still.high))


def test_whole_groups_are_resampled() -> None:
    rng = np.random.default_rng(0)
    values = np.repeat(rng.normal(size=10), 8)  # eight copies each: ten facts and not eighty
    groups = [f"group {i // 8}" for i in range(80)]
    by_group, by_value = mean_estimate(values, groups), mean_estimate(values, singles(80))
    assert by_group.value == by_value.value == pytest.approx(values.mean())

    def width(found: Estimate) -> float:
        assert found.low is not None
        assert found.high is not None
        return found.high - found.low

    assert width(by_group) > 2 * width(by_value)


def test_the_same_call_gives_the_same_interval() -> None:
    values = np.random.default_rng(0).normal(size=20)
    assert mean_estimate(values, singles(20)) == mean_estimate(values, singles(20))


@pytest.mark.parametrize(("values", "value"), [([], None), ([2.0], 2.0), ([1.0, 3.0], 2.0)])
def test_one_group_has_a_mean_and_no_interval(values: list[float], value: float | None) -> None:
    found = mean_estimate(np.array(values), ["only"] * len(values))
    assert (found.value, found.low, found.high) == (value, None, None)
    assert found.reason is not None
    assert "5 groups" in found.reason
    assert not found.clear_of_zero


def test_wilsons_interval_is_honest_at_both_ends() -> None:
    none, all_ = share_estimate(0, 20), share_estimate(20, 20)
    assert (none.value, none.low) == (0.0, 0.0)
    assert none.high == pytest.approx(0.1611, abs=1e-3)
    assert (all_.value, all_.high) == (1.0, 1.0)
    assert all_.low == pytest.approx(1 - 0.1611, abs=1e-3)
    assert share_estimate(10, 40).low == pytest.approx(0.1419, abs=1e-3)


@given(st.integers(0, 60), st.integers(1, 60))
def test_a_share_lies_within_its_interval(successes: int, trials: int) -> None:
    successes = min(successes, trials)
    found = share_estimate(successes, trials)
    assert found.low is not None
    assert found.high is not None
    assert 0 <= found.low <= successes / trials <= found.high <= 1
    assert found.high - found.low > 0


def test_of_nothing_there_is_no_share() -> None:
    assert share_estimate(0, 0) == Estimate(None, reason="nothing was counted")


@settings(deadline=None, max_examples=25)
@given(st.floats(0.2, 3.0))
def test_a_ratio_of_proportional_columns_is_exact(factor: float) -> None:
    whole = np.random.default_rng(0).normal(5.0, 1.0, size=30)
    found = ratio_estimate(factor * whole, whole, singles(30), what="the whole")
    assert found.value == pytest.approx(factor)
    assert found.low == pytest.approx(factor)
    assert found.high == pytest.approx(factor)


def test_a_ratio_to_what_may_be_nothing_is_null_with_the_reason() -> None:
    whole = np.random.default_rng(0).normal(0.0, 1.0, size=30)
    found = ratio_estimate(np.ones(30), whole, singles(30), what="the whole")
    assert (found.value, found.low, found.high) == (None, None, None)
    assert found.reason == "the interval of the whole includes zero"
    nothing = ratio_estimate(np.array([]), np.array([]), [], what="the whole")
    assert nothing.value is None


def test_a_ratio_to_a_negative_whole_is_given() -> None:
    whole = np.random.default_rng(0).normal(-5.0, 1.0, size=30)
    assert ratio_estimate(0.5 * whole, whole, singles(30), what="it").value == pytest.approx(0.5)


def test_the_reason_is_written_only_where_there_is_one() -> None:
    assert Estimate(1.0, 0.5, 1.5).to_json() == {"value": 1.0, "low": 0.5, "high": 1.5}
    without = Estimate(None, reason="because").to_json()
    assert json.loads(json.dumps(without)) == {
        "value": None,
        "low": None,
        "high": None,
        "reason": "because",
    }


@pytest.mark.parametrize(
    ("low", "high", "clear"), [(0.1, 0.2, True), (-0.2, -0.1, True), (-0.1, 0.2, False)]
)
def test_an_interval_is_clear_of_zero_on_either_side(low: float, high: float, clear: bool) -> None:
    assert Estimate(0.0, low, high).clear_of_zero is clear


def test_the_interval_of_a_random_control_covers_the_spread_of_its_draws() -> None:
    values = np.tile([0.0, 1.0, 2.0], (40, 1))  # draws that differ, samples that do not
    found = mean_estimate(values, singles(40))
    assert found.value == pytest.approx(1.0)
    assert found.low is not None
    assert found.high is not None
    assert found.low < 0.5 < 1.5 < found.high


@pytest.mark.parametrize("k", [3, 5, 20])
@pytest.mark.parametrize("of_draws", [0.0, 0.3, 2.0])
def test_a_control_of_few_draws_is_covered_as_often_as_it_says(k: int, of_draws: float) -> None:
    rng = np.random.default_rng(0)
    held = []
    for _ in range(200):
        drawn = of_draws * rng.normal(size=k) + rng.normal(size=(30, 1)) + rng.normal(size=(30, k))
        found = mean_estimate(drawn, singles(30))
        held.append(found.low <= 0 <= found.high)  # type: ignore[operator]
    assert np.mean(held) > 0.9  # draws that are only resampled: 0.7 for 3


def test_a_ratio_of_shares_is_finite_though_a_resample_may_hold_none_of_the_whole() -> None:
    whole = np.array([1.0] * 4 + [0.0] * 4)
    found = ratio_estimate(whole * [1, 1, 0, 1, 1, 1, 1, 1], whole, singles(8), what="it")
    assert found.value == pytest.approx(3 / 4)
    assert found.high is not None and np.isfinite(found.high)


def test_few_groups_are_covered_as_often_as_many() -> None:
    rng = np.random.default_rng(0)
    for n in (5, 8, 20):
        groups = [str(i) for i in range(n)]
        samples = rng.normal(size=(300, n))
        found = [mean_estimate(one, groups) for one in samples]
        held = np.mean([e.low <= 0 <= e.high for e in found])  # type: ignore[operator]
        assert 0.88 <= held <= 0.985, n  # plain percentiles: 0.87, 0.89, 0.95


def test_a_difference_that_is_the_same_on_every_question_is_no_certainty() -> None:
    groups = [str(i) for i in range(8)]
    all_of_them, none = np.ones((8, 1)), np.zeros((8, 1))
    found = rate_difference(all_of_them, none, groups)
    assert found.value == found.high == 1.0
    assert 0.4 < found.low < 0.8  # type: ignore[operator]
    same = rate_difference(none, none, groups)
    assert same.value == 0.0
    assert same.low == pytest.approx(-same.high)  # type: ignore[operator]
    assert 0.2 < same.high < 0.5  # type: ignore[operator]


def test_a_rate_over_grouped_questions_is_less_sure_than_over_as_many_that_stand_alone() -> None:
    shown = np.repeat(np.arange(10) % 2, 4).astype(float)
    alone = rate_estimate(shown, [str(i) for i in range(40)])
    grouped = rate_estimate(shown, [str(i // 4) for i in range(40)])
    assert alone.value == grouped.value == 0.5
    assert grouped.high - grouped.low > 1.5 * (alone.high - alone.low)  # type: ignore[operator]
    certain = rate_estimate(np.ones((40, 3)), [str(i // 4) for i in range(40)])
    assert certain.low == pytest.approx(share_estimate(10, 10).low)
