"""Part labels carried from labelled objects onto a surface: nearest labelled places first. Then the surface is cut into parts, along its creases and
where its colours change; specks last.

`transfer.labels` and `bench.carried` call it. Nearest places decide each vertex alone, so borders come out ragged, a little beside where they belong, and specks
stray into other parts. The target itself knows better: parts hang together, meet in creases, and often differ in colour.
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

from tars3d.appearance import Clusters, SurfaceColors
from tars3d.geometry.creases import CREASE_RADIUS, concavity
from tars3d.geometry.partition import SurfacePartition
from tars3d.rules import BORDERS, BorderRule

FALL = 5.0
"""A part is less likely with this power of the distance to its nearest place. Distances in ratio, not in units: where places are vague, the
nearest part is far, too, and other parts are nearly as likely."""
BORDER_PRICE = 0.06
"""What an object unit of border costs where there is no crease, in areas (square units) of a part that is e times less likely; 0.04 to 0.08 are alike. This and the
one before were chosen on seed 8 of `tars3d bench correspondence`."""
SPECK = 0.15
"""Share of a labelled object's piece below which a piece of its part is a speck; 0.1 to 0.4 are alike."""
LARGEST_SPECK = 0.03
"""Share of the surface above which nothing is a speck."""
_NEAREST = 0.002
"""Canonical units added to distances, about those of neighbours: nearer is no better."""
_TOLERANCE = 0.1
"""Neighbours may be farther than the nearest by this share: a quarter less time, and one label of 10,000 is another."""
_ROUNDS = 2
"""Of palettes and parts: one or four are alike."""
_SPECK_ROUNDS = 3
"""After the third hardly anything changes."""
_TINY = 1e-6


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


class PartSegmenter:
    """Cuts a mesh's vertices into parts. What it needs to know of the mesh is prepared once, for any number of labellings.

    Args:
        mesh: the target's; lengths in object units.
        colors: of its vertices; None: they have no say.
    """

    def __init__(self, mesh: trimesh.Trimesh, colors: SurfaceColors | None = None):
        self.mesh, self._colors = mesh, colors

    @cached_property
    def _places(self) -> tuple[Int[np.ndarray, " places"], Int[np.ndarray, " vertices"]]:
        """The first vertex at each place, and the place of each vertex: programs split vertices at seams, where no border should be free."""
        return _welded(self.mesh.vertices)

    @cached_property
    def _joined(self) -> trimesh.Trimesh:
        """The mesh with one vertex at each place."""
        first, place = self._places
        return trimesh.Trimesh(self.mesh.vertices[first], place[self.mesh.faces], process=False)

    @cached_property
    def _clusters(self) -> Clusters | None:
        """Recurring colours of the joined mesh."""
        if self._colors is None:
            return None
        first, _ = self._places
        return SurfaceColors(self._colors.rgb[first], self._colors.known[first]).clusters

    @cached_property
    def _surface(self) -> SurfacePartition:
        return SurfacePartition(self._joined)

    @cached_property
    def _creases(self) -> Float[np.ndarray, " edges"]:
        """Concavity at each edge, that of its more creased end; measured over an edge's length at least, as coarser meshes have none within less."""
        if not len(self._surface.edges):
            return np.zeros(0)
        radius = max(CREASE_RADIUS, float(self._joined.edges_unique_length.mean()))
        return np.maximum(concavity(self._joined, radius), 0)[self._surface.edges].max(axis=1)

    def segment(self, found: PartDistances, rule: BorderRule = BORDERS) -> Int[np.ndarray, " vertices"]:
        """The part of each vertex.

        Parts should be likely where they are and have short borders, which cost less in creases (`geometry.partition`). Then, where there are colours, each
        part's palette is taken from what the part has so far, a part is likelier where its palette has the vertex's colour
        (`appearance.Clusters`), and the surface is cut again, twice: as GrabCut cuts out objects of pictures (Rother, Kolmogorov and Blake,
        SIGGRAPH 2004). Parts of one colour have equal palettes, and nothing changes.
        """
        first, place = self._places
        distances = found.distances[first]
        nearest = distances.min(axis=1, keepdims=True)
        costs = FALL * np.log((distances + _NEAREST) / (nearest + _NEAREST))
        prices = BORDER_PRICE * np.exp(-rule.crease_weight * self._creases)
        cut = self._surface.solve(costs, prices)
        if rule.color_weight and self._clusters is not None:
            for _ in range(_ROUNDS):
                worn = np.log(np.maximum(self._clusters.likeliness(cut.shares), _TINY))
                cut = self._surface.solve(costs - rule.color_weight * worn, prices, cut)
        return found.parts[self._without_specks(cut.shares.argmax(axis=1), found.pieces)][place]

    def _without_specks(
        self, part: Int[np.ndarray, " places"], pieces: Float[np.ndarray, " parts"]
    ) -> Int[np.ndarray, " places"]:
        """Pieces far smaller than those of the labelled objects go to the part that they border on most. What borders on nothing stays."""
        edges, least = self._surface.edges, np.minimum(SPECK * pieces, LARGEST_SPECK)
        for _ in range(_SPECK_ROUNDS):
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


def _welded(
    vertices: Float[np.ndarray, "vertices 3"],
) -> tuple[Int[np.ndarray, " places"], Int[np.ndarray, " vertices"]]:
    """The first vertex at each place, in the vertices' order, and the number of each vertex's place."""
    _, first, place = np.unique(np.round(vertices, 5), axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)
    return first[order], np.argsort(order)[place.reshape(-1)]


def typical_pieces(mesh: trimesh.Trimesh, face_labels: Int[np.ndarray, " faces"]) -> dict[int, float]:
    """How large the pieces of each part are on a labelled surface: half of the part's area is in pieces of this share of the whole, or larger.

    Vertices at one place count as one: programs split them.
    """
    place = _welded(mesh.vertices)[1]
    joined = trimesh.Trimesh(np.zeros((len(mesh.vertices), 3)), place[mesh.faces], process=False)
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
    segmenter: PartSegmenter,
    max_distance: float,
    rule: BorderRule = BORDERS,
) -> tuple[Int[np.ndarray, " vertices"], Bool[np.ndarray, " vertices"]]:
    """Part of each vertex of a target, by one labelled object or several.

    Args:
        coordinates: of the target's vertices, as those of the sources.
        segmenter: of the target's mesh and colours.
        max_distance: in their units, beyond which a vertex has no counterpart; inf: all have one.
        rule: what the target has to say.

    Returns:
        label: -1 where there is no counterpart, or the places there have no label.
        counterpart: whether any source has the place.
    """
    found = sources.distances_to(coordinates)
    counterpart = found.nearest <= max_distance
    return np.where(counterpart, segmenter.segment(found, rule), -1), counterpart
