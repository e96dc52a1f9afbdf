"""How well silhouettes of one object agree, without any ground truth.

Called by `data.checking.silhouette_faults`. A pixel of a mask is explained if its ray meets space that the object's other masks allow; the share of
explained pixels is the silhouette coherence of Hernández, Schmitt and Cipolla (Silhouette Coherence for Camera Calibration under
Circular Motion, PAMI 2007).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from tars3d.data.checking.camera_mistakes import CAMERA_MISTAKES, View
from tars3d.geometry.masks import mask_box, mask_cells
from tars3d.geometry.rays import nearest_point

CELLS = 192  # a side of a mask as it is kept here
OBJECTS, VIEWS = 6, 12  # that are looked at
PIXELS, STEPS = 100, 64  # a view, and along each ray


@dataclass(frozen=True, eq=False)
class PosedOutline:
    """A mask in little memory, with its camera: the outlines of `data.importers.capture_frame` have none."""

    name: str
    view: View
    mask: Bool[np.ndarray, "rows columns"]
    """Cells of `step` pixels a side, at least half covered."""
    step: int
    box: Float[np.ndarray, "2 2"]
    """(left, top), (right, bottom), pixels."""

    @staticmethod
    def of(name: str, view: View, mask: Bool[np.ndarray, "height width"]) -> "PosedOutline":
        """Of a mask that is not empty."""
        share, step = mask_cells(mask, CELLS)
        return PosedOutline(name, view, share >= 0.5, step, mask_box(mask))

    def near(self) -> Bool[np.ndarray, "rows columns"]:
        """The mask and its neighbouring cells: rounding of pixels must not count as disagreement."""
        return np.asarray(ndimage.binary_dilation(self.mask, np.ones((3, 3), dtype=bool)))

    def extent(self, point: Float[np.ndarray, "3"] | None = None) -> float:
        """The longer side of the mask's box in object units, at the depth of a point (default: the origin); NaN where that is
        behind the camera.
        """
        view, depth = self.view, 1.0
        if view.perspective:
            depth = float(view.extrinsics[2, 3] + (0 if point is None else view.extrinsics[2, :3] @ point))
        focal = np.sqrt(abs(np.linalg.det(view.intrinsics[:2, :2])))
        return float((self.box[1] - self.box[0]).max() * depth / focal) if depth > 0 else float("nan")


def choose(instances: Sequence[str]) -> set[int]:
    """Indices of the pictures by which a collection is judged: a few objects with three pictures or more."""
    of: dict[str, list[int]] = {}
    for index, instance in enumerate(instances):
        of.setdefault(instance, []).append(index)
    several = [indices for indices in of.values() if len(indices) >= 3]
    chosen = [several[k] for k in np.unique(np.linspace(0, len(several) - 1, OBJECTS).astype(int))] if several else []
    return {indices[k] for indices in chosen for k in _evenly(len(indices), VIEWS)}


def _evenly(count: int, most: int) -> list[int]:
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(int)).tolist()


def coherence(outlines: Sequence[PosedOutline]) -> Float[np.ndarray, " views"]:
    """Of each view of one object, the share of its mask's pixels that the other views allow: 1 for right cameras and masks.

    One in eight of the other views may object, so that a single bad one does not spoil them all.
    """
    rays = [_rays(o, k) for k, o in enumerate(outlines)]
    centre = meeting_point(outlines)
    extent = [o.extent(centre) for o in outlines]
    if not np.isfinite(centre).all() or not np.isfinite(extent).all():
        return np.zeros(len(outlines))
    radius = 1.2 * float(np.median(extent))
    near, result = [o.near() for o in outlines], []
    objections = (len(outlines) - 1) // 8
    for k, (origins, directions) in enumerate(rays):
        middle = ((centre - origins) * directions).sum(axis=1, keepdims=True)
        along = middle + radius * np.linspace(-1, 1, STEPS)
        points = origins[:, None] + along[..., None] * directions[:, None]
        against = np.zeros(points.shape[:2], dtype=np.int64)
        for other, cells in zip(outlines, near, strict=True):
            if other is not outlines[k]:
                against += ~_holds(other, cells, points)
        result.append(float((against <= objections).any(axis=1).mean()))
    return np.array(result)


def _holds(outline: PosedOutline, cells: np.ndarray, points: np.ndarray) -> np.ndarray:
    view = outline.view
    camera = points @ view.extrinsics[:, :3].T + view.extrinsics[:, 3]
    depth = camera[..., 2] if view.perspective else np.ones(camera.shape[:-1])
    ahead = depth > 1e-6
    plane = np.concatenate([camera[..., :2], np.ones((*depth.shape, 1)) * depth[..., None]], axis=-1)
    pixels = (plane @ view.intrinsics[:2].T) / np.where(ahead, depth, 1.0)[..., None]
    # A mask that touches the border may go on beyond it.
    column = np.clip(pixels[..., 0] // outline.step, 0, cells.shape[1] - 1).astype(np.int64)
    row = np.clip(pixels[..., 1] // outline.step, 0, cells.shape[0] - 1).astype(np.int64)
    return ahead & cells[row, column]


def _rays(outline: PosedOutline, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Origins and unit directions [PIXELS, 3] of the rays through pixels of the mask, in the world."""
    cells = np.argwhere(outline.mask) if outline.mask.any() else np.argwhere(outline.near())
    picked = cells
    if len(cells):
        picked = cells[np.random.default_rng(seed).choice(len(cells), min(PIXELS, len(cells)), replace=False)]
    return _through(outline.view, (picked[:, ::-1] + 0.5) * outline.step)


def _through(view: View, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    plane = np.c_[pixels, np.ones(len(pixels))] @ np.linalg.inv(view.intrinsics).T
    rotation, translation = view.extrinsics[:, :3], view.extrinsics[:, 3]
    if view.perspective:
        directions = plane @ rotation
        origins = np.broadcast_to(-rotation.T @ translation, directions.shape)
    else:
        origins = (np.c_[plane[:, :2], np.zeros(len(plane))] - translation) @ rotation
        directions = np.broadcast_to(rotation[2], origins.shape)
    return origins, directions / np.linalg.norm(directions, axis=1, keepdims=True)


def meeting_point(outlines: Sequence[PosedOutline]) -> Float[np.ndarray, "3"]:
    """The point nearest to the rays through the middles of all masks' boxes."""
    rays = [_through(outline.view, outline.box.mean(axis=0)[None]) for outline in outlines]
    origins, directions = (np.concatenate(parts) for parts in zip(*rays, strict=True))
    return nearest_point(origins, directions)


def coherence_of(objects: Sequence[Sequence[PosedOutline]], zoom: float = 1.0, words: str | None = None) -> float:
    """Median over objects of the mean coherence of their views, after undoing a mistake of CAMERA_MISTAKES or zooming."""
    scores = []
    for outlines in objects:
        views = [(CAMERA_MISTAKES[words](o.view) if words else o.view).zoomed(zoom) for o in outlines]
        scores.append(coherence([replace(o, view=v) for o, v in zip(outlines, views, strict=True)]).mean())
    return float(np.median(scores))
