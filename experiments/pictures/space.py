"""The pictures of one space, and their numbers."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
from numpy.typing import NDArray

from experiments.laboratory import Laboratory
from experiments.pictures.chance import against_chance
from experiments.pictures.mapper import Cloud, Graph
from experiments.pictures.planes import components, shares, tsne
from experiments.pictures.points import Points, dealt_sides
from experiments.pictures.probe import side_auc
from experiments.pictures.readings import EVERY, of_graph, of_places
from experiments.pictures.transport import Parts, apart
from experiments.record import Row, flat, say

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

COUNTS = (1, 2, 10)  # of principal components whose share of the variance is told
CHANCE_AUC = 0.5
SIDES = "positive and negative sides"


@dataclass(frozen=True, eq=False)
class Space:
    """Completions in one of the spaces that they are pictured in.

    Attributes:
        name: of the space.
        points: the completions.
        rows: their activations, `(n, d)`.
        laboratory: keeps what is measured.
    """

    name: str
    points: Points
    rows: Floats
    laboratory: Laboratory

    @cached_property
    def turned(self) -> Floats:
        """The rows in all of their principal components."""
        return components(self.rows)

    @cached_property
    def _digest(self) -> str:
        labels = (values.tobytes() for values in vars(self.points).values())
        return hashlib.sha256(b"".join((self.rows.tobytes(), *labels))).hexdigest()

    @cached_property
    def cloud(self) -> Cloud:
        """What mapper graphs are made of."""
        return self.covered(self.laboratory.sizes.cubes)

    def covered(self, cubes: int) -> Cloud:
        """Return what mapper graphs with so many squares along each axis are made of."""
        sizes, turned = self.laboratory.sizes, self.turned[:, : self.laboratory.sizes.components]
        return Cloud(turned, cubes, sizes.overlap, sizes.quantile, self.every)

    @property
    def every(self) -> Bools:
        """The mask of all completions."""
        return np.ones(len(self.rows), dtype=bool)

    def part(self, behavior: str) -> "Space":
        """Return the completions of one behaviour, in their own principal components."""
        here = self.points.behavior == behavior
        return Space(self.name, self.points.rows(here), self.rows[here], self.laboratory)

    def once(self, what: str, rows: Callable[[], Iterable[Row]]) -> list[Row]:
        """Return rows that are made once, with the space's name."""

        def measure() -> list[Row]:
            say(f"{self.name}: {what}")
            return [flat(row) for row in rows()]

        kept = self.laboratory.journal.once((what, self.name, self._digest), measure)
        return [{"space": self.name, **row} for row in kept]


def pictures(space: Space) -> dict[str, list[Row]]:
    """Return a space's pictures and their numbers, by table.

    Raises:
        SelectionError: there are too few points for a mapper graph.
    """
    spread = space.once("t-SNE", lambda: _tsne(space))
    planes = {
        "PCA": space.turned[:, :2],
        "t-SNE": np.array([(row["x"], row["y"]) for row in spread]),
    }
    graph = space.cloud.graph(space.every)
    return {
        "points": [row for name, plane in planes.items() for row in _points(space, name, plane)],
        "nodes": list(_nodes(space, graph)),
        "edges": [{"space": space.name, "one": int(a), "other": int(b)} for a, b in graph.edges],
        "numbers": _numbers(space, planes, graph),
        "distances": [
            row
            for name in (EVERY, *space.points.behaviors)
            for row in space.laboratory.rows(
                f"{name}, sides in {space.name}", _sides_apart(space, name)
            )
        ],
        "covers": space.once("covers", lambda: _covers(space)),
    }


def _tsne(space: Space) -> Iterator[Row]:
    sizes, seed = space.laboratory.sizes, space.laboratory.config.seed
    for x, y in tsne(space.turned[:, : sizes.components], sizes.perplexity, seed):
        yield {"x": float(x), "y": float(y)}


def _points(space: Space, picture: str, plane: Floats) -> Iterator[Row]:
    points = space.points
    for i, (x, y) in enumerate(plane):
        yield {
            "space": space.name,
            "picture": picture,
            "behavior": str(points.behavior[i]),
            "sample": str(points.sample[i]),
            "side": "positive" if points.positive[i] else "negative",
            "influence": _known(points.influence[i]),
            "x": float(x),
            "y": float(y),
        }


def _nodes(space: Space, graph: Graph) -> Iterator[Row]:
    points = space.points
    for node, (rows, place) in enumerate(zip(graph.members, graph.place, strict=True)):
        names, counts = np.unique(points.behavior[rows], return_counts=True)
        influence = points.influence[rows]
        known = influence[~np.isnan(influence)]
        yield {
            "space": space.name,
            "node": node,
            "x": float(place[0]),
            "y": float(place[1]),
            "points": len(rows),
            "behavior": str(names[counts.argmax()]),
            "purity": float(counts.max() / len(rows)),
            "positive": float(points.positive[rows].mean()),
            "influence": float(known.mean()) if len(known) else None,
        }


def _numbers(space: Space, planes: Mapping[str, Floats], graph: Graph) -> list[Row]:
    """Return what the colours say of each picture, and what they say in all dimensions."""
    shuffles, seed = space.laboratory.sizes.shuffles, space.laboratory.config.seed
    readings = {
        place: partial(of_places, where, space.points, shuffles, seed)
        for place, where in {"all dimensions": space.turned, **planes}.items()
    }
    readings["mapper"] = partial(of_graph, graph, space.points, shuffles, seed)
    found = [
        {"picture": place, **row}
        for place, read in readings.items()
        for row in space.once(f"colours of {place}", read)
    ]
    found += space.once("variance", lambda: _variance(space.rows, shuffles, seed))
    return found + space.once("probe", lambda: _probes(space, seed))


def _variance(rows: Floats, shuffles: int, seed: int) -> Iterator[Row]:
    """Yield the share of variance of the first components; by chance columns know no other.

    Horn (1965), https://doi.org/10.1007/BF02289447.
    """
    rng = np.random.default_rng(seed)
    found = shares(rows, COUNTS)
    dealt = [shares(rng.permuted(rows, axis=0), COUNTS) for _ in range(shuffles)]
    for count, value, chance in zip(COUNTS, found, np.transpose(dealt), strict=True):
        yield {
            "picture": "all dimensions",
            "measure": f"variance, first {count}",
            "behavior": EVERY,
            "value": float(value),
            **against_chance(float(value), chance),
        }


def _probes(space: Space, seed: int) -> Iterator[Row]:
    """Yield how well a linear probe knows the side of completions of groups that it never saw."""
    for name in space.points.behaviors:
        one = space.part(name)
        area = side_auc(one.rows, one.points.positive, one.points.group, seed)
        yield {
            "picture": "all dimensions",
            "colour": "side",
            "measure": "linear probe, AUC",
            "behavior": name,
            "value": area,
            "chance": CHANCE_AUC,
            "beyond_chance": area.low is not None and area.low > CHANCE_AUC,
        }


def _sides_apart(space: Space, behavior: str) -> Iterator[Row]:
    """Yield how far the graphs of positive and of negative sides are apart, of one or `EVERY`."""
    one = space if behavior == EVERY else space.part(behavior)

    def parts(positive: Bools) -> Parts:
        return positive, ~positive

    def graphs() -> Iterator[Row]:
        sizes, seed = space.laboratory.sizes, space.laboratory.config.seed

        def deal(rng: np.random.Generator) -> Parts:
            return parts(dealt_sides(one.points, rng))

        return apart(one.cloud, parts(one.points.positive), deal, sizes.shuffles, seed)

    for row in one.once(f"sides of {behavior}", graphs):
        yield {"behavior": behavior, "compared": SIDES, **row}


def _covers(space: Space) -> Iterator[Row]:
    """Yield what becomes of the graph of all points where its cover is coarser or finer."""
    for cubes in space.laboratory.sizes.covers:
        graph = space.covered(cubes).graph(space.every)
        yield {
            "cubes": cubes,
            "nodes": len(graph.members),
            "edges": len(graph.edges),
            "pieces": graph.pieces,
            "covered": len(np.unique(np.concatenate(graph.members))) / len(space.rows),
        }


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
