"""Which candidate is taken: the smallest that keeps what the dense vector adds."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from trimtab.selector import candidates
from trimtab.selector.bench import Bench
from trimtab.selector.parts import Choice, Parts
from trimtab.selector.search import Candidate

PARTS = Parts(("a", "b", "c", "d"), torch.eye(4))
DENSE = torch.full((4,), 9.0)


def candidate(samples: int, effect: float) -> Candidate:
    return Candidate("mean", Choice(tuple(range(samples))), effect, f"{samples} samples")


def bench(rates: dict[int, float], dense: float, unsteered: float, reliable: bool = True) -> Bench:
    def rate(direction: torch.Tensor | None, _: Any) -> float:
        if direction is None:
            return unsteered
        if torch.equal(direction, DENSE):
            return dense
        return rates[int((direction != 0).sum())]

    judge = SimpleNamespace(reliable=reliable)
    return cast(Bench, SimpleNamespace(rate=rate, judge=judge))


def chosen(bench: Bench, *some: Candidate, dense_effect: float = 1.0) -> int:
    asked = [({"role": "user", "content": "?"},)]
    taken, _ = candidates.judge(
        bench, {"mean": PARTS}, some, DENSE, dense_effect, asked, tolerance=0.95
    )
    return taken.size[0]


def test_the_smallest_that_keeps_the_rate_is_taken() -> None:
    measured = bench({1: 0.3, 2: 0.8, 4: 0.9}, dense=0.8, unsteered=0.1)
    assert chosen(measured, candidate(1, 1.0), candidate(2, 1.1), candidate(4, 1.2)) == 2


def test_the_floor_counts_what_is_added_and_not_the_unsteered_rate() -> None:
    measured = bench({1: 0.49, 2: 0.52}, dense=0.52, unsteered=0.48)
    assert chosen(measured, candidate(1, 1.0), candidate(2, 1.1)) == 2


def test_a_vector_that_adds_nothing_never_holds_however_little_the_dense_one_adds() -> None:
    measured = bench({1: 0.6, 2: 0.61}, dense=0.55, unsteered=0.6)
    assert chosen(measured, candidate(1, 1.0), candidate(2, 1.1)) == 2


@pytest.mark.parametrize("dense_effect", [-0.1, 0.0])
def test_where_the_dense_vector_has_no_effect_the_strongest_is_taken(dense_effect: float) -> None:
    measured = bench({}, dense=0.5, unsteered=0.5, reliable=False)
    some = (candidate(1, 0.001), candidate(4, 0.4))
    assert chosen(measured, *some, dense_effect=dense_effect) == 4


def test_where_nothing_can_be_judged_the_effect_decides() -> None:
    measured = bench({}, dense=0.0, unsteered=0.0, reliable=False)
    assert chosen(measured, candidate(1, 0.9), candidate(2, 0.96), candidate(4, 1.2)) == 2
