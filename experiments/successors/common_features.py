"""Which features fire at the same index in several kinds of sequences, more than chance has it?"""

from collections.abc import Iterator
from functools import partial

import numpy as np

from experiments.record import Row, say
from experiments.successors.sequences import PACKAGED, Ordered
from experiments.successors.taught import CONTEXTS, Taught, most_shared, shared, shuffled


def common_rows(taught: Taught) -> Iterator[Row]:
    """Yield the features that all kinds share most, by context."""
    for context in CONTEXTS:
        say(f"features of an index, {context}")
        key = ("common", repr(PACKAGED), CONTEXTS, context)
        yield from taught.laboratory.journal.once(key, partial(_most_common, taught, context))


def _most_common(taught: Taught, context: str) -> list[Row]:
    """Return a row for each of the features that kinds share most in a context.

    `p` is the share of permutations of the indices, in every kind by itself, in which any
    feature at all is shared as much: it allows for having looked at all of them. `likeness` is 1
    where all kinds have the same profile.
    """
    sizes, seed = taught.laboratory.sizes, taught.laboratory.config.seed
    common = min(len(one.items) for one in PACKAGED)
    indices = [i for i in taught.indices(PACKAGED[0], context) if i <= common]
    kinds: dict[str, list[Ordered]] = {}
    for one in PACKAGED:
        kinds.setdefault(one.kind, []).append(one)
    units = np.stack([taught.profile("features", k, context, indices) for k in kinds.values()])
    rng = np.random.default_rng(seed)
    largest = [shared(shuffled(units, rng)).max() for _ in range(sizes.permutations)]
    products, mean = shared(units), units.mean(0)
    if_alike = (len(units) - 1) / 2 * (units**2).sum((0, 1))
    rows: list[Row] = []
    for place in most_shared(units, sizes.listed):
        at = int(mean[:, place].argmax())
        as_much = sum(bool(one >= products[place]) for one in largest)
        row: Row = {
            "context": context,
            "feature": int(taught.reading.numbers[place]),
            "index": indices[at],
            "kinds": ", ".join(
                kind for kind, unit in zip(kinds, units, strict=True) if unit[at, place] > 0
            ),
            "likeness": float(products[place] / max(if_alike[place], 1e-9)),
            "p": (1 + as_much) / (1 + len(largest)),
        }
        rows.append(row)
    return rows
