"""Does adding what other kinds share by index move the next item?

A text ends with an item Y. At its last token alone is added what the other kinds have at the next
index, less what they have at Y's own: a model that counts on from there names the item after the
next. The mirror image is the index before, less Y's own: it should name Y again. All vectors of an
item are as long as the residual's own difference between these two items.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from experiments.controls import stand_ins
from experiments.record import Row, say
from experiments.successors.answers import among, answers, share_of_items
from experiments.successors.indices import WHOLE, by_kind
from experiments.successors.reading import Singles
from experiments.successors.sequences import PACKAGED, Ordered
from experiments.successors.taught import CONTEXTS, Taught, centred, most_shared, teachers
from trimtab.selector.intervals import mean_estimate

Floats = NDArray[np.float64]

TEXTS = ("Please go on: {earlier}, {item}", "{earlier}, {item}")  # none of `CONTEXTS`
EARLIER = 3  # items at most before Y
MADE = "alone"  # the context whose fitting texts vectors are made of
UNSTEERED, SHARED = "unsteered", "shared features"
RANDOM, SHUFFLED = "random features", "shuffled indices"

Pair = tuple[Singles, Singles]  # for a step on and a step back, `(d_model,)` each


def steering_rows(taught: Taught) -> Iterator[Row]:
    """Yield what each kind of vector does, by sequence, by kind and over all."""
    found: dict[Ordered, dict[int, dict[str, Floats]]] = {}
    for sequence in taught.tested:
        say(f"steering {sequence.title}")
        indices = [index for index in sequence.indices if _is_steered(sequence, index)]
        if indices:
            found[sequence] = {i: _measured(taught, sequence, i) for i in indices}
    for sequence, by_index in found.items():
        groups = list(map(str, by_index))
        name: Row = {"sequence": sequence.title, "kind": sequence.kind}
        yield from _rows(name, [_summary(sequence, *item) for item in by_index.items()], groups)
    for kind, some in by_kind(found).items():
        every = [(sequence, *item) for sequence in some for item in found[sequence].items()]
        groups = [f"{sequence.kind} {index}" for sequence, index, _ in every]  # spellings together
        yield from _rows(
            {"sequence": WHOLE, "kind": kind}, [_summary(*item) for item in every], groups
        )


def _is_steered(sequence: Ordered, index: int) -> bool:
    """Whether an item has the neighbours it takes, and two other kinds have them too."""
    own = {index - 1, index, index + 1} <= set(sequence.indices)
    return (
        own
        and index > 1
        and sequence.item(index + 2) is not None
        and len(teachers(sequence, index + 1)) > 1
    )


def _measured(taught: Taught, sequence: Ordered, index: int) -> dict[str, Floats]:
    """Return log-probabilities of all items after one, by way, `(draws, 2, n_texts, n_items)`.

    The two are the step on and the step back; without steering they are the same.
    """
    laboratory = taught.laboratory

    def measure() -> dict[str, list[list[list[list[float]]]]]:
        ways = vectors(taught, sequence, index)
        flat = [vector for pairs in ways.values() for pair in pairs for vector in pair]
        earlier = [i for i in range(index - EARLIER, index) if i in sequence.indices]
        before = ", ".join(str(sequence.item(i)) for i in earlier)
        each = [
            answers(
                laboratory.model,
                laboratory.sae,
                text.format(earlier=before, item=sequence.item(index)),
                [f", {item}," for item in sequence.items],  # `1,` is no beginning of `10,`
                flat,
            )
            for text in TEXTS
        ]
        base, *rest = np.stack(each, axis=1)
        found = {UNSTEERED: [[base.tolist()] * 2]}
        values = iter(rest)
        for way, pairs in ways.items():
            found[way] = [[next(values).tolist() for _ in pair] for pair in pairs]
        return found

    key = ("steering", TEXTS, CONTEXTS, repr(PACKAGED), repr(sequence), index)
    return {way: np.array(x) for way, x in laboratory.journal.once(key, measure).items()}


def vectors(taught: Taught, sequence: Ordered, index: int) -> dict[str, list[Pair]]:
    """Return the vectors of an item by way, some draws of each."""
    sizes = taught.laboratory.sizes
    rng = np.random.default_rng([taught.laboratory.config.seed, index])
    kinds = teachers(sequence, index + 1)

    def profiles(what: str) -> list[Singles]:
        common = [range(1, min(len(one.items) for one in unit) + 1) for unit in kinds]
        return [taught.profile(what, u, MADE, c) for u, c in zip(kinds, common, strict=True)]

    own = taught.values("residual", sequence, CONTEXTS[MADE].fit, [index - 1, index, index + 1])
    before, here, after = own.mean(0)
    lengths = [np.linalg.norm(one - here) for one in (after, before)]
    reading, units = taught.reading, profiles("features")
    chosen = _chosen(units, sizes.features)

    def scaled(pair: Sequence[Singles]) -> Pair:
        on, back = (
            length * one / max(float(np.linalg.norm(one)), 1e-9)
            for length, one in zip(lengths, pair, strict=True)
        )
        return on.astype(np.float32), back.astype(np.float32)

    def of_features(some: Sequence[Singles], places: Sequence[int], into: Sequence[int]) -> Pair:
        """Differences of the features at `places`, along the directions of those at `into`."""
        directions = reading.directions[into]
        return scaled([step[places[: len(into)]] @ directions for step in steps(some, index)])

    everything = range(reading.features.shape[1])
    random = stand_ins(reading.features.mean(0), chosen, sizes.draws, rng)
    shuffles = [[rng.permutation(unit) for unit in units] for _ in range(sizes.draws)]
    others = [(draw, _chosen(draw, sizes.features)) for draw in shuffles]
    return {
        "own difference": [scaled((after - here, before - here))],
        "residual": [scaled(steps(profiles("residual"), index))],
        "all features": [of_features(units, everything, everything)],
        SHARED: [of_features(units, chosen, chosen)],
        RANDOM: [of_features(units, chosen, drawn) for drawn in random],
        SHUFFLED: [of_features(draw, some, some) for draw, some in others],
    }


def _chosen(units: Sequence[Singles], count: int) -> list[int]:
    """Return the places of the features that kinds share most, over the indices they all have."""
    common = min(map(len, units))
    return most_shared(np.stack([centred(unit[:common]) for unit in units]), count)


def steps(units: Sequence[Singles], index: int) -> Pair:
    """Return the mean differences to the next index and to the one before, `(width,)` each.

    Args:
        units: profiles of kinds, `(n_indices, width)`, from index 1 on.
        index: that differences are taken from.
    """
    on, back = (
        np.mean([unit[to - 1] - unit[index - 1] for unit in units], axis=0)
        for to in (index + 1, index - 1)
    )
    return on, back


def _summary(sequence: Ordered, index: int, found: dict[str, Floats]) -> dict[str, Floats]:
    """Return what becomes of an item, by way, `(draws, n_texts, 5)`.

    0. whether the next item is named under the step on;
    1. whether the one after it is;
    2. how the step on changes the log-odds of the one after the next against the next;
    3. how the step back changes those of Y against the next;
    4. half of how the step on changes those of the one after the next against Y, less how the step
       back does.
    """
    here, right, further = ((index + i - sequence.first) % len(sequence.items) for i in range(3))
    base = among(found[UNSTEERED])
    summary = {}
    for way, values in found.items():
        steered = among(values)
        named = steered[:, 0].argmax(-1)
        on, back = np.moveaxis(steered - base, 1, 0)
        parts = (
            named == right,
            named == further,
            on[..., further] - on[..., right],
            back[..., here] - back[..., right],
            ((on - back)[..., further] - (on - back)[..., here]) / 2,
        )
        summary[way] = np.stack(parts, axis=-1)
    return summary


def _rows(name: Row, each: Sequence[dict[str, Floats]], groups: list[str]) -> Iterator[Row]:
    ways = {way: np.stack([one[way] for one in each]) for way in each[0]} if each else {}
    for way, values in ways.items():  # (n, draws, n_texts, 5)
        row = name | {"way": way, "items": len(groups)}
        for i, what in enumerate(("names_next", "names_one_further")):
            row[what] = share_of_items(values[..., i], groups)
        if way != UNSTEERED:
            means = values.mean(2)
            for i, what in enumerate(("on", "back", "direction"), start=2):
                row[what] = mean_estimate(means[..., i], groups)
            for control in (RANDOM, SHUFFLED) if way not in (RANDOM, SHUFFLED) else ():
                less = means[..., 4].mean(1)[:, None] - ways[control].mean(2)[..., 4]
                row[f"beyond_{control.replace(' ', '_')}"] = mean_estimate(less, groups)
        yield row
