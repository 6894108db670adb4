"""Which features fire at the same index in several kinds of sequences, more than chance has it?"""

from collections.abc import Iterator

import numpy as np

from experiments.record import Row, say
from experiments.successors.sequences import PACKAGED
from experiments.successors.taught import CONTEXTS, Taught, most_shared, shared, shuffled


def common_rows(taught: Taught) -> Iterator[Row]:
    """Yield the features that all kinds share most, by context.

    `chance` is the share of permutations of the indices, in every kind by itself, in which any
    feature at all is shared as much: it allows for having looked at all of them.
    """
    journal = taught.laboratory.journal
    sizes, seed = taught.laboratory.sizes, taught.laboratory.config.seed
    count = min(len(one.items) for one in PACKAGED)
    kinds = list(dict.fromkeys(one.kind for one in PACKAGED))
    for context in CONTEXTS:
        say(f"features of an index, {context}")

        def measure(context: str = context) -> list[Row]:
            indices = [i for i in taught.indices(PACKAGED[0], context) if i <= count]
            units = np.stack(
                [
                    taught.profile(
                        "features", [one for one in PACKAGED if one.kind == kind], context, indices
                    )
                    for kind in kinds
                ]
            )
            rng = np.random.default_rng(seed)
            largest = np.array(
                [shared(shuffled(units, rng)).max() for _ in range(sizes.permutations)]
            )
            products, mean = shared(units), units.mean(0)
            squares = (units**2).sum((0, 1)) * (len(units) - 1) / 2
            rows: list[Row] = []
            for place in most_shared(units, sizes.listed):
                at = int(mean[:, place].argmax())
                fires = [
                    kind for kind, unit in zip(kinds, units, strict=True) if unit[at, place] > 0
                ]
                rows.append(
                    {
                        "context": context,
                        "feature": int(taught.reading.numbers[place]),
                        "index": indices[at],
                        "kinds": ", ".join(fires),
                        "likeness": float(products[place] / squares[place]),
                        "chance": float(
                            (1 + (largest >= products[place]).sum()) / (1 + len(largest))
                        ),
                    }
                )
            return rows

        yield from journal.once(("common", repr(PACKAGED), CONTEXTS, context), measure)
