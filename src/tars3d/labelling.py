"""Part labels carried from labelled objects onto a surface: nearest labelled places first, then a random walk along the surface itself.

`transfer.labels` and `bench.carried` call it. Nearest places decide each vertex alone, so borders come out ragged and specks stray into other
parts; neighbours on the target's surface know better, as parts hang together.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.sparse as sparse
import trimesh
from jaxtyping import Bool, Float, Int
from scipy.spatial import KDTree

DOUBT = 0.02
"""Canonical units: a part that is so much farther than the nearest one is 1 / e² as likely."""
WALK_REACH = 0.03
"""Object units over which neighbours on the surface have a say; with `DOUBT` chosen on seeds 8 and 9 of `tars3d bench correspondence`."""
_TOLERANCE = 0.1
"""Neighbours may be farther than the nearest by this share: a quarter less time, and one label of 10,000 is another."""
_BALANCED = 1e-4
"""Share of the surface below which a part is as good as none when shares are kept."""


@dataclass(frozen=True)
class PartDistances:
    """How far each point of a target is from each part of the labelled objects.

    Attributes:
        parts: the labels, ascending; -1 stands for places of the objects that have none.
        distances: mean over as many nearest points of the part as there are objects.
        nearest: distance to the nearest point of all.
    """

    parts: Int[np.ndarray, " parts"]
    distances: Float[np.ndarray, "points parts"]
    nearest: Float[np.ndarray, " points"]


class PartTrees:
    """Points of one or several labelled objects, by part, for nearest neighbours.

    Args:
        coordinates: of each object's points, in which distances count (`correspondence.Places.coordinates`).
        labels: part of each point of each object; negative: none.
    """

    def __init__(self, coordinates: Sequence[Float[np.ndarray, "_ columns"]], labels: Sequence[Int[np.ndarray, " _"]]):
        self._objects = len(coordinates)
        rows, parts = np.concatenate(coordinates), np.maximum(np.concatenate(labels), -1)
        self._trees = {int(part): KDTree(rows[parts == part]) for part in np.unique(parts)}

    def distances_to(self, asked: Float[np.ndarray, "points columns"]) -> PartDistances:
        """From each of these points."""
        mean, nearest = [], []
        for tree in self._trees.values():
            count = min(self._objects, tree.n)
            found = tree.query(asked, k=count, eps=_TOLERANCE, workers=-1)[0]
            found = np.asarray(found).reshape(len(asked), count)
            mean.append(found.mean(axis=1))
            nearest.append(found[:, 0])
        return PartDistances(np.array(list(self._trees)), np.stack(mean, axis=1), np.min(nearest, axis=0))


class RandomWalker:
    """Labels of a mesh's vertices in which neighbours have a say. Its equations are factorised once, for any number of labellings.

    Args:
        mesh: the target's; lengths in object units.
        reach: length over which neighbours have a say, object units.
    """

    def __init__(self, mesh: trimesh.Trimesh, reach: float = WALK_REACH):
        self._mesh, self._reach = mesh, reach

    @cached_property
    def _solve(self):
        from scipy.sparse.linalg import factorized

        edges, count = np.asarray(self._mesh.edges_unique), len(self._mesh.vertices)
        if not len(edges):
            return lambda values: values
        ends = (np.concatenate([edges[:, 0], edges[:, 1]]), np.concatenate([edges[:, 1], edges[:, 0]]))
        neighbours = sparse.csr_matrix((np.ones(2 * len(edges)), ends), shape=(count, count))
        laplacian = sparse.diags(np.asarray(neighbours.sum(axis=1)).ravel()) - neighbours
        screen = max((self._mesh.edges_unique_length.mean() / self._reach) ** 2, 1e-12)
        solve = factorized((laplacian / screen + sparse.identity(count)).tocsc())
        return lambda values: solve(np.ascontiguousarray(values, dtype=np.float64))

    def segment(self, found: PartDistances) -> Int[np.ndarray, " vertices"]:
        """The part of each vertex.

        Each part's likeliness, a softmax of distances, is smoothed by the screened Poisson equation (the random walker's: Grady,
        PAMI 2006, with a datum at every vertex). Smoothing favours large parts, mirrors and engines would vanish; so parts are then weighted
        until each has the share of vertices that it had before (class mass normalisation: Zhu, Ghahramani and Lafferty, ICML 2003).
        """
        likely = np.exp((found.distances.min(axis=1, keepdims=True) - found.distances) * (2 / DOUBT))
        likely /= likely.sum(axis=1, keepdims=True)
        smooth = np.stack([self._solve(part) for part in likely.T], axis=1)
        count = likely.shape[1]

        def shares(values: np.ndarray) -> np.ndarray:
            return np.bincount(values.argmax(axis=1), minlength=count) / len(values) + _BALANCED

        wanted, weights = shares(likely), np.ones(count)
        for _ in range(20):
            weights *= (wanted / shares(smooth * weights)) ** 0.3
        return found.parts[(smooth * weights).argmax(axis=1)]


def carried_labels(
    sources: PartTrees, coordinates: Float[np.ndarray, "vertices columns"], walker: RandomWalker, max_distance: float
) -> tuple[Int[np.ndarray, " vertices"], Bool[np.ndarray, " vertices"]]:
    """Part of each vertex of a target, by one labelled object or several.

    Args:
        coordinates: of the target's vertices, as those of the sources.
        walker: of the target's mesh.
        max_distance: in their units, beyond which a vertex has no counterpart; inf: all have one.

    Returns:
        label: -1 where there is no counterpart, or the places there have no label.
        counterpart: whether any source has the place.
    """
    found = sources.distances_to(coordinates)
    counterpart = found.nearest <= max_distance
    return np.where(counterpart, walker.segment(found), -1), counterpart
