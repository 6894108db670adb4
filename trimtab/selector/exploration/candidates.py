"""Candidates for the minimal vector, a function a method; each is measured at equal damage."""

from collections.abc import Iterable, Sequence
from contextlib import suppress

import torch
from torch import Tensor

from trimtab.errors import VectorError
from trimtab.selector.exploration.gates import gate_path
from trimtab.selector.exploration.objective import Objective
from trimtab.selector.exploration.pruning import CurvePoint, prune, prune_jointly, sizes_down_from
from trimtab.selector.exploration.ranked import choose_features
from trimtab.selector.exploration.surface import Candidate, Method
from trimtab.selector.parts import Choice, Parts, compose
from trimtab.selector.rankers import FEATURE_RANKERS, Evidence
from trimtab.selector.rankers.pursuit import MAX_FEATURES, matched, usable

MATCHED_FEATURES = (40, 20, 12, 6)  # sizes at which features are matched on the pruned samples
FEW_SAMPLES = (0.05, 0.1, 0.2)  # shares of the samples that are tried with every feature
DECOMPOSED = (8, 20, 64)  # features that the dense vector is written as
DECOMPOSED_ON = (0.05, 0.2)  # shares of the samples that give them
MAX_PRUNED_FEATURES = 256  # pruning of features alone starts at no more than these
CURVE_FLOOR = 0.5  # pruning goes on to this share of the full effect, so that curves show the fall
RANDOM_SIZES = ((0.05, 5), (0.05, 20), (0.2, 20))  # share of samples and number of features
RANDOM_DRAWS = 3  # at each of them


def prune_samples(objective: Objective, pooling: str, dense: float) -> list[CurvePoint]:
    """Return the pruning curve of samples, of the dense vector that is left.

    Args:
        objective: whose first gradient ranks them.
        pooling: rows to choose from.
        dense: effect of the dense vector.
    """
    parts = objective.pools[pooling]
    return prune(
        parts.residual,
        objective.start,
        lambda kept: objective.candidate("pruning", pooling, Choice(kept), "").effect,
        sizes_down_from(parts.n_samples),
        full_effect=dense,
        tolerance=CURVE_FLOOR,
    )


def prune_features(
    objective: Objective, pooling: str, dense: float, samples: tuple[int, ...]
) -> list[CurvePoint]:
    """Return the pruning curve of features on the samples that were left."""
    parts = objective.pools[pooling]
    assert parts.features is not None and parts.decoder is not None
    mean = parts.features[list(samples)].mean(0)
    fired = mean.nonzero().flatten()

    def choice(kept: tuple[int, ...]) -> Choice:
        return Choice(samples, tuple(fired[list(kept)].tolist()))

    curve = prune(
        mean[fired, None] * parts.decoder[fired],
        objective.start,
        lambda kept: objective.candidate("pruning", pooling, choice(kept), "").effect,
        sizes_down_from(min(len(fired), MAX_PRUNED_FEATURES)),
        full_effect=dense,
        tolerance=CURVE_FLOOR,
    )
    return [CurvePoint(choice(p.kept).features or (), p.effect, p.faithfulness) for p in curve]


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
            Candidate(
                pooling, Choice(p.kept), p.effect, f"pruned to {len(p.kept)} samples", "pruning"
            )
            for p in sample_curve
        ]
    start = f"pruned to {len(samples)} samples"
    return [
        Candidate(
            pooling,
            Choice(samples, p.kept),
            p.effect,
            f"{start}, {len(p.kept)} features",
            "pruning",
        )
        for p in feature_curve
    ]


def few_samples_candidates(
    objective: Objective, pooling: str, sample_curve: Sequence[CurvePoint]
) -> list[Candidate]:
    """Return candidates of few samples, by the pruning curve, with every feature that they have."""
    parts = objective.pools[pooling]
    if parts.features is None:
        return []
    choices: dict[Choice, None] = {}
    for samples in _few(sample_curve, FEW_SAMPLES, parts):
        features = parts.features[list(samples)].abs().sum(0).nonzero().flatten().tolist()
        if features:
            choices[Choice(samples, tuple(features))] = None
    return _measured(objective, "few samples", pooling, choices, "every feature")


def decomposed_candidates(
    objective: Objective, pooling: str, sample_curve: Sequence[CurvePoint]
) -> list[Candidate]:
    """Return candidates of few features, on few samples, that come nearest to the dense vector.

    Features that follow a surrogate's gradient may win the surrogate without the behaviour. These
    are matched to the vector whose behaviour is known.
    """
    parts = objective.pools[pooling]
    if parts.features is None:
        return []
    dense = compose(parts, Choice(_all(parts)))
    choices = {
        choose_features(
            parts, samples, dense, ranker="pursuit", count=count, coefficients="matched"
        ): None
        for samples in _few(sample_curve, DECOMPOSED_ON, parts)
        for count in DECOMPOSED
    }
    found = (choice for choice in choices if choice is not None)
    return _measured(objective, "decomposition", pooling, found, "dense vector as features", dense)


def matched_candidates(
    objective: Objective, pooling: str, samples: tuple[int, ...]
) -> list[Candidate]:
    """Return candidates of few features, matched to the gradient, on the samples that were left."""
    parts = objective.pools[pooling]
    choices = [
        choose_features(
            parts, samples, objective.start, ranker="pursuit", count=count, coefficients="matched"
        )
        for count in MATCHED_FEATURES
    ]
    found = (c for c in choices if c is not None)
    return _measured(objective, "pursuit", pooling, found, "matched on pruned", objective.start)


def joint_candidates(objective: Objective, pooling: str, dense: float) -> list[Candidate]:
    """Return a path on which samples and features are pruned together, from all that is usable.

    Where few features are left, each point stands there with matched coefficients, too.
    """
    parts = objective.pools[pooling]
    features = _usable(parts)
    if features == ():
        return []
    return _path(objective, "joint pruning", pooling, Choice(_all(parts), features), dense)


def pursued_candidates(objective: Objective, pooling: str, dense: float) -> list[Candidate]:
    """Return a path from the features that a matching pursuit takes, on all samples, downwards.

    The samples that stay are those that serve the pursued features; coefficients are matched anew
    at each point.
    """
    parts = objective.pools[pooling]
    scores = FEATURE_RANKERS["pursuit"](Evidence(parts, objective.start))
    pursued = tuple(scores.argsort(descending=True)[:MAX_FEATURES].tolist())
    pursued = tuple(f for f in pursued if scores[f] > -torch.inf)
    if not pursued:
        return []
    start = matched(parts, Choice(_all(parts), pursued), objective.start)
    return _path(objective, "pursuit", pooling, start, dense)


def gate_candidates(
    objective: Objective, pooling: str, dense: float, *, seed: int
) -> list[Candidate]:
    """Return what learned gates leave open at each penalty; few features also matched."""
    parts = objective.pools[pooling]
    features = _usable(parts)
    if features == ():
        return []
    points = gate_path(
        parts,
        features,
        lambda added: objective.gradient("gates", added),
        objective.strength,
        seed=seed,
    )
    found: list[Candidate] = []
    with suppress(VectorError):  # no multiplier brings what is left to the damage budget
        for point in points:
            kept = _measured(objective, "gates", pooling, [point.choice], "gates")
            found.extend(kept)
            found.extend(_matched(objective, "gates", pooling, point.choice, point.gradient))
            if not kept or kept[0].effect < CURVE_FLOOR * dense:
                break
    return found


def random_candidates(objective: Objective, pooling: str, *, seed: int) -> list[Candidate]:
    """Return random samples and features of a few sizes, matched to the gradient.

    They show what a size gives whatever is chosen; they are never chosen themselves.
    """
    parts = objective.pools[pooling]
    generator = torch.Generator().manual_seed(seed)

    def draw() -> Iterable[Choice]:
        for share, count in RANDOM_SIZES:
            for _ in range(RANDOM_DRAWS):
                some = torch.randperm(parts.n_samples, generator=generator)
                samples = tuple(some[: max(1, round(share * parts.n_samples))].tolist())
                if parts.features is None:
                    yield Choice(samples)
                    continue
                fired = parts.features[list(samples)].mean(0).nonzero().flatten()
                if len(fired):
                    of_fired = torch.randperm(len(fired), generator=generator)[:count]
                    choice = Choice(samples, tuple(fired[of_fired].tolist()))
                    yield matched(parts, choice, objective.start)

    return _measured(objective, "random", pooling, draw(), "random", objective.start)


def _path(
    objective: Objective, method: Method, pooling: str, start: Choice, dense: float
) -> list[Candidate]:
    """Prune jointly until the effect falls below the floor; the point that does is kept, too."""
    parts, gradient = objective.pools[pooling], objective.start

    def refit(choice: Choice) -> Choice:
        return choice if choice.coefficients is None else matched(parts, choice, gradient)

    found: list[Candidate] = []
    for choice in prune_jointly(parts, start, gradient, refit):
        towards = None if choice.coefficients is None else gradient
        kept = _measured(objective, method, pooling, [choice], method, towards)
        found.extend(kept)
        if choice.coefficients is None:
            found.extend(_matched(objective, method, pooling, choice, gradient))
        if not kept or kept[0].effect < CURVE_FLOOR * dense:
            break
    return found


def _matched(
    objective: Objective, method: Method, pooling: str, choice: Choice, gradient: Tensor
) -> list[Candidate]:
    """Measure a choice of few features with coefficients matched to a gradient; else nothing."""
    if choice.features is None or len(choice.features) > MAX_FEATURES:
        return []
    fitted = matched(objective.pools[pooling], choice, gradient)
    return _measured(objective, method, pooling, [fitted], f"{method}, matched", gradient)


def _measured(
    objective: Objective,
    method: Method,
    pooling: str,
    choices: Iterable[Choice],
    how: str,
    towards: Tensor | None = None,
) -> list[Candidate]:
    """Measure choices, matched to a direction where one is given.

    Those that no multiplier brings to the damage budget are passed over.
    """
    found = []
    for choice in choices:
        kept = "" if choice.features is None else f", {len(choice.features)} features"
        with suppress(VectorError):
            origin = f"{how}: {len(choice.samples)} samples{kept}"
            found.append(objective.candidate(method, pooling, choice, origin, towards))
    return found


def _few(
    sample_curve: Sequence[CurvePoint], shares: Iterable[float], parts: Parts
) -> list[tuple[int, ...]]:
    """Return what the pruning curve keeps at shares of the samples: at most that, one at least."""
    found = []
    for share in shares:
        most = max(1, round(share * parts.n_samples))
        kept = [p.kept for p in sample_curve if len(p.kept) <= most]
        found.append(max(kept, key=len) if kept else min((p.kept for p in sample_curve), key=len))
    return list(dict.fromkeys(found))


def _all(parts: Parts) -> tuple[int, ...]:
    return tuple(range(parts.n_samples))


def _usable(parts: Parts) -> tuple[int, ...] | None:
    """Return the features that differ clearly, all that differ where none does; None without."""
    if parts.features is None:
        return None
    clear = usable(parts)
    some = clear if bool(clear.any()) else parts.features.mean(0) != 0
    return tuple(some.nonzero().flatten().tolist())
