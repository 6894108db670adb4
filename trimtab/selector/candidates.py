"""Candidates for the minimal vector: pruned, matched, and judged by what the model writes."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from trimtab.errors import SelectionError, VectorError
from trimtab.selector.bench import Bench, Conversations
from trimtab.selector.parts import Choice, Parts, compose
from trimtab.selector.pruning import CurvePoint, prune, sizes_down_from
from trimtab.selector.search import Candidate, choose_features, pareto
from trimtab.selector.target import Target

MATCHED_FEATURES = (40, 20, 12, 6)  # sizes at which features are matched on the pruned samples
MAX_PRUNED_FEATURES = 256  # pruning of features starts at no more than these
CURVE_FLOOR = 0.5  # pruning goes on to this share of the full effect, so that curves show the fall
SMALLEST, STRONGEST = 4, 2  # finalists whose replies are judged

Measure = Callable[[Choice], float]


def prune_samples(parts: Parts, target: Target, measure: Measure, dense: float) -> list[CurvePoint]:
    """Return the pruning curve of samples, of the dense vector that is left.

    Args:
        parts: rows to choose from.
        target: whose gradient ranks them.
        measure: effect of a choice at equal damage.
        dense: effect of the dense vector.
    """
    return prune(
        parts.residual,
        target.gradient,
        lambda kept: measure(Choice(kept)),
        sizes_down_from(parts.n_samples),
        full_effect=dense,
        tolerance=CURVE_FLOOR,
    )


def prune_features(
    parts: Parts, target: Target, measure: Measure, dense: float, samples: tuple[int, ...]
) -> list[CurvePoint]:
    """Return the pruning curve of features on the samples that were left."""
    assert parts.features is not None and parts.decoder is not None
    mean = parts.features[list(samples)].mean(0)
    fired = mean.nonzero().flatten()

    def features(kept: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(fired[list(kept)].tolist())

    curve = prune(
        mean[fired, None] * parts.decoder[fired],
        target.gradient,
        lambda kept: measure(Choice(samples, features(kept))),
        sizes_down_from(min(len(fired), MAX_PRUNED_FEATURES)),
        full_effect=dense,
        tolerance=CURVE_FLOOR,
    )
    return [CurvePoint(features(p.kept), p.effect, p.faithfulness) for p in curve]


def smallest_that_holds(curve: Sequence[CurvePoint], tolerance: float) -> tuple[int, ...]:
    """Return what the last point that keeps the tolerance keeps; the whole where none does."""
    holding = [p for p in curve if p.faithfulness is not None and p.faithfulness >= tolerance]
    return (holding[-1] if holding else curve[0]).kept


def pruned_candidates(
    pooling: str,
    sample_curve: Sequence[CurvePoint],
    feature_curve: Sequence[CurvePoint],
    samples: tuple[int, ...],
) -> list[Candidate]:
    """Return the curves' points as candidates: of features, where there are any."""
    if not feature_curve:
        return [
            Candidate(pooling, Choice(p.kept), p.effect, f"pruned to {len(p.kept)} samples")
            for p in sample_curve
        ]
    start = f"pruned to {len(samples)} samples"
    return [
        Candidate(pooling, Choice(samples, p.kept), p.effect, f"{start}, {len(p.kept)} features")
        for p in feature_curve
    ]


def matched_candidates(
    pooling: str, parts: Parts, target: Target, measure: Measure, samples: tuple[int, ...]
) -> list[Candidate]:
    """Return candidates of few features, matched to the gradient, on the samples that were left."""
    candidates = []
    for count in MATCHED_FEATURES:
        choice = choose_features(
            parts, samples, target.gradient, ranker="pursuit", count=count, coefficients="matched"
        )
        if choice is None or choice.features is None:
            continue
        try:
            effect = measure(choice)
        except VectorError:  # no multiplier brings it to the damage budget
            continue
        origin = f"pruned to {len(samples)} samples, {len(choice.features)} matched features"
        candidates.append(Candidate(pooling, choice, effect, origin))
    return candidates


def judge(
    bench: Bench,
    pools: Mapping[str, Parts],
    candidates: Sequence[Candidate],
    dense: Tensor,
    dense_effect: float,
    conversations: Conversations,
    *,
    tolerance: float,
) -> tuple[Candidate, list[dict[str, Any]]]:
    """Choose the smallest finalist that keeps what the dense vector adds to the behaviour rate.

    Finalists lie on the Pareto front: the smallest few that keep the dense vector's effect on the
    target, and the few with the largest effect. One holds if it adds at least the share `tolerance`
    of what the dense vector adds to the unsteered rate, and something. Where none holds, the one
    with the highest rate is taken; where the judge cannot judge, the effect decides alone.
    """
    if not candidates:
        raise SelectionError("nothing could be selected: no feature differs between the sides")
    front = pareto(list(candidates))
    strongest = sorted(front, key=lambda c: -c.effect)
    keeping = [c for c in front if dense_effect > 0 and c.effect >= tolerance * dense_effect]
    keeping.sort(key=_size)
    finalists = list(dict.fromkeys(keeping[:SMALLEST] + strongest[:STRONGEST]))
    if not (bench.judge.reliable and conversations):
        return (keeping or strongest)[0], [_row(c, None) for c in finalists]
    rates = {c: bench.rate(compose(pools[c.pooling], c.choice), conversations) for c in finalists}
    unsteered = bench.rate(None, conversations)
    added = max(bench.rate(dense, conversations) - unsteered, 0.0)
    floor = unsteered + tolerance * added
    holding = [c for c in finalists if rates[c] >= floor and rates[c] > unsteered]
    best = max(finalists, key=lambda c: (rates[c], -_size(c)))
    chosen = min(holding, key=_size) if holding else best
    return chosen, [_row(c, rates[c]) for c in finalists]


def _size(candidate: Candidate) -> float:
    """One number for smallness: doubling the samples weighs as much as doubling the features."""
    samples, features = candidate.size
    return math.log(samples) + math.log(max(features, 1))


def _row(candidate: Candidate, rate: float | None) -> dict[str, Any]:
    samples, features = candidate.size
    return {
        "origin": candidate.origin,
        "samples": samples,
        "features": features or None,
        "effect": candidate.effect,
        "behavior_rate": rate,
    }
