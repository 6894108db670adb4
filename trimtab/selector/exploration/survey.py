"""What the methods find that need no search: points of one surface of samples, features, effect."""

from collections.abc import Callable
from dataclasses import dataclass

from trimtab.selector.exploration.candidates import (
    decomposed_candidates,
    few_samples_candidates,
    gate_candidates,
    joint_candidates,
    matched_candidates,
    prune_features,
    prune_samples,
    pruned_candidates,
    pursued_candidates,
    random_candidates,
    smallest_that_holds,
)
from trimtab.selector.exploration.objective import Objective
from trimtab.selector.exploration.pruning import CurvePoint
from trimtab.selector.exploration.surface import Candidate


@dataclass(frozen=True)
class Survey:
    """The two pruning curves, and every candidate that was measured."""

    sample_curve: tuple[CurvePoint, ...]
    feature_curve: tuple[CurvePoint, ...]
    candidates: tuple[Candidate, ...]


def survey(
    objective: Objective,
    pooling: str,
    dense_effect: float,
    *,
    tolerance: float,
    seed: int,
    say: Callable[[str, int, int], None],
) -> Survey:
    """Measure what pruning, pursuit and gates find, and random choices beside them.

    Args:
        objective: what is maximised, with the parts.
        pooling: the run's own.
        dense_effect: of the dense vector of all samples.
        tolerance: share of the dense effect at which features begin to be pruned.
        seed: of gates and random choices.
        say: told (stage, steps done, steps in all).
    """
    say("pruning samples", 0, 0)
    sample_curve = prune_samples(objective, pooling, dense_effect)
    kept = smallest_that_holds(sample_curve, tolerance)
    feature_curve: list[CurvePoint] = []
    candidates: list[Candidate] = []
    if objective.pools[pooling].features is not None:
        say("pruning features", 0, 0)
        feature_curve = prune_features(objective, pooling, dense_effect, kept)
        say("decomposing the dense vector", 0, 0)
        candidates += few_samples_candidates(objective, pooling, sample_curve)
        candidates += decomposed_candidates(objective, pooling, sample_curve)
        say("pursuing the gradient", 0, 0)
        candidates += matched_candidates(objective, pooling, kept)
        candidates += pursued_candidates(objective, pooling, dense_effect)
    say("pruning samples and features together", 0, 0)
    candidates += joint_candidates(objective, pooling, dense_effect)
    say("learning gates", 0, 0)
    candidates += gate_candidates(objective, pooling, dense_effect, seed=seed)
    say("measuring random choices", 0, 0)
    candidates += random_candidates(objective, pooling, seed=seed)
    pruned = pruned_candidates(pooling, sample_curve, feature_curve, kept)
    return Survey(tuple(sample_curve), tuple(feature_curve), (*pruned, *candidates))
