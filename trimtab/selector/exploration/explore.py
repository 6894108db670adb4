"""Explore what the parts can do for the target, and come back to the truth on the way.

1. Survey: prune, pursue, learn gates.
2. Let Optuna tune the knobs around the rankers.

After the survey, and at intervals of the search, the target is checked on what the model writes
under the strongest candidates. Where it changes, the survey is made anew once, a search gets a
study of its own, and the front of what was found before is measured on the new target.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from trimtab.selector.exploration.candidates import smallest_that_holds
from trimtab.selector.exploration.objective import Cost, Objective
from trimtab.selector.exploration.pruning import CurvePoint
from trimtab.selector.exploration.search import search
from trimtab.selector.exploration.surface import FAITHFUL, Candidate, Method, pareto
from trimtab.selector.exploration.survey import survey
from trimtab.selector.parts import Choice, Parts, compose
from trimtab.selector.target import Target, checkpoint

CHECK_EVERY = 12  # trials of the search between two checkpoints of the target
CHECKED = 3  # strongest candidates whose replies a checkpoint looks at
EARLIER = ", for an earlier target"

Say = Callable[[str, int, int], None]


@dataclass(frozen=True, eq=False)
class Exploration:
    """What was found: the target as it ended, pruning curves for it, and every candidate.

    `cost` is what each method has asked for, whatever the target was.
    """

    target: Target
    sample_curve: tuple[CurvePoint, ...]
    feature_curve: tuple[CurvePoint, ...]
    candidates: tuple[Candidate, ...]
    cost: Mapping[Method, Cost]


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
        pooling: whose parts are surveyed; the search may choose among all.
        dense: `(d_model,)`, the vector of all samples.
        work: folder of the studies, from which an interrupted run resumes.
        tolerance: share of the dense vector's effect at which features take over from samples.
        trials: of the search in all.
        seed: of gates, random choices and search.
        say: told (stage, steps done, steps in all).
    """
    cost: dict[Method, Cost] = {}

    def objective() -> Objective:
        return Objective(
            pools,
            target.gradient,
            target.effect,
            lambda direction: target.ground.bench.calibrate(direction).multiplier,
            target.slope,
            cost,
        )

    def checked(candidates: Sequence[Candidate], at: str) -> Target:
        """Return the target as it stands after a look at the strongest candidates."""
        front = pareto([c for c in candidates if c.method != "random"])
        strongest = sorted(front, key=lambda c: -c.effect)[:CHECKED]
        found = {c.origin: compose(pools[c.pooling], c.choice) for c in strongest}
        return checkpoint(target, found, at, lambda what: say(what, 0, 0))

    def again(earlier: Sequence[Candidate]) -> tuple[Candidate, ...]:
        """Return the front of what was found for an earlier target, measured on the present one.

        Random choices, which the front is held against, and what is near the dense vector, which is
        judged whatever the target says, are measured with it.
        """
        front = pareto([c for c in earlier if c.method != "random"])
        beside = [c for c in earlier if c.method in ("random", *FAITHFUL)]
        kept = list(dict.fromkeys([*front, *beside]))
        found = []
        for done, candidate in enumerate(kept):
            say("measuring the best so far on the new target", done, len(kept))
            effect = target.effect(compose(pools[candidate.pooling], candidate.choice))
            origin = candidate.origin.removesuffix(EARLIER) + EARLIER
            found.append(replace(candidate, effect=effect, origin=origin))
        return tuple(found)

    def redrawn(
        curve: Sequence[CurvePoint], choice: Callable[[tuple[int, ...]], Choice]
    ) -> tuple[CurvePoint, ...]:
        """Return a pruning curve of an earlier target, measured on the present one."""
        say("measuring the pruning curves on the new target", 0, 0)
        whole = target.effect(dense)
        effects = [target.effect(compose(pools[pooling], choice(p.kept))) for p in curve]
        return tuple(
            CurvePoint(p.kept, effect, effect / whole if whole > 0 else None)
            for p, effect in zip(curve, effects, strict=True)
        )

    def searched(count: int, before: int) -> tuple[Candidate, ...]:
        """Return all of this target's study at `count` trials; studies before had `before`."""
        found = search(
            pools,
            target.gradient,
            lambda pooling, choice: target.effect(compose(pools[pooling], choice)),
            work / f"study-{target.version}.journal",
            trials=count,
            seed=seed,
            say=lambda done, _: say("searching", before + done, trials),
        )
        return tuple(found)

    def surveyed() -> tuple[tuple[CurvePoint, ...], tuple[CurvePoint, ...], tuple[Candidate, ...]]:
        found = survey(
            objective(), pooling, target.effect(dense), tolerance=tolerance, seed=seed, say=say
        )
        return found.sample_curve, found.feature_curve, found.candidates

    sample_curve, feature_curve, candidates = surveyed()
    version, target = target.version, checked(candidates, "after the survey")
    if target.version > version:
        earlier = again([c for c in candidates if c.method != "random"])
        sample_curve, feature_curve, candidates = surveyed()
        candidates += earlier
    pruned = smallest_that_holds(sample_curve, tolerance)  # whose features were pruned
    found: tuple[Candidate, ...] = ()
    done = in_study = 0
    while done < trials:
        block = min(CHECK_EVERY, trials - done)
        done, in_study = done + block, in_study + block
        found = searched(in_study, done - in_study)
        version, target = target.version, checked(candidates + found, f"after {done} trials")
        if target.version > version:
            candidates, found, in_study = again(candidates + found), (), 0
            sample_curve = redrawn(sample_curve, Choice)
            feature_curve = redrawn(feature_curve, lambda kept: Choice(pruned, kept))
    cost["search"] = Cost(effects=done)  # a resumed study asks for fewer
    return Exploration(target, sample_curve, feature_curve, candidates + found, cost)
