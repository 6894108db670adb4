"""What steering and ablation do to completions: their activations at a later layer, pooled.

The vector of the pairs that vectors are made of stands at the damage budget, beside random
directions at the same. Of the features that fire more on the positive side those that differ most
are set to zero, beside random ones of the same sign, as many as differ as much together. Both act
on held-out completions.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from experiments.controls import as_strong, random_directions
from experiments.laboratory import Laboratory
from experiments.pictures.mapper import Cloud
from experiments.pictures.planes import components
from experiments.pictures.transport import Parts, apart
from experiments.record import Row, flat, say
from experiments.subject import Subject
from trimtab.model.hook_points import HookPoint
from trimtab.model.language_model import LanguageModel
from trimtab.model.pooling import mean_residuals
from trimtab.model.render import render
from trimtab.selector.intervals import mean_estimate
from trimtab.steering.apply import Steering, steered
from trimtab.steering.clamp import FeatureClamp
from trimtab.steering.vector import SteeringVector

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

PICTURE = "before and after"
UNSTEERED = "unsteered"
CONTROLS = {"steered": "random direction", "ablated": "random features ablated"}
"""What is done to completions, and what it is set beside."""


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Completions of a behaviour's held-out samples, a row a side of each, as the model reads them.

    Attributes:
        samples: ids, `(n,)`.
        groups: `(n,)`.
        positive: whether it is the positive side, `(n,)`.
        rows: token ids of prompt and completion.
        starts: where the completion begins in each.
    """

    samples: list[str]
    groups: list[str]
    positive: Bools
    rows: list[tuple[int, ...]]
    starts: list[int]


def held_out(subject: Subject) -> HeldOut:
    """Return the completions that the behaviour's held-out margin scores."""
    bench = subject.bench
    sides = [(sample, *one) for sample in subject.report.samples for one in sample.sides]
    rendered = [
        render(bench.model, sample.messages, text, chat=bench.chat, system=bench.system)
        for sample, _, text in sides
    ]
    return HeldOut(
        [sample.id for sample, _, _ in sides],
        [sample.group for sample, _, _ in sides],
        np.array([side == "positive" for _, side, _ in sides]),
        [one.ids[: bench.longest] for one in rendered],
        [one.n_prompt for one in rendered],
    )


def means_at(
    model: LanguageModel, point: HookPoint, read: HeldOut, steering: Steering | None
) -> Floats:
    """Return the mean activation of each completion at a hook point, `(n, d_model)`.

    Args:
        model: the language model.
        point: where it is read, beyond where it is steered.
        read: the completions.
        steering: what is done meanwhile, at a multiplier of 1; None leaves the model alone.
    """
    found = np.zeros((len(read.rows), model.d_model))
    for start in sorted(set(read.starts)):  # those that begin together are steered together
        here = [i for i, one in enumerate(read.starts) if one == start]
        rows = [read.rows[i] for i in here]
        done = nullcontext() if steering is None else steered(model, steering, prompt_length=start)
        with done:
            found[here] = mean_residuals(model, point, rows, [start] * len(rows)).numpy()
    return found


def steerings(subject: Subject, laboratory: Laboratory) -> dict[str, list[Steering]]:
    """Return what is done to completions, by name: several draws of each control.

    Raises:
        VectorError: a vector cannot be brought to the damage budget, or there are no features to
            set to zero.
    """
    sizes, seed, sae = laboratory.sizes, laboratory.config.seed, laboratory.sae
    bench, parts = subject.bench, subject.parts
    assert parts.features is not None
    assert parts.decoder is not None
    random = random_directions(laboratory.model.d_model, sizes.draws, seed)
    more = parts.features.mean(0).clamp(min=0)  # on the positive side
    lengths = (more * parts.decoder.norm(dim=1)).numpy()
    longest = np.argsort(-lengths, kind="stable")[: sizes.ablated]
    chosen = longest[lengths[longest] > 0].tolist()
    others = as_strong(lengths, chosen, sizes.draws, np.random.default_rng(seed))

    def added(direction: torch.Tensor) -> Steering:
        return SteeringVector(bench.at_budget(direction), bench.hook_point)

    def without(features: Sequence[int]) -> Steering:
        return FeatureClamp(sae, dict.fromkeys(features, 0.0))

    return {
        "steered": [added(subject.dense)],
        "random direction": [added(direction) for direction in random],
        "ablated": [without(chosen)],
        "random features ablated": [without(some) for some in others],
    }


@dataclass(frozen=True, eq=False)
class Seen:
    """What was seen of a behaviour's completions at the later layer.

    Attributes:
        turned: principal components of all states together, the first draw of each,
            `(n_states * n, d)`; unsteered first, then as in `way`.
        way: how far each completion went by each state, as a share of the way from the mean of the
            negative sides to that of the positive ones, `(n, draws)`.
        damage: of each state, nats per token, mean over draws.
    """

    turned: Floats
    way: Mapping[str, Floats]
    damage: Mapping[str, float]


def see(subject: Subject, read: HeldOut, laboratory: Laboratory, point: HookPoint) -> Seen:
    """Return what steering and ablation do to a behaviour's completions, measured once."""

    def measure() -> dict[str, object]:
        say(f"{subject.name}: steered and ablated, at {point}")
        done = steerings(subject, laboratory)
        base = means_at(laboratory.model, point, read, None)
        after = {
            name: np.stack([means_at(laboratory.model, point, read, one) for one in draws])
            for name, draws in done.items()
        }
        gap = base[read.positive].mean(0) - base[~read.positive].mean(0)
        firsts = np.concatenate([base, *(states[0] for states in after.values())])
        damage = {
            name: [subject.bench.damage(one.edit(1.0)).mean for one in draws]
            for name, draws in done.items()
        }
        return {
            "turned": components(firsts)[:, : laboratory.sizes.components].tolist(),
            "way": {
                name: ((states - base) @ gap / (gap @ gap)).T.tolist()
                for name, states in after.items()
            },
            "damage": {name: float(np.mean(each)) for name, each in damage.items()},
        }

    key = ("later", subject.name, str(point), read.samples)
    kept = subject.bench.journal.once(key, measure)
    way = {name: np.array(each) for name, each in kept["way"].items()}
    return Seen(np.array(kept["turned"]), way, kept["damage"])


def before_and_after(
    subject: Subject, laboratory: Laboratory, point: HookPoint
) -> dict[str, list[Row]]:
    """Return a behaviour's held-out completions before and after, by table.

    Raises:
        VectorError: as `steerings` does.
    """
    read = held_out(subject)
    seen = see(subject, read, laboratory, point)
    where = {"space": str(point), "behavior": subject.name}
    distances = _apart(subject, read, seen, laboratory)
    return {
        "points": [where | row for row in _points(read, seen)],
        "steering": [where | row for row in _moved(read, seen)],
        "distances": [
            where | row
            for row in laboratory.rows(f"{subject.name}, graphs before and after", distances)
        ],
    }


def _points(read: HeldOut, seen: Seen) -> Iterator[Row]:
    planes = seen.turned[:, :2].reshape(-1, len(read.rows), 2)
    for state, plane in zip((UNSTEERED, *seen.way), planes, strict=True):
        for i, (x, y) in enumerate(plane.tolist()):
            yield {
                "picture": PICTURE,
                "state": state,
                "sample": read.samples[i],
                "side": "positive" if read.positive[i] else "negative",
                "x": x,
                "y": y,
            }


def _moved(read: HeldOut, seen: Seen) -> Iterator[Row]:
    """Yield how far each state moves completions, beside its control."""
    for state, way in seen.way.items():
        row = {
            "state": state,
            "damage": seen.damage[state],
            "way": mean_estimate(way, read.groups),
        }
        if state in CONTROLS:
            beyond = way - seen.way[CONTROLS[state]]
            row["beyond_control"] = mean_estimate(beyond, read.groups)
        yield row


def _apart(subject: Subject, read: HeldOut, seen: Seen, laboratory: Laboratory) -> Iterator[Row]:
    """Yield how far each state's mapper graph is from the unsteered one.

    By chance: the two states of a completion are swapped in half of the groups.
    """
    sizes, seed = laboratory.sizes, laboratory.config.seed
    n = len(read.rows)
    unsteered = np.arange(len(seen.turned)) < n
    cloud = Cloud(seen.turned, sizes.cubes, sizes.overlap, sizes.quantile, unsteered)
    names, index = np.unique(read.groups, return_inverse=True)

    def parts(state: int, swapped: Bools) -> Parts:
        one = np.zeros(len(seen.turned), dtype=bool)
        other = one.copy()
        here = slice(state * n, (state + 1) * n)
        one[:n], one[here] = ~swapped, swapped
        other[:n], other[here] = swapped, ~swapped
        return one, other

    def deal(state: int, rng: np.random.Generator) -> Parts:
        return parts(state, (rng.random(len(names)) < 0.5)[index])

    def graphs(state: int) -> list[Row]:
        as_they_are = parts(state, np.zeros(n, dtype=bool))
        found = apart(cloud, as_they_are, partial(deal, state), sizes.shuffles, seed)
        return [flat(row) for row in found]

    for state, name in enumerate(seen.way, start=1):
        say(f"{subject.name}: graphs of unsteered and {name}")
        key = ("states apart", subject.name, name, read.samples)
        for row in subject.bench.journal.once(key, partial(graphs, state)):
            yield {"compared": f"{UNSTEERED} and {name}", **row}
