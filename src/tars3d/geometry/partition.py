"""Surfaces cut into parts: each place should be of a part that it looks like, and borders between parts should be short, or run where they are cheap.

Potts' model, relaxed to shares of parts in each vertex whose total variation is the borders' length (Zach, Gallup, Frahm and Niethammer, VMV 2008), and solved
by the preconditioned primal-dual algorithm (Pock and Chambolle, ICCV 2011). Called by `labelling`.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.sparse as sparse
import trimesh
from jaxtyping import Float, Int

_LONGEST = 2.0
"""Lengths of the even triangle's side that an edge's piece of border has at most: slivers would have endless ones."""
_REACH = 0.6
"""Object units that news travels along the surface in a solution from nothing, an edge an iteration."""
_FEWEST, _MOST = 40, 200
"""Iterations of a solution from nothing, whatever the mesh."""


@dataclass(frozen=True)
class Partition:
    """A solution, or a start of the next.

    Attributes:
        shares: of each part in each vertex; rows add up to 1.
        tension: of each edge for each part, the dual variable; at most half the edge's price, as a border ends two parts.
    """

    shares: Float[np.ndarray, "vertices parts"]
    tension: Float[np.ndarray, "edges parts"]


class SurfacePartition:
    """Cuts a mesh's vertices into parts, with its geometry prepared once for any number of solutions."""

    def __init__(self, mesh: trimesh.Trimesh):
        self.edges: Int[np.ndarray, "edges 2"] = np.asarray(mesh.edges_unique)
        self._mesh = mesh

    def solve(
        self,
        costs: Float[np.ndarray, "vertices parts"],
        prices: Float[np.ndarray, " edges"],
        start: Partition | None = None,
    ) -> Partition:
        """Shares of parts with the least costs of places and borders together.

        Args:
            costs: of each part at each vertex, per area, in any unit.
            prices: of a border that crosses an edge, in that unit times an object unit.
            start: a solution with other costs; then a third of the iterations suffices.
        """
        parts = costs.shape[1]
        if not len(self.edges):
            return Partition(np.eye(parts, dtype=np.float32)[costs.argmin(axis=1)], np.zeros((0, parts), np.float32))
        first, second = self.edges.T
        price = (prices / 2 * self._lengths).astype(np.float32)[:, None]  # a border ends two parts, and each pays half
        pull = (costs * self._areas[:, None]).astype(np.float32)
        # Steps fit the dearest borders: were they those of creases, the rest of the surface would not move.
        count, scale = self._iterations, np.float32(prices.max() / 2 * self._typical_length) + 1e-12
        if start is None:
            likely = np.exp(costs.min(axis=1, keepdims=True) - costs).astype(np.float32)
            likely /= likely.sum(axis=1, keepdims=True)
            start = Partition(likely, np.zeros((len(self.edges), parts), np.float32))
        else:
            count = -(-count // 3)
        shares, tension, ahead = start.shares, start.tension, start.shares
        step = (1 / scale / self._degrees).astype(np.float32)[:, None]
        for _ in range(count):
            tension = np.clip(
                tension + 0.5 * scale * (ahead.take(first, axis=0) - ahead.take(second, axis=0)), -price, price
            )
            moved = _to_simplex(shares - step * (pull + self._divergence @ tension))
            ahead, shares = 2 * moved - shares, moved
        return Partition(shares, tension)

    @cached_property
    def _mean_area(self) -> float:
        return max(float(self._mesh.area) / max(len(np.unique(self._mesh.faces)), 1), 1e-12)

    @cached_property
    def _areas(self) -> Float[np.ndarray, " vertices"]:
        """Area that each vertex stands for, in means of all vertices."""
        thirds = np.repeat(self._mesh.area_faces / 3, 3)
        return np.bincount(self._mesh.faces.ravel(), thirds, minlength=len(self._mesh.vertices)) / self._mean_area

    @cached_property
    def _lengths(self) -> Float[np.ndarray, " edges"]:
        """Length of the piece of border that crosses each edge: between the middles of its two faces, per mean area of a vertex."""
        area = np.bincount(
            self._mesh.faces_unique_edges.ravel(), np.repeat(self._mesh.area_faces, 3), minlength=len(self.edges)
        )
        # The side of the triangles if all were even: two of them to a vertex.
        even = np.sqrt(2 / np.sqrt(3) * self._mean_area)
        side = np.maximum(self._mesh.edges_unique_length, 1e-3 * even)
        return np.minimum(2 / 3 * area / side, _LONGEST * even) / self._mean_area

    @cached_property
    def _typical_length(self) -> float:
        some = self._lengths[self._lengths > 0]
        return float(np.median(some)) if len(some) else 0.0

    @cached_property
    def _degrees(self) -> Int[np.ndarray, " vertices"]:
        return np.maximum(np.bincount(self.edges.ravel(), minlength=len(self._mesh.vertices)), 1)

    @cached_property
    def _divergence(self) -> sparse.csr_matrix:
        """What leaves each vertex along its edges."""
        count = len(self.edges)
        ends = (self.edges.T.ravel(), np.tile(np.arange(count), 2))
        signs = np.repeat(np.array([1, -1], np.float32), count)
        return sparse.csr_matrix((signs, ends), shape=(len(self._mesh.vertices), count))

    @cached_property
    def _iterations(self) -> int:
        return int(np.clip(np.ceil(_REACH / max(self._mesh.edges_unique_length.mean(), 1e-6)), _FEWEST, _MOST))


def _to_simplex(rows: Float[np.ndarray, "rows parts"]) -> Float[np.ndarray, "rows parts"]:
    """The nearest rows that are shares: not negative, and 1 together (Michelot, JOTA 1986)."""
    columns = np.ascontiguousarray(rows.T)  # a few long rows: sums over parts are then additions of arrays
    columns = columns - columns.max(axis=0)  # the same shares, and what is far below them rounds nothing away
    excess = (columns.sum(axis=0) - 1) / len(columns)
    for _ in range(len(columns) - 1):
        kept = columns > excess
        excess = ((columns * kept).sum(axis=0) - 1) / kept.sum(axis=0, dtype=columns.dtype)
    return np.maximum(columns - excess, 0).T
