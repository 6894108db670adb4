"""Mapper graphs (Singh, Mémoli & Carlsson 2007): clusters of overlapping pieces of a cloud.

The lens is the plane of the first two principal components. It is covered by overlapping squares;
the points of a square are clustered by DBSCAN in the components; clusters that share a point are
joined. Graphs of parts of one cloud have its lens, squares and reach in common.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from kmapper import Cover, KeplerMapper
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components, shortest_path
from sklearn import config_context
from sklearn.cluster import DBSCAN
from sklearn.neighbors import NearestNeighbors

from trimtab.errors import SelectionError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

CLUSTER = 3  # points that a cluster has at least


@dataclass(frozen=True, eq=False)
class Graph:
    """A mapper graph of some rows of a cloud.

    Attributes:
        members: rows of the cloud that each node holds, one or more.
        edges: nodes that share a row, `(n_edges, 2)`, each once.
        place: mean of each node's members in the cloud's components, `(n, d)`.
    """

    members: list[Ints]
    edges: Ints
    place: Floats

    @property
    def weights(self) -> Floats:
        """Share of all memberships that each node has, `(n,)`."""
        counts = np.array([len(rows) for rows in self.members], dtype=np.float64)
        weights: Floats = counts / counts.sum()
        return weights

    @cached_property
    def apart(self) -> Floats:
        """How far apart nodes are, `(n, n)`: h / (1 + h) for h hops, 1 where no way leads."""
        hops = shortest_path(self._adjacency(), directed=False, unweighted=True)
        with np.errstate(invalid="ignore"):
            return np.where(np.isinf(hops), 1.0, hops / (1 + hops))

    @property
    def pieces(self) -> int:
        """Number of connected components."""
        return int(connected_components(self._adjacency(), directed=False)[0])

    def _adjacency(self) -> csr_array:
        n = len(self.members)
        ones = np.ones(len(self.edges))
        return csr_array((ones, (self.edges[:, 0], self.edges[:, 1])), (n, n))


class Cloud:
    """Points of which mapper graphs are made.

    Args:
        turned: rows in their first principal components, `(n, d)`.
        cubes: squares along each axis of the lens.
        overlap: share of a square's side that the next one covers too.
        quantile: of distances to the second nearest neighbour; DBSCAN reaches so far.
        typical: mask of the points whose distances to each other these are; of a cloud that holds
            every point twice, those of one kind.
    """

    def __init__(
        self, turned: Floats, cubes: int, overlap: float, quantile: float, typical: Bools
    ) -> None:
        lens = turned[:, :2]
        near, _ = NearestNeighbors(n_neighbors=CLUSTER - 1).fit(turned[typical]).kneighbors()
        self._turned = turned
        self._limits = np.stack([lens.min(0), lens.max(0)], axis=1)
        self._cubes, self._overlap = cubes, overlap
        reach = float(np.quantile(near[:, -1], quantile))
        self._clusterer = DBSCAN(eps=reach, min_samples=CLUSTER, algorithm="brute")

    def graph(self, keep: Bools) -> Graph:
        """Return the mapper graph of some of the points.

        Raises:
            SelectionError: no square holds a cluster of them.
        """
        rows = np.flatnonzero(keep)
        with config_context(assume_finite=True, skip_parameter_validation=True):
            # checks take longer than clusters of a few points
            found = KeplerMapper(verbose=0).map(
                self._turned[rows, :2],
                self._turned[rows],
                clusterer=self._clusterer,
                cover=Cover(self._cubes, self._overlap, limits=self._limits.copy()),
            )
        members = [rows[inside] for inside in found["nodes"].values()]
        if not members:
            raise SelectionError(
                f"no square of a mapper graph holds a cluster of its {len(rows)} points; take more "
                "samples, or fewer cubes"
            )
        number = {name: i for i, name in enumerate(found["nodes"])}
        edges = [(number[a], number[b]) for a, others in found["links"].items() for b in others]
        return Graph(
            members,
            np.array(edges, dtype=np.int64).reshape(-1, 2),
            np.stack([self._turned[inside].mean(0) for inside in members]),
        )
