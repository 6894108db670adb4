"""Measuring a choice: its effect, its gradient where it is added, and what that cost."""

import torch

from trimtab.selector.exploration.objective import Cost, Objective
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
