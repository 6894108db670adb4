"""One surface of samples, features and effect: its front, and its rows."""

import math

from hypothesis import given
from hypothesis import strategies as st

from trimtab.selector.exploration.surface import Candidate, Method, pareto, surface_rows
from trimtab.selector.parts import Choice


def candidate(
    number: int, effect: float, samples: int, features: int, method: Method = "search"
) -> Candidate:
    own = range(10 * number, 10 * number + samples)
    choice = Choice(tuple(own), tuple(range(features)) if features else None)
    return Candidate("mean", choice, effect, str(number), method)


sizes = st.tuples(st.integers(0, 4), st.integers(1, 4), st.integers(0, 3))


@given(st.lists(sizes, max_size=25))
def test_the_pareto_front_is_what_nothing_beats(found: list[tuple[int, int, int]]) -> None:
    candidates = [candidate(i, float(e), s, f) for i, (e, s, f) in enumerate(found)]

    def beats(one: Candidate, other: Candidate) -> bool:
        a, b = (
            (one.effect, -one.size[0], -one.size[1]),
            (other.effect, -other.size[0], -other.size[1]),
        )
        return a != b and all(x >= y for x, y in zip(a, b, strict=True))

    front = pareto(candidates)
    assert all(not beats(other, one) for one in front for other in candidates)
    kept = {(c.effect, c.size) for c in front}
    for one in candidates:
        if not any(beats(other, one) for other in candidates):
            assert (one.effect, one.size) in kept
    assert bool(front) == bool(candidates)


def test_the_same_choice_stands_once_on_the_front() -> None:
    assert len(pareto([candidate(0, 1.0, 2, 2), candidate(0, 1.0, 2, 2)])) == 1


def test_size_is_the_number_of_the_receipts_rows() -> None:
    assert candidate(0, 1.0, 3, 4).log_rows == math.log(12)
    assert candidate(0, 1.0, 3, 0).log_rows == math.log(3)


def test_rows_say_what_is_on_the_front_and_what_was_judged_and_taken() -> None:
    small, large, beaten = (
        candidate(0, 0.5, 1, 2, "gates"),
        candidate(1, 0.9, 2, 3),
        candidate(2, 0.4, 2, 3),
    )
    rows = surface_rows([small, large, beaten], {small: 0.75}, chosen=small, strongest=large)
    assert [row["front"] for row in rows] == [True, True, False]
    assert [row["behavior_rate"] for row in rows] == [0.75, None, None]
    assert [row["chosen"] for row in rows] == [True, False, False]
    assert [row["strongest"] for row in rows] == [False, True, False]
    assert [row["method"] for row in rows] == ["gates", "search", "search"]


def test_random_choices_stand_beside_the_front_and_keep_nothing_off_it() -> None:
    drawn, found = candidate(0, 0.9, 1, 1, "random"), candidate(1, 0.5, 2, 2)
    assert [row["front"] for row in surface_rows([drawn, found], {})] == [False, True]


def test_a_dense_choice_has_no_number_of_features() -> None:
    (row,) = surface_rows([candidate(0, 1.0, 2, 0)], {})
    assert row["features"] is None
