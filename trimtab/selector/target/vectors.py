"""Unlike vectors that surrogates are tried on: any of them may be what a search comes across."""

from collections.abc import Iterator, Mapping
from itertools import cycle, islice

import torch
from torch import Generator, Tensor

from trimtab.selector.parts import Choice, Parts, compose, everything
from trimtab.selector.rankers import FEATURE_RANKERS, SAMPLE_RANKERS, Evidence
from trimtab.selector.rankers.pursuit import matched
from trimtab.selector.target.member import is_new

SUBSETS = (0.1, 0.03, 0.5, 0.01)  # shares of the samples
FEATURES = (20, 6, 60)  # sizes of feature sets
MIXED = " + "

Named = Iterator[tuple[str, Tensor]]


def unlike_vectors(
    parts: Parts, gradients: Mapping[str, Tensor], count: int, seed: int
) -> dict[str, Tensor]:
    """Return `count` unlike vectors by name, `(d_model,)` each; the dense one is the first.

    Kinds take turns, so that a small panel has some of each: whole vectors and their negatives,
    gradients and what is matched to them, random subsets of samples, feature sets by several
    rankers, single features, mixtures of what came before, and random directions.

    Args:
        parts: rows of the samples to select from.
        gradients: `(d_model,)` of surrogates, by what people call them.
        count: how many; fewer where the kinds run out.
        seed: of everything random.
    """
    generator = torch.Generator().manual_seed(seed)
    found: dict[str, Tensor] = {}
    kinds = [
        _wholes(parts),
        _gradients(gradients),
        _after_gradients(parts, gradients, seed),
        _subsets(parts, generator),
        _feature_sets(parts, gradients, seed),
        _mixtures(found, generator),
        _single_features(parts, generator),
        _directions(parts, generator),
    ]
    for name, direction in islice(_in_turn(kinds), 20 * count):
        if float(direction.norm()) > 0 and is_new(direction, found.values()):
            found.setdefault(name, direction)
        if len(found) == count:
            break
    return found


def _in_turn(kinds: list[Named]) -> Named:
    """Take one of each kind in turn, until all have run out."""
    while kinds:
        for kind in list(kinds):
            try:
                yield next(kind)
            except StopIteration:
                kinds.remove(kind)


def _wholes(parts: Parts) -> Named:
    every = everything(parts)
    dense = compose(parts, Choice(every.samples))
    yield "dense mean difference", dense
    yield "its negative", -dense
    if every.features is not None:
        yield "all features", compose(parts, every)


def _gradients(gradients: Mapping[str, Tensor]) -> Named:
    for what, gradient in gradients.items():
        yield f"gradient of {what}", gradient
    for what, gradient in gradients.items():
        yield f"negative gradient of {what}", -gradient


def _after_gradients(parts: Parts, gradients: Mapping[str, Tensor], seed: int) -> Named:
    """Few features matched to a gradient, and few samples by influence on the next, in turn."""
    every, few = tuple(range(parts.n_samples)), max(2, parts.n_samples // 10)
    names = list(gradients)
    for what, following in zip(names, names[1:] + names[:1], strict=True):
        if parts.features is not None:
            gradient = gradients[what]
            pursued = _top(FEATURE_RANKERS["pursuit"](Evidence(parts, gradient, seed)), FEATURES[0])
            if pursued:
                choice = matched(parts, Choice(every, pursued), gradient)
                kept = choice.features or ()
                yield f"{len(kept)} features matched to {what}", compose(parts, choice)
        chosen = _top(SAMPLE_RANKERS["influence"](Evidence(parts, gradients[following], seed)), few)
        yield f"{len(chosen)} samples by influence on {following}", compose(parts, Choice(chosen))


def _subsets(parts: Parts, generator: Generator) -> Named:
    """Random samples; every third time the negative."""
    for number, share in enumerate(cycle(SUBSETS)):
        count = max(1, round(share * parts.n_samples))
        drawn = torch.randperm(parts.n_samples, generator=generator)[:count].tolist()
        vector = compose(parts, Choice(tuple(drawn)))
        plural = "s" if count > 1 else ""
        if number % 3 == 2:
            yield f"negative of {count} random sample{plural} ({number})", -vector
        else:
            yield f"{count} random sample{plural} ({number})", vector


def _feature_sets(parts: Parts, gradients: Mapping[str, Tensor], seed: int) -> Named:
    """Few features, by every ranker that the panel's gradients allow, of all samples."""
    if parts.features is None:
        return
    samples = tuple(range(parts.n_samples))
    ways: list[tuple[str, str, Tensor]] = [
        (ranker, "", torch.zeros(parts.residual.shape[1]))
        for ranker in ("contrast", "random", "cosine", "norm")
    ]
    ways += [("influence", f" on {what}", gradient) for what, gradient in gradients.items()]
    for number, (size, (ranker, on, gradient)) in enumerate(
        (size, way) for size in FEATURES for way in ways
    ):
        scores = FEATURE_RANKERS[ranker](Evidence(parts, gradient, seed + number))
        chosen = _top(scores, size)
        if chosen:
            how = "at random" if ranker == "random" else f"by {ranker}{on}"
            yield f"{len(chosen)} features {how}", compose(parts, Choice(samples, chosen))


def _single_features(parts: Parts, generator: Generator) -> Named:
    """Single features among those with the longest terms."""
    if parts.features is None:
        return
    largest = _top(
        FEATURE_RANKERS["norm"](Evidence(parts, torch.zeros(parts.residual.shape[1]))), 50
    )
    for i in torch.randperm(len(largest), generator=generator).tolist():
        choice = Choice(tuple(range(parts.n_samples)), (largest[i],))
        yield f"feature {largest[i]}", compose(parts, choice)


def _mixtures(found: Mapping[str, Tensor], generator: Generator) -> Named:
    """Sums of two vectors of the panel at unit length, in random shares."""
    while len(pure := [name for name in found if MIXED not in name]) > 1:
        one, other = torch.randperm(len(pure), generator=generator)[:2].tolist()
        share = float(0.2 + 0.6 * torch.rand((), generator=generator))
        mixed = share * _unit(found[pure[one]]) + (1 - share) * _unit(found[pure[other]])
        yield f"{share:.2f} {pure[one]}{MIXED}{1 - share:.2f} {pure[other]}", mixed


def _directions(parts: Parts, generator: Generator) -> Named:
    number = 0
    while True:
        number += 1
        drawn = torch.randn(parts.residual.shape[1], generator=generator)
        yield f"random direction {number}", drawn


def _unit(direction: Tensor) -> Tensor:
    unit: Tensor = direction / direction.norm()
    return unit


def _top(scores: Tensor, count: int) -> tuple[int, ...]:
    """Indices of the best `count` finite scores."""
    best = scores.argsort(descending=True)[:count].tolist()
    return tuple(i for i in best if scores[i] > -torch.inf)
