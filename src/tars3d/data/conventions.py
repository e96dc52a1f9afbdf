"""How well a known shape explains a mask under a camera, and which mistaken convention would explain it
better.

Called by `data.check`. Every entry of MISTAKES undoes one mistake that people make when they write cameras.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from tars3d.data.collection import ImageRecord
from tars3d.geometry.rasterize import project

CLEAR_FIT = 0.75
"""Fits above count as right cameras. On the lopsided object of the tests, right cameras fit 0.94 to 0.99 and
wrong ones 0.67 at most. Not measured on annotated real photos, whose cameras are looser.
"""
TRIED = 24  # pictures on which they are tried
COARSE = 128  # cells a side of a mask's vicinity

Camera = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True, eq=False)
class Vicinity:
    """Where a mask is, or nearly is, in little memory: a check holds one for each picture of a collection."""

    cells: Bool[np.ndarray, "rows columns"]
    """Cells of `step` pixels a side that touch the mask, and their neighbours within 2% of the picture."""
    step: int
    height: int
    width: int
    """Of the picture, in pixels."""

    @staticmethod
    def of(mask: Bool[np.ndarray, "height width"]) -> "Vicinity":
        """The vicinity of a mask, with at most COARSE cells a side."""
        height, width = mask.shape
        step = -(-max(height, width) // COARSE)
        padded = np.pad(mask, ((0, -height % step), (0, -width % step)))
        cells = padded.reshape(padded.shape[0] // step, step, padded.shape[1] // step, step).any(axis=(1, 3))
        reach = max(1, round(0.02 * max(cells.shape)))
        return Vicinity(np.asarray(ndimage.binary_dilation(cells, iterations=reach)), step, height, width)

    def holds(self, pixels: Float[np.ndarray, "points 2"]) -> Bool[np.ndarray, " points"]:
        """Which pixels (u, v) lie on it; False for those outside the picture or not finite."""
        usable = np.asarray((np.abs(pixels) < 1e6).all(axis=1))  # False for NaN as well
        pixels = np.where(usable[:, None], pixels, -1.0)
        usable &= ((pixels >= 0) & (pixels < [self.width, self.height])).all(axis=1)
        columns, rows = np.where(usable[:, None], pixels // self.step, 0).astype(np.int64).T
        return usable & self.cells[rows, columns]


@dataclass(frozen=True, eq=False)
class Sighting:
    """A ground-truth cloud seen by one camera."""

    record: ImageRecord
    near: Vicinity
    box: Float[np.ndarray, "2 2"]
    """Bounding box of the mask: (left, top), (right, bottom)."""
    points: Float[np.ndarray, "points 3"]
    inside: float
    """Share of the points that fall on the mask or near it."""
    fit: float
    """`inside` times the overlap of the bounding boxes of mask and points: 0 to 1."""

    @staticmethod
    def of(record: ImageRecord, mask: Bool[np.ndarray, "height width"], points: np.ndarray) -> "Sighting":
        """Project and measure."""
        near = Vicinity.of(mask)
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        box = np.array([[columns[0], rows[0]], [columns[-1] + 1, rows[-1] + 1]], dtype=np.float64)
        camera = record.intrinsics, record.extrinsics
        return Sighting(record, near, box, points, *measure(record, near, box, points, camera))


def measure(
    record: ImageRecord, near: Vicinity, box: np.ndarray, points: np.ndarray, camera: Camera
) -> tuple[float, float]:
    """The `inside` and `fit` of points under a camera; points behind it count as outside."""
    pixels, depth = project(points, *camera, record.model == "perspective")
    ahead = np.asarray((np.abs(pixels) < 1e6).all(axis=1))
    if record.model == "perspective":
        ahead &= depth > 0
    if ahead.mean() < 0.5:
        return 0.0, 0.0
    seen = pixels[ahead]
    inside = float(near.holds(seen).sum() / len(points))
    # What lies outside the picture is cut off in the mask's box as well.
    seen = seen.clip(0, [near.width, near.height])
    return inside, inside * _box_overlap(box, np.stack([seen.min(axis=0), seen.max(axis=0)]))


def likely_mistake(sightings: Sequence[Sighting]) -> str | None:
    """In words, the mistake that explains pictures which do not fit, or None where none of the known ones
    does.
    """
    chosen = sightings[:: max(1, len(sightings) // TRIED)][:TRIED]
    scores = {}
    for words, undo in MISTAKES.items():
        fits = []
        for s in chosen:
            intrinsics, extrinsics, points = undo(s)
            fits.append(measure(s.record, s.near, s.box, points, (intrinsics, extrinsics))[1])
        scores[words] = float(np.median(fits))
    best = max(scores, key=lambda words: scores[words])
    return best if scores[best] > max(CLEAR_FIT, float(np.median([s.fit for s in chosen])) + 0.1) else None


def _box_overlap(a: np.ndarray, b: np.ndarray) -> float:
    common = np.clip(np.minimum(a[1], b[1]) - np.maximum(a[0], b[0]), 0, None).prod()
    return float(common / max((a[1] - a[0]).prod() + (b[1] - b[0]).prod() - common, 1e-9))


Undo = Callable[[Sighting], tuple[np.ndarray, np.ndarray, np.ndarray]]


def _axes(*signs: float) -> Undo:
    return lambda s: (s.record.intrinsics, np.diag(signs) @ s.record.extrinsics, s.points)


def _turned(rows: Sequence[Sequence[float]]) -> Undo:
    return lambda s: (s.record.intrinsics, s.record.extrinsics, s.points @ np.array(rows, dtype=np.float64).T)


def _inverted(s: Sighting) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rotation, centre = s.record.extrinsics[:, :3].T, s.record.extrinsics[:, 3]
    return s.record.intrinsics, np.c_[rotation, -rotation @ centre], s.points


def _inverted_opengl(s: Sighting) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    intrinsics, extrinsics, points = _inverted(s)
    return intrinsics, np.diag([1.0, -1.0, -1.0]) @ extrinsics, points


def _normalised(unit: float, shift: float) -> Undo:
    def undo(s: Sighting) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        size = np.array([s.near.width, s.near.height])
        to_pixels = np.diag([*(size * unit), 1.0])
        to_pixels[:2, 2] = size * shift
        return to_pixels @ s.record.intrinsics, s.record.extrinsics, s.points

    return undo


def _other_size(s: Sighting) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Assumes the principal point in the middle of the size that the intrinsics were written for."""
    centre = np.where(s.record.intrinsics[:2, 2] > 1e-6, s.record.intrinsics[:2, 2], np.nan)
    scale = np.nan_to_num(np.array([s.near.width, s.near.height]) / 2 / centre, nan=1.0)
    return np.diag([*scale, 1.0]) @ s.record.intrinsics, s.record.extrinsics, s.points


# Mirroring cameras are none of these: a collection that holds them does not load.
MISTAKES: dict[str, Undo] = {
    "the extrinsics look like OpenGL's or Blender's (y up, z backward); negate their rows 2 and 3": _axes(1, -1, -1),
    "the cameras' x and y seem to point left and up; negate rows 1 and 2 of the extrinsics": _axes(-1, -1, 1),
    "the extrinsics look like camera-to-world; invert them": _inverted,
    "the extrinsics look like Blender's camera-to-world; invert, then negate rows 2 and 3": _inverted_opengl,
    "the ground truth seems to have Z up; turn it to Y up with (x, z, -y)": _turned([[1, 0, 0], [0, 0, 1], [0, -1, 0]]),
    "the ground truth seems to face +Z; turn it with (-x, y, -z)": _turned([[-1, 0, 0], [0, 1, 0], [0, 0, -1]]),
    "the ground truth seems mirrored left-right; use (-x, y, z)": _turned([[-1, 0, 0], [0, 1, 0], [0, 0, 1]]),
    "the intrinsics look normalised to 0..1; write them in pixels": _normalised(1.0, 0.0),
    "the intrinsics look normalised to -1..1; write them in pixels": _normalised(0.5, 0.5),
    "the intrinsics look made for another picture size; scale them": _other_size,
}
