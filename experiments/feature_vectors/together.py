"""Several vectors at once: what all do to a behaviour, less what each does to it alone."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from experiments.feature_vectors.decompositions import matching_pursuit
from experiments.record import Row, say
from experiments.subject import Subject
from trimtab.model.hook_points import HookPoint
from trimtab.model.hooks import edit
from trimtab.model.sae import SAE
from trimtab.selector.intervals import mean_estimate
from trimtab.selector.scales import digest

RANDOM, ALL = "random direction", "all others"

Floats = NDArray[np.float64]


def with_others(
    one: Subject,
    subjects: Sequence[Subject],
    at_later: Mapping[str, Subject],
    random: Sequence[Tensor],
) -> Iterator[Row]:
    """Yield what second dense vectors do to a behaviour's own, at its layer and at a later one."""
    vectors = {subject.name: [subject.dense] for subject in subjects} | {RANDOM: list(random)}
    above = {name: [subject.dense] for name, subject in at_later.items()} | {RANDOM: list(random)}
    later = at_later[one.name]
    own = one.bench.at_budget(one.dense)
    alone = one.effects(own)[:, None]
    for row in _at_one_layer(one, "dense", vectors):
        if row["other"] not in above:
            yield row
            continue
        added = [later.bench.at_budget(direction) for direction in above[str(row["other"])]]
        point = later.bench.hook_point
        by_itself = np.stack([_with_later(one, None, point, x) for x in added], axis=1)
        both = np.stack([_with_later(one, own, point, x) for x in added], axis=1)
        effects = {
            "other_later_alone": by_itself,
            "both_later": both,
            "interference_later": both - alone - by_itself,
        }
        yield row | {name: mean_estimate(found, one.groups) for name, found in effects.items()}


def of_features_with_others(
    one: Subject, subjects: Sequence[Subject], sae: SAE, atoms: int
) -> Iterator[Row]:
    """Yield the same of vectors of `atoms` features, at the one layer that has an SAE."""
    vectors = {s.name: [matching_pursuit(s.parts, sae, s.dense, atoms)] for s in subjects}
    yield from _at_one_layer(one, f"{atoms} features", vectors)


def _at_one_layer(
    one: Subject, kind: str, vectors: Mapping[str, Sequence[Tensor]]
) -> Iterator[Row]:
    """Yield what other vectors do beside a behaviour's own, each at the budget by itself.

    Args:
        one: the behaviour.
        kind: of the vectors.
        vectors: by behaviour, several draws of what is random.
    """
    added = {name: [one.bench.at_budget(x) for x in some] for name, some in vectors.items()}
    (own,) = added.pop(one.name)
    named = [name for name in added if name != RANDOM]
    alone = one.effects(own)[:, None]
    effects = {
        name: np.stack([one.effects(second) for second in seconds], axis=1)
        for name, seconds in added.items()
    }
    if len(named) > 1:
        added[ALL] = [torch.stack([added[name][0] for name in named]).sum(0)]
        effects[ALL] = np.sum([effects[name] for name in named], axis=0)  # of each alone
    for name, seconds in added.items():
        say(f"{one.name} with {name}, {kind}")
        both = np.stack([one.effects(own + second) for second in seconds], axis=1)
        total = own + seconds[0]
        damage = one.bench.divergence(
            total, one.bench.damage, float(total.norm()), meter="search"
        ).mean
        row: Row = {
            "behavior": one.name,
            "other": name,
            "vector": kind,
            "cosine": float(torch.nn.functional.cosine_similarity(own, seconds[0], dim=0)),
            "damage_of_both": damage,
        }
        found = {
            "alone": alone,
            "other_alone": effects[name],
            "both": both,
            "interference": both - alone - effects[name],
        }
        yield row | {what: mean_estimate(values, one.groups) for what, values in found.items()}


def _with_later(subject: Subject, added: Tensor | None, later: HookPoint, second: Tensor) -> Floats:
    """Return the effects `(n,)` of `second` at a later layer, and of `added` at the subject's."""
    margin, bench = subject.report, subject.bench

    def measure() -> list[float]:
        base = margin.base  # of the untouched model
        with edit(bench.model, later, lambda x: x + second.to(x)):
            steered = margin.per_sample(None if added is None else lambda x: x + added.to(x))
        return [float(x) for x in steered - base]

    below = None if added is None else digest(added)
    key = ("later", subject.name, below, str(later), digest(second))
    return np.array(bench.journal.once(key, measure))
