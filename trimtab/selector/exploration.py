"""Explore what the parts can do for the target, and come back to the truth on the way.

1. Prune samples, then features, keeping both curves; match few features to the gradient.
2. Let Optuna tune the knobs around the rankers.

After pruning, and at intervals of the search, the target is checked on what the model writes under
the strongest candidates. Where it changes, pruning starts anew once, a search gets a study of its
own, and what was found before is measured on the new target.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from trimtab.selector.candidates import (
    matched_candidates,
    prune_features,
    prune_samples,
    pruned_candidates,
    smallest_that_holds,
)
from trimtab.selector.parts import Choice, Parts, compose
from trimtab.selector.pruning import CurvePoint
from trimtab.selector.search import Candidate, pareto, search
from trimtab.selector.target import Target, checkpoint

CHECK_EVERY = 12  # trials of the search between two checkpoints of the target
CHECKED = 3  # strongest candidates whose replies a checkpoint looks at
EARLIER = ", for an earlier target"

Say = Callable[[str, int, int], None]


@dataclass(frozen=True, eq=False)
class Exploration:
    """What was found: the target as it ended, pruning curves for it, and every candidate."""

    target: Target
    sample_curve: list[CurvePoint]
    feature_curve: list[CurvePoint]
    candidates: list[Candidate]


def explore(
    target: Target,
    pools: Mapping[str, Parts],
    pooling: str,
    dense: Tensor,
    work: Path,
    *,
    tolerance: float,
    trials: int,
    seed: int,
    say: Say,
) -> Exploration:
    """Return candidates, all measured on the target that is returned with them.

    Args:
        target: that the run starts with.
        pools: the parts to choose from, by pooling.
        pooling: whose parts are pruned.
        dense: `(d_model,)`, the vector that pruning starts from.
        work: folder of the studies, from which an interrupted run resumes.
        tolerance: share of the dense vector's effect at which features take over from samples.
        trials: of the search in all.
        seed: of the search.
        say: told (stage, steps done, steps in all).
    """

    def effect(choice: Choice, pooling: str = pooling) -> float:
        return target.effect(compose(pools[pooling], choice))

    def checked(candidates: Sequence[Candidate], at: str) -> Target:
        strongest = sorted(pareto(list(candidates)), key=lambda c: -c.effect)[:CHECKED]
        found = {c.origin: compose(pools[c.pooling], c.choice) for c in strongest}
        return checkpoint(target, found, at, lambda what: say(what, 0, 0))

    def again(earlier: Sequence[Candidate]) -> list[Candidate]:
        """Return candidates that were found for an earlier target, measured on the present one."""
        return [
            replace(
                candidate,
                effect=effect(candidate.choice, candidate.pooling),
                origin=candidate.origin.removesuffix(EARLIER) + EARLIER,
            )
            for candidate in earlier
        ]

    def pruned() -> tuple[list[CurvePoint], list[CurvePoint], list[Candidate]]:
        parts, full = pools[pooling], target.effect(dense)
        say("pruning samples", 0, 0)
        samples = prune_samples(parts, target, effect, full)
        kept = smallest_that_holds(samples, tolerance)
        if parts.features is None:
            return samples, [], pruned_candidates(pooling, samples, [], kept)
        say("pruning features", 0, 0)
        features = prune_features(parts, target, effect, full, kept)
        say("matching features", 0, 0)
        matched = matched_candidates(pooling, parts, target, effect, kept)
        return samples, features, pruned_candidates(pooling, samples, features, kept) + matched

    def searched(count: int, before: int) -> list[Candidate]:
        """Return all of this target's study at `count` trials; studies before had `before`."""
        return search(
            pools,
            target.gradient,
            lambda pooling, choice: effect(choice, pooling),
            work / f"study-{target.version}.journal",
            trials=count,
            seed=seed,
            say=lambda done, _: say("searching", before + done, trials),
        )

    sample_curve, feature_curve, candidates = pruned()
    version, target = target.version, checked(candidates, "after pruning")
    if target.version > version:
        earlier = again(candidates)
        sample_curve, feature_curve, candidates = pruned()
        candidates = candidates + earlier
    found: list[Candidate] = []
    done = in_study = 0
    while done < trials:
        block = min(CHECK_EVERY, trials - done)
        done, in_study = done + block, in_study + block
        found = searched(in_study, done - in_study)
        version, target = target.version, checked(candidates + found, f"after {done} trials")
        if target.version > version:
            candidates, found, in_study = again(candidates + found), [], 0
    return Exploration(target, sample_curve, feature_curve, candidates + found)
