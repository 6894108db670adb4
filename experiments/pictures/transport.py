"""How far two mapper graphs are from each other, by the cheapest way to move one onto the other."""

from collections.abc import Callable, Iterator

import numpy as np
import ot
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from experiments.pictures.chance import against_chance
from experiments.pictures.mapper import Cloud, Graph
from experiments.record import Row

Bools = NDArray[np.bool_]
Parts = tuple[Bools, Bools]  # two parts of a cloud's points


def apart(
    cloud: Cloud,
    parts: Parts,
    deal: Callable[[np.random.Generator], Parts],
    shuffles: int,
    seed: int,
) -> Iterator[Row]:
    """Yield how far the graphs of two parts of a cloud are apart, in shape and in place.

    Args:
        cloud: the points.
        parts: masks of the cloud's points.
        deal: deals the points out anew to two such parts.
        shuffles: how often it does.
        seed: of it.
    """
    rng = np.random.default_rng(seed)
    graphs = [cloud.graph(part) for part in parts]
    found = distances(*graphs)
    dealt = [distances(*map(cloud.graph, deal(rng))) for _ in range(shuffles)]
    for name, distance in found.items():
        yield {
            "measure": name,
            "nodes": [len(graph.members) for graph in graphs],
            "distance": distance,
            **against_chance(distance, [one[name] for one in dealt]),
        }


def distances(one: Graph, other: Graph) -> dict[str, float]:
    """Return how far two graphs are apart.

    `place` is the Wasserstein distance of the nodes where they lie, in units of the activations; it
    does not see how they hang together. `shape` is the Gromov-Wasserstein distance (Mémoli 2011) of
    the graphs' own distances, from 0 to 1, which sees nothing else. Descent finds but a local
    minimum of it: the lower one of two, from the plan for the places and from no plan.
    """
    costs = cdist(one.place, other.place)
    plan = ot.emd(one.weights, other.weights, costs)
    graphs = one.apart, other.apart, one.weights, other.weights
    lowest = min(ot.gromov.gromov_wasserstein2(*graphs, G0=start) for start in (plan, None))
    return {"shape": float(np.sqrt(max(lowest, 0.0))), "place": float((plan * costs).sum())}
