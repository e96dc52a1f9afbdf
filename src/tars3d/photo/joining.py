"""Pieces of a bent shape joined to the rest, where masks allow: a rung or an arm may end in the air, as rays that also meet another part ask for nothing.

`Reconstructor.bent` calls `joined` at the end.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
import trimesh
from jaxtyping import Bool, Float
from scipy.spatial import KDTree

from tars3d.geometry.pieces import Piece, pieces_of
from tars3d.geometry.silhouette_fit import SilhouetteTarget
from tars3d.methods.corrected import CorrectedShape
from tars3d.methods.joined import JoinedShape
from tars3d.photo.outline import SeenOutline

Allowed = Callable[[Float[np.ndarray, "samples rods 3"]], Bool[np.ndarray, "rods"]]
"""Which rods masks allow, by points on them."""


@dataclass(frozen=True)
class JoiningSettings:
    """Which gaps are closed, and by what. Lengths in world units."""

    longest: float = 0.3
    """No gap is longer."""
    slack: float = 0.03
    """A piece may be this far off, ..."""
    per_length: float = 1.5
    """... and this many times its own longest side farther: a crumb in the air is not worth a rod."""
    outside: float = 1.0
    """Pixels beyond the mask's edge that a rod may pass, as cameras are no better."""
    samples: int = 9
    """Points of a rod that are looked for in the mask."""
    candidates: int = 200
    """Pairs of points, the nearest of two pieces, that are tried."""
    thinnest: float = 0.007
    """Radius; a thinner piece is no part of an object, and left."""
    thickest: float = 0.03
    """Radius of a rod."""


def joined(
    shape: CorrectedShape,
    mesh: trimesh.Trimesh,
    outlines: Sequence[SeenOutline],
    *,
    mirrored: bool = False,
    settings: JoiningSettings | None = None,
) -> CorrectedShape:
    """The shape with rods between its pieces; itself where there is nothing to join.

    Beginning with the largest piece, the nearest other one is joined to it, then the next one to those two (a minimum spanning tree: Prim 1957). A
    rod is as thick as the piece, and must project into every mask.

    Args:
        mesh: the surface of `shape`, with all its specks; a coarse one will do.
        outlines: that it was bent to, with the cameras that came out.
        mirrored: the object mirrors at x = 0: a rod may then be in the mask itself, or its mirror image. One of both is often behind another part,
            or the object is not as symmetric as all that.
    """
    settings = settings or JoiningSettings()
    pieces = pieces_of(mesh)
    if len(pieces) < 2:
        return shape
    views = [(outline.camera, SilhouetteTarget(outline.mask, outline.seen)) for outline in outlines]

    def in_masks(points: Float[np.ndarray, "samples rods 3"]) -> Bool[np.ndarray, "rods"]:
        allowed = np.ones(points.shape[1], dtype=bool)
        either = [points, points * [-1, 1, 1]] if mirrored else [points]
        for camera, target in views:
            off = [target.outside(camera.project(one.reshape(-1, 3)))[0].reshape(len(points), -1) for one in either]
            allowed &= np.max(off, axis=1).min(axis=0) <= settings.outside
        return allowed

    trees = [KDTree(piece.vertices) for piece in pieces]

    @cache
    def gap_between(piece: int, other: int) -> _Gap:
        return _shortest(pieces[piece], pieces[other], trees[other], in_masks, settings)

    rods, inside = [], [0]
    left = [number for number, piece in enumerate(pieces) if number and piece.radius >= settings.thinnest]
    while left:
        gap, piece = min(
            ((gap_between(piece, other), piece) for piece in left for other in inside),
            key=lambda found: found[0].length,
        )
        if not np.isfinite(gap.length):
            break
        left.remove(piece)
        if gap.length > settings.slack + settings.per_length * pieces[piece].length:
            continue
        inside.append(piece)
        rods.append(np.r_[gap.start, gap.end, min(pieces[piece].radius, settings.thickest)])
    if not rods:
        return shape
    found = torch.from_numpy(np.array(rods)).to(shape.correction)
    return JoinedShape(shape.base, shape.correction, shape.bound, found)


@dataclass(frozen=True)
class _Gap:
    """The shortest line between two pieces that masks allow; of infinite length where there is none."""

    length: float
    start: Float[np.ndarray, "3"] | None = None
    end: Float[np.ndarray, "3"] | None = None


def _shortest(piece: Piece, other: Piece, tree: KDTree, allowed: Allowed, settings: JoiningSettings) -> _Gap:
    """The gap between two pieces.

    Args:
        tree: of the vertices of `other`.
    """
    lengths, nearest = tree.query(piece.vertices, distance_upper_bound=settings.longest)
    order = np.argsort(lengths)[: settings.candidates]
    order = order[np.isfinite(lengths[order])]
    starts, ends = piece.vertices[order], other.vertices[np.asarray(nearest)[order]]
    share = np.linspace(0, 1, settings.samples)[:, None, None]
    found = np.flatnonzero(allowed(starts + share * (ends - starts)))
    if not len(found):
        return _Gap(np.inf)
    first = found[0]
    return _Gap(float(lengths[order[first]]), starts[first], ends[first])
