"""Part labels carried from labelled objects onto a surface: nearest labelled places first, then a random walk along the surface itself,
then what its colours say; specks last.

`transfer.labels` and `bench.carried` call it. Nearest places decide each vertex alone, so borders come out ragged and specks stray into other
parts; neighbours on the target's surface know better, as parts hang together. Where parts differ in colour, the picture shows
their borders more exactly than any other object can.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import scipy.sparse as sparse
import trimesh
from jaxtyping import Bool, Float, Int
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from tars3d.appearance import COLOR_WEIGHT, SurfaceColors

DOUBT = 0.02
"""Canonical units: a part that is so much farther than the nearest one is 1 / e² as likely."""
WALK_REACH = 0.03
"""Object units over which neighbours on the surface have a say; with `DOUBT` chosen on seeds 8 and 9 of `tars3d bench correspondence`."""
SPECK = 0.15
"""Share of a labelled object's piece below which a piece of its part is a speck; 0.1 to 0.4 are alike."""
LARGEST_SPECK = 0.03
"""Share of the surface above which nothing is a speck."""
_TOLERANCE = 0.1
"""Neighbours may be farther than the nearest by this share: a quarter less time, and one label of 10,000 is another."""
_BALANCED = 1e-4
"""Share of the surface below which a part is as good as none when shares are kept."""
_ROUNDS = 3
"""Of palettes and parts, and of specks; after the third hardly anything changes."""
_TINY = 1e-30


@dataclass(frozen=True)
class PartDistances:
    """How far each point of a target is from each part of the labelled objects.

    Attributes:
        parts: the labels, ascending; -1 stands for places of the objects that have none.
        distances: mean over as many nearest points of the part as there are objects.
        nearest: distance to the nearest point of all.
        pieces: share of the surface that a piece of each part has on the labelled objects; 0: not known.
    """

    parts: Int[np.ndarray, " parts"]
    distances: Float[np.ndarray, "points parts"]
    nearest: Float[np.ndarray, " points"]
    pieces: Float[np.ndarray, " parts"]


@dataclass(frozen=True)
class LabelledPoints:
    """Points of a surface whose parts are known, or guessed.

    Attributes:
        coordinates: in which distances count (`correspondence.Places.coordinates`).
        labels: part of each point; negative: none.
        pieces: `typical_pieces` of the surface; empty: pieces of any size are as good.
    """

    coordinates: Float[np.ndarray, "points columns"]
    labels: Int[np.ndarray, " points"]
    pieces: Mapping[int, float] = field(default_factory=dict)


class PartTrees:
    """Points of one or several labelled objects, by part, for nearest neighbours."""

    def __init__(self, objects: Sequence[LabelledPoints]):
        self._objects, self._pieces = len(objects), [one.pieces for one in objects]
        rows = np.concatenate([one.coordinates for one in objects])
        parts = np.maximum(np.concatenate([one.labels for one in objects]), -1)
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
        sizes = [[seen[part] for seen in self._pieces if part in seen] if part >= 0 else [] for part in self._trees]
        typical = np.array([np.mean(some) if some else 0.0 for some in sizes])
        return PartDistances(np.array(list(self._trees)), np.stack(mean, axis=1), np.min(nearest, axis=0), typical)


class RandomWalker:
    """Labels of a mesh's vertices in which neighbours have a say. Its equations are factorised once, for any number of labellings.

    Args:
        mesh: the target's; lengths in object units.
        colors: of its vertices; None: they have no say.
        reach: length over which neighbours have a say, object units.
    """

    def __init__(self, mesh: trimesh.Trimesh, colors: SurfaceColors | None = None, reach: float = WALK_REACH):
        self.mesh, self._colors, self._reach = mesh, colors, reach

    @cached_property
    def _solve(self):
        from scipy.sparse.linalg import factorized

        edges, count = np.asarray(self.mesh.edges_unique), len(self.mesh.vertices)
        if not len(edges):
            return lambda values: values
        ends = (np.concatenate([edges[:, 0], edges[:, 1]]), np.concatenate([edges[:, 1], edges[:, 0]]))
        neighbours = sparse.csr_matrix((np.ones(2 * len(edges)), ends), shape=(count, count))
        laplacian = sparse.diags(np.asarray(neighbours.sum(axis=1)).ravel()) - neighbours
        screen = max((self.mesh.edges_unique_length.mean() / self._reach) ** 2, 1e-12)
        solve = factorized((laplacian / screen + sparse.identity(count)).tocsc())
        return lambda values: solve(np.ascontiguousarray(values, dtype=np.float64))

    def segment(self, found: PartDistances, color_weight: float = COLOR_WEIGHT) -> Int[np.ndarray, " vertices"]:
        """The part of each vertex.

        Each part's likeliness, a softmax of distances, is smoothed along the surface. Then, where there are colours, each part's palette is
        taken from what the part has so far, and the likeliness weighed with how often the part wears the vertex's colour
        (`appearance.Clusters`), in rounds: as GrabCut cuts out objects of pictures (Rother, Kolmogorov and Blake, SIGGRAPH 2004).
        Parts of one colour have equal palettes, and nothing changes.

        Args:
            color_weight: exponent of the colours' likeliness; 0: colours have no say.
        """
        likely = np.exp((found.distances.min(axis=1, keepdims=True) - found.distances) * (2 / DOUBT))
        likely /= likely.sum(axis=1, keepdims=True)
        parts = self._smoothed(likely)
        if self._colors is not None and color_weight and self._colors.clusters is not None:
            for _ in range(_ROUNDS):
                worn = likely * self._colors.clusters.likeliness(parts) ** color_weight
                parts = self._smoothed(worn / np.maximum(worn.sum(axis=1, keepdims=True), _TINY))
        return found.parts[self._without_specks(parts.argmax(axis=1), found.pieces)]

    def _smoothed(self, likely: Float[np.ndarray, "vertices parts"]) -> Float[np.ndarray, "vertices parts"]:
        """Shares of the parts in each vertex, once neighbours had their say.

        By the screened Poisson equation (the random walker's: Grady, PAMI 2006, with a datum at every vertex). Smoothing favours large
        parts, mirrors and engines would vanish; so parts are then weighted until each has the share of vertices that it had
        before (class mass normalisation: Zhu, Ghahramani and Lafferty, ICML 2003).
        """
        smooth = np.stack([self._solve(part) for part in likely.T], axis=1)
        count = likely.shape[1]

        def shares(values: np.ndarray) -> np.ndarray:
            return np.bincount(values.argmax(axis=1), minlength=count) / len(values) + _BALANCED

        wanted, weights = shares(likely), np.ones(count)
        for _ in range(20):
            weights *= (wanted / shares(smooth * weights)) ** 0.3
        weighted = np.maximum(smooth * weights, 0)
        return weighted / np.maximum(weighted.sum(axis=1, keepdims=True), _TINY)

    def _without_specks(
        self, part: Int[np.ndarray, " vertices"], pieces: Float[np.ndarray, " parts"]
    ) -> Int[np.ndarray, " vertices"]:
        """Pieces far smaller than those of the labelled objects go to the part that they border on most. What borders on nothing stays."""
        edges, least = np.asarray(self.mesh.edges_unique), np.minimum(SPECK * pieces, LARGEST_SPECK)
        for _ in range(_ROUNDS):
            piece = _connected(edges, part)
            speck = (np.bincount(piece) / len(piece))[piece] < least[part]
            across = edges[part[edges[:, 0]] != part[edges[:, 1]]]
            across = np.concatenate([across, across[:, ::-1]])
            across = across[speck[across[:, 0]]]
            if not len(across):
                break
            borders, length = np.unique(
                np.stack([piece[across[:, 0]], part[across[:, 1]]], axis=1), axis=0, return_counts=True
            )
            order = np.argsort(length, kind="stable")  # the longest border of each piece comes last, and stays
            taken = np.full(piece.max() + 1, -1)
            taken[borders[order, 0]] = borders[order, 1]
            part = np.where(taken[piece] >= 0, taken[piece], part)
        return part


def _connected(edges: Int[np.ndarray, "edges 2"], label: Int[np.ndarray, " nodes"]) -> Int[np.ndarray, " nodes"]:
    """Which nodes hang together through nodes of their label: a number for each piece."""
    kept = edges[label[edges[:, 0]] == label[edges[:, 1]]]
    graph = sparse.coo_matrix((np.ones(len(kept), bool), kept.T), shape=(len(label),) * 2)
    return connected_components(graph, directed=False)[1]


def typical_pieces(mesh: trimesh.Trimesh, face_labels: Int[np.ndarray, " faces"]) -> dict[int, float]:
    """How large the pieces of each part are on a labelled surface: half of the part's area is in pieces of this share of the whole, or larger.

    Vertices at one place count as one: programs split them.
    """
    _, welded = np.unique(np.round(mesh.vertices, 5), axis=0, return_inverse=True)
    joined = trimesh.Trimesh(np.zeros((len(mesh.vertices), 3)), welded.reshape(-1)[mesh.faces], process=False)
    piece = _connected(np.asarray(joined.face_adjacency), face_labels)
    area = np.bincount(piece, weights=mesh.area_faces) / max(mesh.area, 1e-12)
    part = np.zeros(len(area), np.int64)
    part[piece] = face_labels
    found = {}
    for label in np.unique(face_labels):
        sizes = np.sort(area[part == label])[::-1]
        found[int(label)] = float(sizes[np.searchsorted(sizes.cumsum(), 0.5 * sizes.sum())])
    return found


def carried_labels(
    sources: PartTrees,
    coordinates: Float[np.ndarray, "vertices columns"],
    walker: RandomWalker,
    max_distance: float,
    color_weight: float = COLOR_WEIGHT,
) -> tuple[Int[np.ndarray, " vertices"], Bool[np.ndarray, " vertices"]]:
    """Part of each vertex of a target, by one labelled object or several.

    Args:
        coordinates: of the target's vertices, as those of the sources.
        walker: of the target's mesh and colours.
        max_distance: in their units, beyond which a vertex has no counterpart; inf: all have one.
        color_weight: see `RandomWalker.segment`.

    Returns:
        label: -1 where there is no counterpart, or the places there have no label.
        counterpart: whether any source has the place.
    """
    found = sources.distances_to(coordinates)
    counterpart = found.nearest <= max_distance
    return np.where(counterpart, walker.segment(found, color_weight), -1), counterpart
