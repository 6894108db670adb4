"""What the rankers choose when asked for so many: samples, features on them, coefficients."""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from trimtab.selector.parts import Choice, Parts, terms
from trimtab.selector.rankers import FEATURE_RANKERS, SAMPLE_RANKERS, Evidence
from trimtab.selector.rankers.pursuit import matched

Knobs = Mapping[str, str | int]


def choose_features(
    parts: Parts,
    samples: tuple[int, ...],
    gradient: Tensor,
    *,
    ranker: str,
    count: int,
    coefficients: str,
) -> Choice | None:
    """Return the best `count` features on the chosen samples; None where none qualifies.

    Features are ranked on all samples, where their differences are known best, but only those are
    used whose difference over the chosen samples has the same sign. Coefficients are `mean` (all 1)
    or `matched` to the gradient's direction.
    """
    assert parts.features is not None
    chosen = parts.features[list(samples)].mean(0)
    agreeing = chosen.sign() == parts.features.mean(0).sign()
    evidence = Evidence(replace(parts, features=parts.features * agreeing), gradient)
    ranked = FEATURE_RANKERS[ranker](evidence)
    best = ranked.argsort(descending=True)[:count]
    features = tuple(best[ranked[best] > -torch.inf].tolist())
    if not features:
        return None
    choice = Choice(samples, features)
    return matched(parts, choice, gradient) if coefficients == "matched" else choice


def choose_by_knobs(pools: Mapping[str, Parts], gradient: Tensor, knobs: Knobs) -> Choice | None:
    """Return what the rankers choose at these knobs; None where no feature qualifies.

    Samples are ranked for all that they differ in, or for the features that are taken first.
    """
    parts = pools[str(knobs["pooling"])]

    def features(of: Parts, samples: tuple[int, ...]) -> Choice | None:
        return choose_features(
            of,
            samples,
            gradient,
            ranker=str(knobs["feature_ranker"]),
            count=int(knobs["features"]),
            coefficients=str(knobs["coefficients"]),
        )

    if knobs.get("samples_for") == "features":
        first = features(parts, tuple(range(parts.n_samples)))
        if first is None:
            return None
        parts = through(parts, first)
    scores = SAMPLE_RANKERS[str(knobs["sample_ranker"])](Evidence(parts, gradient))
    samples = tuple(sorted(scores.topk(int(knobs["samples"])).indices.tolist()))
    return Choice(samples) if parts.features is None else features(parts, samples)


def through(parts: Parts, choice: Choice) -> Parts:
    """Return the samples of `choice`, all of them, seen through its features alone."""
    assert parts.features is not None and choice.features is not None
    chosen = torch.zeros(parts.features.shape[1])
    chosen[list(choice.features)] = 1.0
    of_samples, _ = terms(parts, choice)
    return replace(parts, residual=parts.n_samples * of_samples, features=parts.features * chosen)
