"""Which point is taken: the smallest that holds with confidence, whatever luck says."""

from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor

from trimtab.errors import SelectionError
from trimtab.pairs import Sample
from trimtab.selector.bench import Bench, Conversations
from trimtab.selector.exploration.finalists import (
    CONFIDENCE,
    MAX_PROMPTS,
    Verdict,
    choose,
    prompts_to_judge,
)
from trimtab.selector.exploration.surface import FAITHFUL, Candidate, Method
from trimtab.selector.parts import Choice, Parts

SIZE = 8
PARTS = Parts(tuple("abcdefgh"), torch.eye(SIZE))
DENSE = torch.full((SIZE,), 9.0)
PROMPTS = 80


def sample(number: int, split: str, prompt: str = "Well?") -> Sample:
    asked = ({"role": "user", "content": f"{prompt} {split} {number}"},) if prompt else ()
    return Sample(f"{split} {number}", "tone", asked, "yes", "no", f"{split} {number}")


TUNE = [sample(i, "tune").messages for i in range(PROMPTS)]
SELECT = [sample(i, "select") for i in range(SIZE)]


def candidate(samples: int, effect: float, method: Method = "search") -> Candidate:
    kept = tuple(range(samples))
    return Candidate("mean", Choice(kept), effect, f"{samples} samples", method)


class Judge:
    """Says of the reply "1" that it shows the behaviour."""

    def __init__(self, reliable: bool = True) -> None:
        self.reliable = reliable

    def shows(self, _: Conversations, replies: Sequence[str]) -> Any:
        return np.array([reply == "1" for reply in replies])


def bench(
    rates: dict[int, float], dense: float, unsteered: float, *, reliable: bool = True
) -> Bench:
    """A bench under which a vector of k samples shows the behaviour at `rates[k]`."""

    def replies(direction: Tensor | None, asked: Sequence[Any], _: float = 0.0) -> list[str]:
        if direction is None:
            rate = unsteered
        elif torch.equal(direction, DENSE):
            rate = dense
        else:
            rate = rates[int((direction != 0).sum())]
        return ["1" if i < round(rate * len(asked)) else "0" for i in range(len(asked))]

    def each(directions: Sequence[Tensor], asked: Sequence[Any], _: Any) -> list[list[str]]:
        return [replies(direction, asked) for direction in directions]

    return cast(
        Bench,
        SimpleNamespace(
            replies=replies,
            replies_each=each,
            calibrate=lambda _: SimpleNamespace(multiplier=1.0),
            judge=Judge(reliable),
        ),
    )


def chosen(
    bench: Bench,
    *some: Candidate,
    dense_effect: float = 1.0,
    prompts: Conversations = TUNE,
    tune: Sequence[Sample] = (),
    tolerance: float = 0.95,
) -> Verdict:
    return choose(
        bench,
        {"mean": PARTS},
        some,
        DENSE,
        dense_effect,
        prompts,
        tune,
        SELECT,
        tolerance=tolerance,
    )


ONE, TWO, FOUR = candidate(1, 1.0), candidate(2, 1.1), candidate(4, 1.2)


def test_the_smallest_that_clearly_keeps_the_rate_is_taken() -> None:
    verdict = chosen(bench({1: 0.3, 2: 0.85, 4: 0.9}, 0.8, 0.1), ONE, TWO, FOUR)
    assert verdict.chosen == TWO
    assert verdict.rates == pytest.approx({ONE: 0.3, TWO: 0.85, FOUR: 0.9}, abs=0.01)
    assert verdict.n_prompts == PROMPTS


def test_prompts_of_one_group_are_drawn_together_so_that_they_say_less() -> None:
    rates = bench({1: 0.7, 2: 0.9}, 0.8, 0.1)

    def holds(in_group: int) -> float:
        tune = [replace(sample(i, "tune"), group=f"{i // in_group}") for i in range(PROMPTS)]
        return float(chosen(rates, ONE, TWO, tune=tune).rows[0]["holds"])

    assert holds(1) < 0.05 < holds(10)  # a tenth too low: clear of 80 prompts, not of 8 groups


def test_a_rate_that_only_just_reaches_the_floor_is_not_enough_for_a_smaller_one() -> None:
    verdict = chosen(bench({1: 0.77, 2: 0.9}, 0.8, 0.1), ONE, TWO)
    (holds,) = [row["holds"] for row in verdict.rows if row["samples"] == 1]
    assert 0 < holds < CONFIDENCE
    assert verdict.chosen == TWO


def test_where_none_holds_surely_the_likeliest_is_taken() -> None:
    verdict = chosen(bench({1: 0.5, 2: 0.74, 4: 0.7}, 0.8, 0.1), ONE, TWO, FOUR)
    assert verdict.chosen == TWO


def test_the_floor_counts_what_is_added_and_not_the_unsteered_rate() -> None:
    verdict = chosen(bench({1: 0.62, 2: 0.9}, 0.9, 0.6), ONE, TWO, tolerance=0.6)
    assert verdict.chosen == TWO  # 0.62 is 0.69 of 0.9, but adds a fifteenth of what 0.9 adds


def test_a_vector_that_adds_nothing_never_holds_however_little_the_dense_one_adds() -> None:
    verdict = chosen(bench({1: 0.6, 2: 0.75}, 0.5, 0.6), ONE, TWO)
    (holds,) = [row["holds"] for row in verdict.rows if row["samples"] == 1]
    assert holds == 0.0
    assert verdict.chosen == TWO


def test_the_strongest_is_the_one_whose_rate_has_the_highest_lower_bound() -> None:
    verdict = chosen(bench({1: 0.85, 2: 0.95, 4: 0.9}, 0.8, 0.1), ONE, TWO, FOUR)
    assert verdict.chosen == ONE
    assert verdict.strongest == TWO


@pytest.mark.parametrize("dense_effect", [-0.1, 0.0])
def test_where_the_dense_vector_has_no_effect_the_strongest_is_taken(dense_effect: float) -> None:
    verdict = chosen(
        bench({}, 0.5, 0.5, reliable=False),
        candidate(1, 0.001),
        candidate(4, 0.4),
        dense_effect=dense_effect,
    )
    assert verdict.chosen.size[0] == 4


def test_where_none_keeps_the_effect_the_strongest_is_taken_wherever_it_came_from() -> None:
    near = candidate(2, 0.9, "few samples")
    some = (near, candidate(1, 0.2), candidate(4, 0.3))
    verdict = chosen(bench({}, 0.0, 0.0, reliable=False), *some)
    assert verdict.chosen == verdict.strongest == near


@pytest.mark.parametrize("can_judge", [True, False])
def test_where_nothing_can_be_judged_the_effect_decides(can_judge: bool) -> None:
    some = (candidate(1, 0.9), candidate(2, 0.96), candidate(4, 1.2))
    prompts = [] if can_judge else TUNE
    held = [candidate(SIZE, 1.3)]  # so that no prompt of select is left to ask
    verdict = chosen(bench({}, 0.0, 0.0, reliable=can_judge), *some, *held, prompts=prompts)
    assert verdict.chosen.size[0] == 2
    assert verdict.strongest.size[0] == SIZE
    assert (verdict.n_prompts, verdict.rates) == (0, {})
    assert all(row["behavior_rate"] is None for row in verdict.rows)


@pytest.mark.parametrize("method", FAITHFUL)
def test_what_is_near_the_dense_vector_is_judged_whatever_the_target_says(method: Method) -> None:
    near = candidate(3, 0.1, method)
    won = [candidate(1, 1.2), candidate(2, 1.3), candidate(4, 1.4)]
    verdict = chosen(bench({1: 0.3, 2: 0.3, 3: 0.9, 4: 0.3}, 0.9, 0.1), *won, near)
    assert verdict.chosen == near


def test_a_random_choice_is_never_taken() -> None:
    drawn = candidate(1, 2.0, "random")
    assert chosen(bench({1: 1.0, 2: 0.9}, 0.8, 0.1), drawn, TWO).chosen == TWO
    with pytest.raises(SelectionError, match="nothing could be selected"):
        chosen(bench({1: 1.0}, 0.8, 0.1), drawn)


def test_prompts_of_samples_that_a_finalist_is_made_of_are_not_asked() -> None:
    few = TUNE[:3]
    asked = prompts_to_judge(few, SELECT, [candidate(2, 1.0), candidate(3, 1.0)])
    assert list(asked) == few + [sample.messages for sample in SELECT[3:]]
    twins = [Sample(s.id, s.behavior, s.messages, "yes", "no", "one group") for s in SELECT]
    assert list(prompts_to_judge(few, twins, [candidate(1, 1.0)])) == few
    assert list(prompts_to_judge([*few, *few], [], [])) == few
    many = [sample(i, "tune").messages for i in range(2 * MAX_PROMPTS)]
    assert len(prompts_to_judge(many, SELECT, [])) == MAX_PROMPTS


def test_luck_lets_a_point_that_is_a_tenth_too_low_through_far_less_often() -> None:
    """What the module's docstring says of the rule, by simulation."""
    rng = np.random.default_rng(0)
    surely = by_rate = 0
    trials = 300
    for _ in range(trials):
        asked = rng.random((PROMPTS, 3))
        dense, one = asked[:, 0] < 0.8, asked[:, 1] < 0.7
        unsteered = np.zeros(PROMPTS, dtype=bool)
        written = {"dense": dense, "one": one, "unsteered": unsteered}
        made = cast(
            Bench,
            SimpleNamespace(
                replies=lambda *_, w=written: ["1" if x else "0" for x in w["unsteered"]],
                replies_each=lambda *_, w=written: [
                    ["1" if x else "0" for x in w[name]] for name in ("dense", "one")
                ],
                calibrate=lambda _: SimpleNamespace(multiplier=1.0),
                judge=Judge(),
            ),
        )
        (row,) = chosen(made, ONE, tolerance=1.0).rows
        surely += row["holds"] >= CONFIDENCE
        by_rate += one.mean() >= dense.mean()
    assert surely / trials < 0.03
    assert by_rate / trials > 0.05
