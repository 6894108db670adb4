"""Pruning drops what helps least, measures, and knows where to stop."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from trimtab.selector.pruning import drop_order, prune, sizes_down_from, usefulness


def terms_and_gradient(seed: int, count: int = 12, width: int = 6) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    gradient = torch.randn(width, generator=generator).double()
    terms = torch.randn(count, width, generator=generator).double()
    return terms + 0.5 * gradient, gradient


def cosine(vector: Tensor, gradient: Tensor) -> Tensor:
    return torch.cosine_similarity(vector, gradient, dim=0)


@settings(deadline=None)
@given(st.integers(0, 10_000))
def test_usefulness_is_the_slope_of_the_cosines_logarithm(seed: int) -> None:
    terms, gradient = terms_and_gradient(seed)
    if cosine(terms.sum(0), gradient) < 0.05:
        return
    found = usefulness(terms, gradient)
    step = 1e-6
    for i in range(len(terms)):
        up, down = (
            cosine(terms.sum(0) + sign * step * terms[i], gradient).log() for sign in (1, -1)
        )
        assert float(found[i]) == pytest.approx(float(up - down) / (2 * step), rel=1e-3, abs=1e-5)


def test_every_term_is_dropped_once_and_the_planted_ones_last() -> None:
    terms, gradient = terms_and_gradient(0, count=40)
    good = [3, 17, 31]
    terms = terms - (terms @ gradient)[:, None] * gradient / (gradient @ gradient)
    terms[good] = gradient * torch.tensor([[1.0], [2.0], [1.5]]).double()
    order = drop_order(terms, gradient)
    assert sorted(order) == list(range(40))
    assert sorted(order[-3:]) == good


def test_a_term_that_points_the_wrong_way_goes_first() -> None:
    terms, gradient = terms_and_gradient(0)
    terms[5] = -3 * gradient
    assert drop_order(terms, gradient)[0] == 5


@given(st.integers(0, 5000))
def test_sizes_go_down_to_one_without_repeating(count: int) -> None:
    sizes = sizes_down_from(count)
    assert sizes[0] == count
    assert sizes == sorted(set(sizes), reverse=True)
    assert sizes[-1] == min(count, 1)
    assert len(sizes) <= 25


def test_pruning_stops_at_the_first_point_below_the_tolerance_and_keeps_it() -> None:
    terms, gradient = terms_and_gradient(1)
    asked: list[tuple[int, ...]] = []

    def measure(kept: tuple[int, ...]) -> float:
        asked.append(kept)
        return {12: 2.0, 7: 1.9, 4: 1.7, 2: 1.6, 1: 1.9}[len(kept)]

    curve = prune(terms, gradient, measure, [20, 12, 7, 4, 2, 1], full_effect=2.0, tolerance=0.9)
    assert [len(p.kept) for p in curve] == [12, 7, 4]
    assert [p.effect for p in curve] == [2.0, 1.9, 1.7]
    assert [p.faithfulness for p in curve] == pytest.approx([1.0, 0.95, 0.85])
    assert asked == [p.kept for p in curve]
    order = drop_order(terms, gradient)
    assert all(set(p.kept) == set(order[-len(p.kept) :]) for p in curve)
    assert all(list(p.kept) == sorted(p.kept) for p in curve)


def test_where_the_full_vector_does_nothing_there_is_no_faithfulness_and_no_stop() -> None:
    terms, gradient = terms_and_gradient(1)
    for full_effect in (0.0, -1.0):
        curve = prune(
            terms,
            gradient,
            lambda kept: -0.1 * len(kept),
            sizes_down_from(12),
            full_effect=full_effect,
            tolerance=0.9,
        )
        assert [len(p.kept) for p in curve] == sizes_down_from(12)
        assert all(p.faithfulness is None for p in curve)


def test_nothing_to_prune_gives_no_curve() -> None:
    nothing = torch.zeros(0, 6)
    curve = prune(
        nothing, torch.ones(6), lambda _: 1.0, sizes_down_from(0), full_effect=1.0, tolerance=0.9
    )
    assert curve == []
