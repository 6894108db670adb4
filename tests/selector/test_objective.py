"""Measuring a choice: its effect, its gradient where it is added, and what that cost."""

import torch
from torch import Tensor

from trimtab.selector.objective import Cost, Objective
from trimtab.selector.parts import Choice, Parts, compose


def test_a_candidate_has_the_effect_of_its_vector_and_every_method_its_own_cost(
    parts: Parts,
) -> None:
    objective = Objective(
        {"mean": parts}, torch.ones(12), lambda v: float(v.sum()), lambda _: 1.0, lambda v: v
    )
    choice = Choice((1, 2), (3, 4))
    found = objective.candidate("gates", "mean", choice, "somewhere")
    assert found.effect == float(compose(parts, choice).sum())
    assert (found.method, found.origin, found.pooling) == ("gates", "somewhere", "mean")
    objective.candidate("pursuit", "mean", choice, "")
    objective.gradient("gates", torch.ones(12))
    assert objective.cost == {"gates": Cost(1, 1), "pursuit": Cost(1, 0)}


def test_the_gradient_of_a_choice_is_taken_at_the_length_that_does_the_damage(
    parts: Parts,
) -> None:
    asked: list[Tensor] = []

    def slope(added: Tensor) -> Tensor:
        asked.append(added)
        return added

    objective = Objective({"mean": parts}, torch.ones(12), lambda _: 0.0, lambda _: 3.0, slope)
    choice = Choice((1, 2), (3, 4))
    objective.gradient_of("joint pruning", "mean", choice)
    direction = compose(parts, choice)
    torch.testing.assert_close(asked[0], 3.0 * direction / direction.norm())
