"""Random features that stand in for chosen ones."""

from collections.abc import Sequence

import numpy as np

from experiments.successors.reading import Singles

NEIGHBOURS = 8  # in mean activation, among which a stand-in is drawn


def stand_ins(features: Singles, chosen: Sequence[int], rng: np.random.Generator) -> list[int]:
    """Return for each chosen feature another that is as active, neither chosen nor drawn already.

    Args:
        features: activations `(n, width)`.
        chosen: places among the `width`.
        rng: draws among the `NEIGHBOURS` nearest in mean activation.

    Returns:
        Places; fewer than chosen where there are not enough others.
    """
    means = features.mean(0)
    drawn: list[int] = []
    for place in chosen:
        near = np.abs(means - means[place]).argsort(kind="stable")
        free = near[~np.isin(near, [*chosen, *drawn])][:NEIGHBOURS]
        if len(free):
            drawn.append(int(rng.choice(free)))
    return drawn
