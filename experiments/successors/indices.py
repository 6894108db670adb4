"""Does what other sequences share by index tell an item's index?

Centroids of each index, of the fitting texts of the sequences that teach, are compared with the
items of the sequence that is left out, on the reported texts, by cosine. Each sequence is centred
over the items that are asked, which knows no index.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from experiments.record import Row, say
from experiments.successors.answers import share_of_items
from experiments.successors.reading import Singles
from experiments.successors.sequences import PACKAGED, Ordered
from experiments.successors.taught import (
    CONTEXTS,
    Taught,
    centred,
    most_shared,
    shuffled,
    teachers,
)
from trimtab.selector.intervals import Estimate, mean_estimate

Floats = NDArray[np.float64]

READS = ("shared features", "all features", "residual")
WHOLE = "all"


class Task(NamedTuple):
    """What is asked of an item.

    Attributes:
        name: of the task.
        taught: the largest index that centroids are made of.
        later: items after those are asked, instead of them, by how far they are into a round.
    """

    name: str
    taught: int
    later: bool

    def label(self, index: int) -> int:
        """Return the index of the centroid that is right for an item."""
        return (index - 1) % self.taught + 1

    def asks(self, index: int) -> bool:
        """Whether an item is asked."""
        return index > self.taught if self.later else 1 <= index <= self.taught


def tasks(positions: Sequence[int], moduli: Sequence[int]) -> list[Task]:
    """Return the tasks: the index itself, of the first few; or later indices, in rounds."""
    own = [Task(f"index, of {count}", count, False) for count in positions]
    return own + [Task(f"index mod {count}, beyond {count}", count, True) for count in moduli]


def index_rows(taught: Taught) -> Iterator[Row]:
    """Yield how often the index is told, by sequence and over all, beside shuffled indices."""
    sizes = taught.laboratory.sizes
    for context in CONTEXTS:
        for task in tasks(sizes.positions, sizes.moduli):
            say(f"{task.name}, {context}")
            for own_kind in (False, True):
                told = {
                    sequence: found
                    for sequence in taught.tested
                    if (found := _told(taught, context, task, sequence, own_kind)) is not None
                }
                name: Row = {
                    "task": task.name,
                    "context": context,
                    "taught_by": "own kind" if own_kind else "other kinds",
                }
                yield from _rows(name, told)


class Told(NamedTuple):
    """Whether items' indices were told.

    Attributes:
        indices: of the n items.
        choices: labels to choose among.
        right: by what was read, `(n, n_templates)` zeros and ones.
        by_chance: by what was read, shares over templates with shuffled indices, `(n, draws)`.
    """

    indices: list[int]
    choices: int
    right: dict[str, Floats]
    by_chance: dict[str, Floats]


def _rows(name: Row, told: dict[Ordered, Told]) -> Iterator[Row]:
    """Yield rows by sequence, by kind and over all; spellings of an item are one group."""
    for read in READS if told else ():
        for sequence, found in told.items():
            groups = list(map(str, found.indices))
            row = name | {"sequence": sequence.title, "kind": sequence.kind, "read": read}
            row |= {"items": len(groups), "choices": found.choices}
            yield row | _accuracy(found.right[read], found.by_chance[read], groups)
        for kind, some in by_kind(told).items():
            right, by_chance = (
                np.concatenate([getattr(told[sequence], part)[read] for sequence in some])
                for part in ("right", "by_chance")
            )
            groups = [f"{s.kind} {index}" for s in some for index in told[s].indices]
            row = name | {"sequence": WHOLE, "kind": kind, "read": read, "items": len(groups)}
            row |= {"choices": max(told[sequence].choices for sequence in some)}
            yield row | _accuracy(right, by_chance, groups)


def by_kind(sequences: Iterable[Ordered]) -> dict[str, list[Ordered]]:
    """Return the sequences of each kind, and at last all of them."""
    every = list(sequences)
    kinds = dict.fromkeys(one.kind for one in every)
    return {kind: [one for one in every if one.kind == kind] for kind in kinds} | {WHOLE: every}


def _accuracy(right: Floats, by_chance: Floats, groups: list[str]) -> dict[str, Estimate]:
    return {
        "accuracy": share_of_items(right[:, None], groups),
        "shuffled": mean_estimate(by_chance, groups),
        "beyond": mean_estimate(right.mean(1)[:, None] - by_chance, groups),
    }


def _told(
    taught: Taught, context: str, task: Task, sequence: Ordered, own_kind: bool
) -> Told | None:
    """Ask a sequence's items; None where too few can teach them, or too few are to be asked."""
    units = teachers(sequence, task.taught, own_kind=own_kind)
    if len(units) < (1 if own_kind else 2):
        return None
    labels = [i for i in range(1, task.taught + 1) if i in taught.indices(units[0][0], context)]
    indices = [
        i for i in taught.indices(sequence, context) if task.asks(i) and task.label(i) in labels
    ]
    if len(indices) < 2:
        return None
    truth = np.array([labels.index(task.label(i)) for i in indices])
    laboratory, sizes = taught.laboratory, taught.laboratory.sizes

    def measure() -> dict[str, dict[str, list[list[float]]]]:
        found: dict[str, dict[str, list[list[float]]]] = {"right": {}, "by_chance": {}}
        for read in READS:
            what = "residual" if read == "residual" else "features"
            asked = centred(taught.values(what, sequence, CONTEXTS[context].report, indices))
            profiles = np.stack([taught.profile(what, unit, context, labels) for unit in units])
            count = sizes.features if read == "shared features" else None
            rng = np.random.default_rng(laboratory.config.seed)
            draws = (shuffled(profiles, rng) for _ in range(sizes.shuffles))
            found["right"][read] = (nearest(profiles, asked, count) == truth).T.tolist()
            by_chance = [(nearest(draw, asked, count) == truth).mean(0) for draw in draws]
            found["by_chance"][read] = np.stack(by_chance, axis=1).tolist()
        return found

    key = ("index", CONTEXTS, repr(PACKAGED), context, task, repr(sequence), own_kind)
    kept = laboratory.journal.once(key, measure)
    parts = ({read: np.array(x, dtype=float) for read, x in one.items()} for one in kept.values())
    return Told(indices, len(labels), *parts)


def nearest(units: Singles, asked: Singles, count: int | None) -> NDArray[np.int64]:
    """Return which index's centroid each item is nearest to, by cosine, `(n_templates, n_asked)`.

    Args:
        units: centred profiles that teach, `(n_units, n_labels, width)`.
        asked: centred items, `(n_templates, n_asked, width)`.
        count: features to look at, those that the units share most; None looks at everything.
    """
    some = slice(None) if count is None else most_shared(units, count)
    centroids = units.mean(0)[:, some]
    lengths = np.maximum(np.linalg.norm(centroids, axis=1), np.finfo(np.float32).tiny)
    found: NDArray[np.int64] = (asked[..., some] @ (centroids / lengths[:, None]).T).argmax(-1)
    return found
