"""Which point of one object is the same place as which point of another: nearest neighbours in canonical space,
lifted by point features, by which way the surface faces, and by the level it lies on.

`correspond` is the map between two reconstructions, which `tars3d transfer` calls; `tars3d bench correspondence` compares the same `Places`. Part
labels take one step more, in `labelling`.
A canonical map is an array [points, 3 + k]: the place on the category's canonical shape, then k point features.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, runtime_checkable

import numpy as np
import trimesh
from jaxtyping import Bool, Float, Int, UInt8
from scipy.spatial import KDTree

from tars3d.errors import UserError
from tars3d.geometry.surface_cells import SurfaceCells
from tars3d.heights import levelled_heights
from tars3d.rules import PARTS, Rule, check_distances, check_weights

NORMAL_RADIUS = 0.05
"""Object units over which normals are averaged."""
_AT_ONCE = 20_000
"""Points whose normals are averaged together: each looks at 72 cells of the surface."""


@runtime_checkable
class Located(Protocol):
    """A surface whose vertices know their canonical coordinates, such as a `Reconstruction`."""

    @property
    def mesh(self) -> trimesh.Trimesh: ...

    @property
    def canonical(self) -> np.ndarray: ...


@dataclass(frozen=True)
class Places:
    """Surface points as they are compared, for points that are not the vertices of a mesh.

    Attributes:
        points: object frame.
        canonical: place on the canonical shape, then k point features.
        surface: that they lie on; they face and lie as it does there.
    """

    points: Float[np.ndarray, "points 3"]
    canonical: Float[np.ndarray, "points channels"]
    surface: Located

    @classmethod
    def of(cls, surface: Located) -> "Places":
        """The vertices of a surface."""
        return cls(np.asarray(surface.mesh.vertices, dtype=np.float64), surface.canonical, surface)

    @cached_property
    def normals(self) -> Float[np.ndarray, "points 3"]:
        """`mean_normals` of the surface there, object frame; found when first asked for, as textures do without."""
        return mean_normals(self.surface.mesh, self.points)

    @cached_property
    def heights(self) -> Float[np.ndarray, " points"]:
        """`levelled_heights` of the surface there, canonical units; found when first asked for."""
        return levelled_heights(self.surface.mesh, self.surface.canonical, self.points)

    def coordinates(self, rule: Rule) -> Float[np.ndarray, "points columns"]:
        """What is compared by a rule's weights, in canonical units; columns without weight are left out."""
        canonical = np.asarray(self.canonical, dtype=np.float64)
        columns = [canonical[:, :3]]
        if rule.feature_weight:
            columns.append(rule.feature_weight * canonical[:, 3:])
        if rule.normal_weight:
            columns.append(rule.normal_weight * self.normals)
        if rule.height_weight:
            columns.append(rule.height_weight * self.heights[:, None])
        return np.hstack(columns)


@dataclass(frozen=True)
class Correspondence:
    """For each point of a target its place on a source.

    Attributes:
        index: vertex of the source.
        points: that vertex in the source's object frame.
        distance: between the two in (weighted) canonical space.
        cycle: how far the target point lands from itself, in object units, on the way to the source and back;
            None where no cycle was asked for.
        counterpart: whether the source has the place at all. The other fields are filled where it has not, too.
    """

    index: Int[np.ndarray, " points"]
    points: Float[np.ndarray, "points 3"]
    distance: Float[np.ndarray, " points"]
    cycle: Float[np.ndarray, " points"] | None
    counterpart: Bool[np.ndarray, " points"]


def correspond(
    source: Located | Places,
    target: Located | Places,
    *,
    feature_weight: float = PARTS.feature_weight,
    normal_weight: float = PARTS.normal_weight,
    height_weight: float = PARTS.height_weight,
    max_distance: float = PARTS.max_distance,
    max_cycle: float | None = None,
) -> Correspondence:
    """The source point of every vertex (or point) of the target.

    Args:
        source, target: reconstructions by one model, with surfaces, or points of them.
        feature_weight: what a unit of point feature counts against a unit of canonical space; with all three weights at
            0: positions alone, as in the published texture transfer (docs/paper-vs-code.md, C9).
        normal_weight: what a unit of mean normal counts. It keeps apart what lies close together in canonical space but
            faces elsewhere: the seat from the legs under it. Objects must stand alike, as they do in a model's object frame.
        height_weight: what a unit of levelled height (`heights.levelled_heights`) counts. It brings seats to seats where
            canonical positions waver, as the whole of a surface at one height is seldom wrong. Objects must stand upright.
        max_distance: canonical units beyond which a target point has no counterpart; inf: all have one.
        max_cycle: object units that a point may stray on the way to the source and back, which leaves only what
            is one-to-one; None: no such filter.

    Raises:
        UserError: a reconstruction is empty or something else, they come from different models, or a number is none of 0 or more.
    """
    weights = {"feature_weight": feature_weight, "normal_weight": normal_weight, "height_weight": height_weight}
    for name, value in (*weights.items(), ("max_distance", max_distance)):
        if value is None:
            raise UserError(f"correspond: {name} is None; give a number, or leave it out")
    check_weights(weights)
    check_distances({"max_distance": max_distance, "max_cycle": max_cycle})
    for name, side in (("source", source), ("target", target)):
        if not isinstance(side, Located | Places):
            raise UserError(f"correspond: the {name} is a {type(side).__name__}; give what model.reconstruct returns")
        if space_of(side) == "":
            raise UserError(f"correspond: the {name}'s model has no canonical space; reconstruct with another --model")
        if not len(side.canonical):
            raise UserError(f"correspond: the {name} has no surface; give another picture or model")
    if source.canonical.shape[1] != target.canonical.shape[1]:
        raise UserError(
            f"correspond: source and target have {source.canonical.shape[1]} and {target.canonical.shape[1]} canonical "
            "channels, so they come from different models; reconstruct both with one"
        )
    spaces = [space for side in (source, target) if (space := space_of(side)) is not None]
    if len(set(spaces)) > 1:
        raise UserError(
            f"correspond: the source's canonical space is {spaces[0]}, the target's {spaces[1]}; reconstruct both with one model"
        )
    here, there = (side if isinstance(side, Places) else Places.of(side) for side in (source, target))
    rule = Rule(**weights, max_distance=max_distance)
    rows, asked = here.coordinates(rule), there.coordinates(rule)
    distance, index = map(np.asarray, KDTree(rows).query(asked))
    counterpart = distance <= max_distance
    cycle = None
    if max_cycle is not None:
        back = np.asarray(KDTree(asked).query(rows)[1])
        cycle = np.linalg.norm(there.points[back[index]] - there.points, axis=1)
        counterpart &= cycle <= max_cycle
    return Correspondence(index.astype(np.int64), here.points[index], distance, cycle, counterpart)


def space_of(side: Located | Places) -> str | None:
    """The canonical space of a surface or of points of it; None where it does not say, empty where there is none."""
    return getattr(side.surface if isinstance(side, Places) else side, "space", None)


def mean_normals(mesh: trimesh.Trimesh, points: Float[np.ndarray, "points 3"]) -> Float[np.ndarray, "points 3"]:
    """Mean over the surface within `NORMAL_RADIUS` of each point of its outward unit normals.

    About a unit vector on broad parts, shorter at edges, and nearly 0 on rods and boards thinner than the radius, so it
    tells which way a part faces and how thick it is. The surface is taken in cells of a third of the radius, so the cost does not
    grow with the fineness of the mesh. Zeros where the mesh has no area.
    """
    points, cells = np.asarray(points, dtype=np.float64), SurfaceCells.of(mesh, NORMAL_RADIUS)
    if not len(points) or not len(cells.area):
        return np.zeros((len(points), 3))
    pieces = (points[start : start + _AT_ONCE] for start in range(0, len(points), _AT_ONCE))
    return np.concatenate([_mean_normals(cells, piece) for piece in pieces])


def _mean_normals(cells: SurfaceCells, points: Float[np.ndarray, "points 3"]) -> Float[np.ndarray, "points 3"]:
    distance, index = cells.around(points)
    within = distance <= np.maximum(NORMAL_RADIUS, distance[:, :1])  # the nearest at least, for points off the surface
    sums = np.concatenate([cells.area[:, None], cells.normals], axis=1)
    around = np.where(within[..., None], sums[index], 0).sum(axis=1)
    return around[:, 1:] / around[:, :1]


def canonical_colors(canonical: Float[np.ndarray, "points channels"]) -> UInt8[np.ndarray, "points 3"]:
    """Colours of canonical places: x, y, z from -0.5 to 0.5 become red, green, blue.

    The range is fixed, not that of the mesh at hand, so equal colours mean equal canonical places in all
    pictures. Places outside the range take its end colour.
    """
    unit = np.asarray(canonical)[:, :3] + 0.5
    return np.round(np.clip(unit, 0.0, 1.0) * 255).astype(np.uint8)
