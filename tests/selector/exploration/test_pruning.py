"""Pruning drops what helps least, measures, and knows where to stop."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from trimtab.selector.exploration.pruning import (
    drop_order,
    prune,
    prune_jointly,
    sizes_down_from,
    usefulness,
)
from trimtab.selector.parts import Choice, Parts, compose


def terms_and_gradient(seed: int, count: int = 12, width: int = 6) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    gradient = torch.randn(width, generator=generator).double()
    terms = torch.randn(count, width, generator=generator).double()
    return terms + 0.5 * gradient, gradient


def cosine(vector: Tensor, gradient: Tensor) -> Tensor:
    return torch.cosine_similarity(vector, gradient, dim=0)


@settings(deadline=None)
@given(st.integers(0, 10_000))
def test_usefulness_is_the_slope_of_the_cosine(seed: int) -> None:
    terms, gradient = terms_and_gradient(seed)
    found = usefulness(terms, gradient)
    step = 1e-6
    for i in range(len(terms)):
        up, down = (cosine(terms.sum(0) + sign * step * terms[i], gradient) for sign in (1, -1))
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


GRADIENT = torch.randn(12, generator=torch.Generator().manual_seed(9))
EVERYTHING = Choice(tuple(range(30)), tuple(range(38)))


def joint(parts: Parts, start: Choice = EVERYTHING) -> list[Choice]:
    return list(prune_jointly(parts, start, GRADIENT))


def rows(choice: Choice) -> int:
    return len(choice.samples) * len(choice.features or (0,))


def test_samples_and_features_are_pruned_together_down_to_one_of_each(parts: Parts) -> None:
    found = joint(parts)
    assert found[0] == EVERYTHING
    assert rows(found[-1]) == 1
    for before, after in pairwise(found):
        assert rows(after) <= max(1, 0.4 * rows(before))
        assert set(after.samples) <= set(before.samples)
        assert set(after.features or ()) <= set(before.features or ())
    kinds = {(len(c.samples) < 30, len(c.features or ()) < 38) for c in found[:4]}
    assert (True, True) in kinds  # neither kind waits for the other


def test_joint_pruning_turns_the_vector_towards_the_gradient_while_there_is_enough(
    parts: Parts,
) -> None:
    fits = [float(cosine(compose(parts, choice), GRADIENT)) for choice in joint(parts)]
    assert max(fits) > fits[0] + 0.2
    drawn = Choice(tuple(range(5)), tuple(range(5)))
    small = next(c for c in joint(parts) if rows(c) <= 25)
    assert float(cosine(compose(parts, small), GRADIENT)) > 0.2 + float(
        cosine(compose(parts, drawn), GRADIENT)
    )


def test_the_next_to_go_is_the_part_that_the_cosine_misses_least() -> None:
    features = torch.tensor([[1.0, 0.0, 1.0], [1.0, 0.1, 1.0], [0.9, 0.0, 1.0]])
    decoder = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, -1.0]])
    parts = Parts(("a", "b", "c"), features @ decoder, features, decoder)
    towards = torch.tensor([1.0, 0.0, 0.0])
    start = Choice((0, 1, 2), (0, 1, 2))
    found = list(prune_jointly(parts, start, towards, shrink=0.7))
    assert found[1] == Choice((0, 1, 2), (0, 1))  # the third points elsewhere


def test_coefficients_go_with_their_features_and_can_be_fitted_anew(parts: Parts) -> None:
    def double(choice: Choice) -> Choice:
        assert choice.coefficients is not None
        return Choice(choice.samples, choice.features, tuple(2 * c for c in choice.coefficients))

    start = Choice((1, 2, 3, 4), (5, 6, 7, 8), (1.0, 2.0, 3.0, 4.0))
    size = {5: 1.0, 6: 2.0, 7: 3.0, 8: 4.0}
    for step, choice in enumerate(prune_jointly(parts, start, GRADIENT, double)):
        assert choice.features is not None
        assert choice.coefficients == tuple(2**step * size[f] for f in choice.features)


def test_without_features_samples_alone_are_pruned(dense_parts: Parts) -> None:
    found = joint(dense_parts, Choice(tuple(range(30))))
    assert [len(c.samples) for c in found] == sorted({len(c.samples) for c in found}, reverse=True)
    assert len(found[-1].samples) == 1
    assert all(c.features is None for c in found)
