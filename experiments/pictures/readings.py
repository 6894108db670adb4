"""What a picture's colours say of where its points lie: a number a colour, beside that by chance.

Of points that lie somewhere: the silhouettes (Rousseeuw 1987) of behaviours, and of the two sides
within each behaviour; of influence, how well a group's nearest neighbours know it. Of a mapper
graph, whose nodes hold several points: how pure nodes are, and how influence differs between them.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist, pdist, squareform
from sklearn.metrics import silhouette_score

from experiments.pictures.chance import against_chance
from experiments.pictures.mapper import Graph
from experiments.pictures.points import Points, dealt_behaviors, dealt_influence, dealt_sides
from experiments.record import Row
from trimtab.selector.ranks import spearman

Floats = NDArray[np.float64]
Values = Mapping[str, float]  # by behaviour, or of `EVERY`
Measure = tuple[str, Callable[[NDArray[Any]], Values]]  # its name, and what it is of labels

EVERY = "all"
NEIGHBOURS = 5  # groups whose influence is set beside that of the one in their midst


@dataclass(frozen=True)
class Labels:
    """What points are coloured by.

    Attributes:
        of: the points' labels, `(n,)`.
        dealt: deals them out anew.
    """

    of: Callable[[Points], NDArray[Any]]
    dealt: Callable[[Points, np.random.Generator], NDArray[Any]]


LABELS = {
    "behaviour": Labels(lambda points: points.behavior, dealt_behaviors),
    "side": Labels(lambda points: points.positive, dealt_sides),
    "influence": Labels(lambda points: points.influence, dealt_influence),
}


def of_places(where: Floats, points: Points, shuffles: int, seed: int) -> Iterator[Row]:
    """Yield what each colour says of points at `where`, `(n, k)`; a row a behaviour, and of all."""
    apart = squareform(pdist(where))
    measures: dict[str, Measure] = {
        "behaviour": ("silhouette", lambda labels: _behaviors(apart, points, labels)),
        "side": ("silhouette", lambda labels: _sides(apart, points, labels)),
        "influence": ("neighbours", lambda labels: _neighbours(where, points, labels)),
    }
    yield from _beside_chance(measures, points, shuffles, seed)


def of_graph(graph: Graph, points: Points, shuffles: int, seed: int) -> Iterator[Row]:
    """Yield what each colour says of a mapper graph's nodes."""
    measures: dict[str, Measure] = {
        "behaviour": ("purity", lambda labels: {EVERY: purity(graph, labels)}),
        "side": ("purity", lambda labels: {EVERY: purity(graph, labels)}),
        "influence": ("between nodes", lambda labels: _between(graph, labels)),
    }
    yield from _beside_chance(measures, points, shuffles, seed)


def purity(graph: Graph, labels: NDArray[Any]) -> float:
    """Return the share of nodes' members that have the commonest label of their node."""
    most = [np.unique(labels[rows], return_counts=True)[1].max() for rows in graph.members]
    return float(sum(most) / sum(map(len, graph.members)))


def _beside_chance(
    measures: Mapping[str, Measure], points: Points, shuffles: int, seed: int
) -> Iterator[Row]:
    for colour, (name, measure) in measures.items():
        rng, labels = np.random.default_rng(seed), LABELS[colour]
        values = _with_mean(measure(labels.of(points)))
        dealt = [_with_mean(measure(labels.dealt(points, rng))) for _ in range(shuffles)]
        for behavior, value in values.items():
            yield {
                "colour": colour,
                "measure": name,
                "behavior": behavior,
                "value": value,
                **against_chance(value, [one[behavior] for one in dealt]),
            }


def _with_mean(values: Values) -> Values:
    if not values or EVERY in values:
        return values
    return {EVERY: float(np.mean(list(values.values()))), **values}


def _behaviors(apart: Floats, points: Points, labels: NDArray[Any]) -> Values:
    if len(points.behaviors) < 2:
        return {}
    return {EVERY: float(silhouette_score(apart, labels, metric="precomputed"))}


def _sides(apart: Floats, points: Points, labels: NDArray[Any]) -> Values:
    found = {}
    for name in points.behaviors:
        here = points.behavior == name
        within = apart[np.ix_(here, here)]
        found[name] = float(silhouette_score(within, labels[here], metric="precomputed"))
    return found


def _neighbours(where: Floats, points: Points, labels: NDArray[Any]) -> Values:
    """Rank-correlate each group's influence with the mean of its nearest neighbours'."""
    found = {}
    for name in points.behaviors:
        known = (points.behavior == name) & ~np.isnan(labels)
        _, first, index = np.unique(points.group[known], return_index=True, return_inverse=True)
        if len(first) <= NEIGHBOURS + 1:
            continue
        own = labels[known][first]
        means = np.zeros((len(first), where.shape[1]))
        np.add.at(means, index, where[known])
        means /= np.bincount(index)[:, None]
        apart = cdist(means, means)
        np.fill_diagonal(apart, np.inf)
        near = apart.argsort(1)[:, :NEIGHBOURS]
        found[name] = float(spearman(own, own[near].mean(1)))
    return found


def _between(graph: Graph, labels: NDArray[Any]) -> Values:
    """Return the share of the variance of influence that lies between nodes."""
    known = [values[~np.isnan(values)] for values in (labels[rows] for rows in graph.members)]
    known = [values for values in known if len(values)]
    if not known:
        return {}
    every = np.concatenate(known)
    between = sum(len(values) * (values.mean() - every.mean()) ** 2 for values in known)
    return {EVERY: float(between / ((every - every.mean()) ** 2).sum())}
