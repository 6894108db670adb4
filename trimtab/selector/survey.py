"""Every method's points of one surface of samples, features and effect."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from trimtab.selector.candidates import (
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
from trimtab.selector.objective import Cost, Objective
from trimtab.selector.parts import compose
from trimtab.selector.pruning import CurvePoint
from trimtab.selector.search import search
from trimtab.selector.surface import Candidate


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
    study_file: Path,
    *,
    tolerance: float,
    trials: int,
    seed: int,
    say: Callable[[str, int, int], None],
) -> Survey:
    """Measure what pruning, pursuit, gates and search find, and random choices beside them.

    Args:
        objective: what is maximised, with the parts.
        pooling: the run's own; the search may choose among all.
        dense_effect: of the dense vector of all samples.
        study_file: journal of the search.
        tolerance: share of the dense effect at which features begin to be pruned.
        trials: of the search.
        seed: of gates, search and random choices.
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
        say("pursuing the gradient", 0, 0)
        candidates += matched_candidates(objective, pooling, kept)
        candidates += pursued_candidates(objective, pooling, dense_effect)
    say("pruning both together", 0, 0)
    candidates += joint_candidates(objective, pooling, dense_effect)
    say("learning gates", 0, 0)
    candidates += gate_candidates(objective, pooling, dense_effect, seed=seed)
    say("measuring random choices", 0, 0)
    candidates += random_candidates(objective, pooling, seed=seed)
    searched = search(
        objective.pools,
        objective.start,
        lambda pooling, choice: objective.effect(compose(objective.pools[pooling], choice)),
        study_file,
        trials=trials,
        seed=seed,
        say=lambda done, trials: say("searching", done, trials),
    )
    objective.cost["search"] = Cost(effects=len(searched))  # a resumed study asks for fewer
    candidates += searched
    pruned = pruned_candidates(pooling, sample_curve, feature_curve, kept)
    return Survey(tuple(sample_curve), tuple(feature_curve), (*pruned, *candidates))
