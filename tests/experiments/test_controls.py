"""Random controls are like what they stand in for, and are others."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from experiments.controls import (
    NEIGHBOURS,
    as_frequent,
    as_strong,
    random_directions,
    stand_ins,
)

CHOSEN = st.sets(st.integers(0, 29), min_size=1, max_size=10)


@given(st.integers(0, 99), CHOSEN)
def test_stand_ins_are_others_that_are_near(seed: int, chosen: set[int]) -> None:
    draws = stand_ins(np.arange(30), sorted(chosen), 2, np.random.default_rng(seed))
    assert len(draws) == 2
    for drawn in draws:
        assert len(set(drawn)) == len(drawn) == len(chosen)
        assert not set(drawn) & chosen
        apart = [abs(a - b) for a, b in zip(drawn, sorted(chosen), strict=True)]
        assert max(apart) <= NEIGHBOURS + 2 * len(chosen)


@given(st.integers(0, 99), CHOSEN)
def test_random_features_are_others_that_fire_about_as_often(seed: int, chosen: set[int]) -> None:
    rates = np.where(np.arange(30) % 7 == 3, 0.0, np.linspace(0.001, 0.1, 30))
    [found] = as_frequent(rates, sorted(chosen), 1, np.random.default_rng(seed))
    assert len(set(found)) == len(found) == len(chosen)
    assert not set(found) & chosen
    assert (rates[found] > 0).all()


def test_where_others_run_out_there_are_fewer() -> None:
    usable = np.array([True, True, False, True])
    draws = stand_ins([1.0, 2.0, 3.0, 4.0], [0, 1], 1, np.random.default_rng(0), usable=usable)
    assert draws == [[3]]


@given(st.integers(0, 99), st.integers(1, 6))
def test_the_strongest_are_stood_in_for_by_as_many_others_as_are_as_strong(
    seed: int, count: int
) -> None:
    lengths = np.concatenate([np.linspace(9.0, 4.0, 6), np.full(100, 0.75), np.zeros(20)])
    chosen = list(range(count))
    for drawn in as_strong(lengths, chosen, 2, np.random.default_rng(seed)):
        assert len(set(drawn)) == len(drawn) > count or count == 1
        assert not set(drawn) & set(chosen)
        assert (lengths[drawn] > 0).all()
        assert 0 <= lengths[drawn].sum() - lengths[chosen].sum() < lengths[drawn[-1]]


def test_where_all_others_are_weaker_together_they_are_what_there_is() -> None:
    [drawn] = as_strong(np.array([9.0, 1.0, 0.0, 2.0]), [0], 1, np.random.default_rng(0))
    assert sorted(drawn) == [1, 3]


def test_random_directions_are_the_seeds() -> None:
    one, other = random_directions(8, 2, 0), random_directions(8, 2, 0)
    assert all((a == b).all() for a, b in zip(one, other, strict=True))
    assert (one[0] != one[1]).any()
