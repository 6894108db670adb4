"""Gates find what was planted, shut for good, and say what they cost."""

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from trimtab.selector.exploration.gates import PENALTIES, GatePoint, gate_path
from trimtab.selector.parts import Choice, Parts, compose

NewParts = Callable[..., Parts]
GRADIENT = torch.randn(12, generator=torch.Generator().manual_seed(9))
ALL = tuple(range(38))  # of the features; two never fire


class Model:
    """An effect that is linear in the added vector; counts what it is asked."""

    def __init__(self, gradient: Tensor = GRADIENT, length: float = 2.0) -> None:
        self.added: list[Tensor] = []
        self.strengths = 0
        self._gradient, self._length = gradient, length

    def gradient(self, added: Tensor) -> Tensor:
        self.added.append(added)
        return self._gradient

    def strength(self, _: Tensor) -> float:
        self.strengths += 1
        return self._length


def path(
    parts: Parts, model: Model, features: tuple[int, ...] | None = ALL, seed: int = 0
) -> list[GatePoint]:
    return list(gate_path(parts, features, model.gradient, model.strength, seed=seed))


def planted(new_parts: NewParts) -> Parts:
    """Features 3 and 17 alone point along the gradient; samples from 20 on oppose it."""
    parts = new_parts(3)
    assert parts.features is not None
    assert parts.decoder is not None
    decoder = parts.decoder - (parts.decoder @ GRADIENT)[:, None] * GRADIENT / GRADIENT.norm() ** 2
    decoder[[3, 17]] = 3 * GRADIENT / GRADIENT.norm()
    features = 0.3 * (parts.features - parts.features.mean(0))
    features[:, [3, 17]] += 1.0
    features[20:, [3, 17]] -= 2.0
    return Parts(parts.sample_ids, features @ decoder, features, decoder)


def test_gates_keep_what_carries_the_effect_and_shut_what_opposes_it(new_parts: NewParts) -> None:
    points = path(planted(new_parts), Model())
    middle = points[3].choice
    assert {3, 17} & set(middle.features or ())
    assert len(middle.features or ()) <= 12
    assert not set(middle.samples) & set(range(20, 30))
    assert set(points[-1].choice.features or ()) <= {3, 17}


@pytest.mark.parametrize("with_sae", [True, False])
def test_what_is_shut_stays_shut_and_every_size_is_measured_at_the_asked_length(
    parts: Parts, dense_parts: Parts, with_sae: bool
) -> None:
    model = Model()
    points = path(parts if with_sae else dense_parts, model, ALL if with_sae else None)
    assert [point.penalty for point in points] == list(PENALTIES)
    for before, after in pairwise(points):
        assert set(after.choice.samples) <= set(before.choice.samples)
        if with_sae:
            assert set(after.choice.features or ()) <= set(before.choice.features or ())
    rows = [len(p.choice.samples) * len(p.choice.features or (0,)) for p in points]
    assert rows[-1] < rows[0]
    for added in model.added:
        assert float(added.norm()) == pytest.approx(2.0, rel=1e-4)


def test_the_cost_is_the_gradients_that_were_asked_for(parts: Parts) -> None:
    model = Model()
    path(parts, model)
    assert len(model.added) == len(PENALTIES)
    assert model.strengths == len(PENALTIES)


def test_a_point_is_found_before_the_next_one_is_paid_for(parts: Parts) -> None:
    model = Model()
    points = gate_path(parts, ALL, model.gradient, model.strength, seed=0)
    next(points)
    assert len(model.added) == 1


def test_gates_follow_their_seed(parts: Parts) -> None:
    one, same, other = (path(parts, Model(), seed=seed) for seed in (1, 1, 2))
    assert [p.choice for p in one] == [p.choice for p in same]
    assert [p.choice for p in one] != [p.choice for p in other]


def test_gates_bring_the_vector_nearer_to_the_gradient_than_all_parts_do(parts: Parts) -> None:
    def fit(choice: Choice) -> float:
        return float(torch.cosine_similarity(compose(parts, choice), GRADIENT, dim=0))

    points = path(parts, Model())
    assert fit(points[0].choice) > fit(Choice(tuple(range(30)), ALL)) + 0.1


def test_a_feature_that_may_not_be_used_is_not(parts: Parts) -> None:
    for point in path(parts, Model(), (2, 5, 7, 30)):
        assert set(point.choice.features or ()) <= {2, 5, 7, 30}


def test_there_is_always_something_left(parts: Parts) -> None:
    points = path(parts, Model(torch.zeros(12)))
    assert points[-1].choice.samples
    assert points[-1].choice.features
