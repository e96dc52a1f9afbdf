"""How a picture that cuts its object off is framed: as if the object went on outside it, as far as fits best.

A model knows whole objects that fill their frame. The visible part of one, framed by itself, is taken for a whole object of other proportions,
and the camera is fitted to that. So some extents beyond the picture's edge are tried: each is reconstructed coarsely, the camera is fitted to
what is seen, and the best overlap wins. `Reconstructor.reconstruct` calls `find_extent`.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import numpy as np
import trimesh

from tars3d.data.framing import FramedPicture, Side, bbox_crop
from tars3d.data.pictures import Picture
from tars3d.geometry.silhouette_fit import CenteredCamera, SilhouetteTarget, fit_silhouette
from tars3d.photo.camera import silhouette_iou

EXTENTS = (0.08, 0.16, 0.25, 0.35, 0.5, 0.7)
"""Tried beyond a side, in terms of the visible part's width or height."""
MARGIN = 0.02
"""Of overlap, by which an extent must be better than none: an object that stands on the picture's edge is whole."""
POINTS, ITERATIONS = 1000, 15
"""Of a fit; few, as only the best extent is fitted again."""

Draft = Callable[[FramedPicture], tuple[trimesh.Trimesh, CenteredCamera]]
"""A coarse mesh of a framed picture, and the camera that the model predicts for it."""


@dataclass(frozen=True)
class Extent:
    """How far an object goes on outside its picture.

    Attributes:
        framed: the picture, framed accordingly.
        beyond: share of the visible width or height by which the object goes on, at each side where it may.
        overlap: of the coarse mesh's silhouette and the mask, where the picture shows something, 0 to 1.
    """

    framed: FramedPicture
    beyond: Mapping[Side, float]
    overlap: float = 0.0

    def sentence(self) -> str:
        """For the user."""
        parts = [f"{share:.0%} of what is seen at the {side}" for side, share in self.beyond.items() if share]
        if not parts:
            return f"{touches(self.beyond)}, and was taken for whole"
        return f"the picture cuts the object off: it was taken to go on by {' and '.join(parts)}; a picture of all of it is better"


def touches(sides: Collection[Side]) -> str:
    """For the user."""
    return f"the object touches the picture's edge ({', '.join(sides)})"


def find_extent(
    picture: Picture, sides: tuple[Side, ...], padding: float, size: int, draft: Draft, *, seed: int = 0
) -> Extent:
    """The extent beyond `sides` under which silhouettes overlap most, one side after the other.

    Args:
        sides: at which the picture may cut the object off.
        padding, size: of the framed picture, see `config.ModelConfig`.
        draft: of a framed picture.
        seed: of the surface points.
    """

    def tried(beyond: Mapping[Side, float]) -> Extent:
        crop = bbox_crop(picture.mask, padding, beyond)
        cut: list[Side] = [side for side in sides if beyond[side]]
        framed = FramedPicture.of(picture.rgb, picture.mask, crop, size, cut=cut)
        if not framed.mask.any():  # too thin to be seen at this size
            return Extent(framed, beyond)
        mesh, predicted = draft(framed)
        if not len(mesh.faces):
            return Extent(framed, beyond)
        points = np.asarray(trimesh.sample.sample_surface(mesh, POINTS, seed=seed)[0])
        target = SilhouetteTarget(framed.mask, framed.seen)
        fitted, _ = fit_silhouette(points, target, predicted, iterations=ITERATIONS)
        return Extent(framed, beyond, silhouette_iou(mesh, fitted, framed.mask, framed.seen))

    best = whole = tried(dict.fromkeys(sides, 0.0))
    for side in sides:
        for share in EXTENTS:
            best = max(best, tried({**best.beyond, side: share}), key=lambda extent: extent.overlap)
    return best if best.overlap > whole.overlap + MARGIN else whole
