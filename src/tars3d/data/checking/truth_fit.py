"""How well a known shape explains a mask under a camera, and which mistake would explain it better.

Called by `data.checking.check`. The mistakes of convention are those of `data.checking.camera_mistakes`; wrong scales, focal lengths and principal
points are measured here.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from tars3d.data.checking.camera_mistakes import CAMERA_MISTAKES, TRUTH_TURNS, View, in_words
from tars3d.data.image_record import ImageRecord
from tars3d.geometry.masks import mask_box, mask_cells
from tars3d.geometry.rasterize import project

CLEAR_FIT = 0.75
"""Fits above count as right cameras. On the lopsided object of the tests, right cameras fit 0.94 to 0.99 and
wrong ones 0.67 at most. Not measured on annotated real photos, whose cameras are looser.
"""
TRIED = 24  # pictures on which they are tried
COARSE = 128  # cells a side of a mask's vicinity
CLEARLY_BETTER = 0.01
"""How much better a wrong focal length must explain masks than a wrong distance, or the other way round."""


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
        share, step = mask_cells(mask, COARSE)
        reach = max(1, round(0.02 * max(share.shape)))
        return Vicinity(np.asarray(ndimage.binary_dilation(share > 0, iterations=reach)), step, *mask.shape)

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

    view: View

    @staticmethod
    def of(record: ImageRecord, mask: Bool[np.ndarray, "height width"], points: np.ndarray) -> "Sighting":
        """Project and measure."""
        near, view = Vicinity.of(mask), view_of(record, mask)
        box = mask_box(mask)
        slack = max(1.5, 0.02 * float((box[1] - box[0]).max()))
        return Sighting(record, near, box, points, *measure(near, box, points, view, slack), view)

    def fit_of(self, view: View, points: Float[np.ndarray, "points 3"] | None = None) -> float:
        """`fit` with another camera, or with other points."""
        return measure(self.near, self.box, self.points if points is None else points, view)[1]


def view_of(record: ImageRecord, mask: Bool[np.ndarray, "height width"]) -> View:
    """The camera of a picture with this mask."""
    return View(record.intrinsics, record.extrinsics, record.model == "perspective", mask.shape[1], mask.shape[0])


def measure(near: Vicinity, box: np.ndarray, points: np.ndarray, view: View, slack: float = 0.0) -> tuple[float, float]:
    """The `inside` and `fit` of points under a camera; points behind it count as outside.

    Edges of boxes that lie within `slack` pixels of each other count as equal: an airplane seen from its tip is ten pixels high, and
    one of them must not cost a tenth.
    """
    pixels, depth = project(points, view.intrinsics, view.extrinsics, view.perspective)
    ahead = np.asarray((np.abs(pixels) < 1e6).all(axis=1))
    if view.perspective:
        ahead &= depth > 0
    if ahead.mean() < 0.5:
        return 0.0, 0.0
    seen = pixels[ahead]
    inside = float(near.holds(seen).sum() / len(points))
    # What lies outside the picture is cut off in the mask's box as well.
    seen = seen.clip(0, [near.width, near.height])
    found = np.stack([seen.min(axis=0), seen.max(axis=0)])
    return inside, inside * _box_overlap(box, np.where(np.abs(found - box) <= slack, box, found))


def likely_mistake(sightings: Sequence[Sighting]) -> str | None:
    """In words, the mistake that explains pictures which do not fit, or None where none of the known ones
    does.
    """
    chosen = sightings[:: max(1, len(sightings) // TRIED)][:TRIED]

    def score(undo: Callable[[Sighting], float]) -> float:
        return float(np.median([undo(s) for s in chosen]))

    as_is = score(lambda s: s.fit_of(s.view))
    scores = {words: score(lambda s, undo=undo: s.fit_of(undo(s.view))) for words, undo in CAMERA_MISTAKES.items()}
    for words, turn in TRUTH_TURNS.items():
        scores[words] = score(lambda s, turn=turn: s.fit_of(s.view, s.points @ turn.T))
    best = max(scores, key=lambda words: scores[words])
    if scores[best] > max(CLEAR_FIT, as_is + 0.1):
        return best
    # Numbers come last: one that is free fits anything a little better, so it must not outbid a convention.
    return _wrong_size(chosen, score, as_is) or _wrong_centre(chosen, score, as_is)


Score = Callable[[Callable[[Sighting], float]], float]


def _wrong_size(chosen: Sequence[Sighting], score: Score, as_is: float) -> str | None:
    """Whether objects come out too large or too small, and of what: focal length, distance, orthographic scale."""
    zoom, far = _solved(chosen, View.zoomed), 1 / _solved(chosen, lambda view, k: view.moved_off(1 / k))
    zoomed, moved = score(lambda s: s.fit_of(s.view.zoomed(zoom))), score(lambda s: s.fit_of(s.view.moved_off(far)))
    if max(zoomed, moved) <= max(CLEAR_FIT, as_is + 0.1):
        return None
    focal = f"the focal lengths seem {in_words(1 / zoom)}"
    if not any(s.view.perspective for s in chosen):
        return f"the cameras' scale seems {in_words(1 / zoom)}; is it in pixels per unit, with an object 1 long?"
    scale = f"translations seem {in_words(1 / far)} for the ground truth; bring both to the same unit"
    if zoomed > moved + CLEARLY_BETTER:
        return f"{focal}; write them in pixels of this picture's size"
    if moved > zoomed + CLEARLY_BETTER:
        return f"the scale is wrong: {scale}"
    return f"the scale is wrong: {scale}; or {focal}"


def _solved(chosen: Sequence[Sighting], apply: Callable[[View, float], View]) -> float:
    """The factor with which boxes of points become as large as boxes of masks, by a few fixed-point steps."""
    factor = 1.0
    for _ in range(6):
        ratios = []
        for s in chosen:
            view = apply(s.view, factor)
            pixels, depth = project(s.points, view.intrinsics, view.extrinsics, view.perspective)
            if np.isfinite(pixels).all() and (depth > 0).all():
                ratios.append(np.linalg.norm(s.box[1] - s.box[0]) / max(np.linalg.norm(np.ptp(pixels, axis=0)), 1e-9))
        factor *= float(np.median(ratios)) if ratios else 1.0
    return float(np.clip(factor, 1e-6, 1e6))


def _wrong_centre(chosen: Sequence[Sighting], score: Score, as_is: float) -> str | None:
    """Whether all masks lie off the projected objects by the same step."""
    steps = []
    for s in chosen:
        pixels = project(s.points, s.view.intrinsics, s.view.extrinsics, s.view.perspective)[0]
        steps.append(s.box.mean(axis=0) - (pixels.min(axis=0) + pixels.max(axis=0)) / 2)
    step = np.median(steps, axis=0)
    if not np.isfinite(step).all():
        return None
    shift = np.array([[1.0, 0, step[0]], [0, 1, step[1]], [0, 0, 1]])
    if score(lambda s: s.fit_of(s.view.in_picture(shift))) <= max(CLEAR_FIT, as_is + 0.1):
        return None
    return (
        f"masks lie {step[0]:+.0f} pixels (right) and {step[1]:+.0f} (down) from where cameras put the objects; "
        "are pictures cropped, or are principal points wrong?"
    )


def _box_overlap(a: np.ndarray, b: np.ndarray) -> float:
    common = np.clip(np.minimum(a[1], b[1]) - np.maximum(a[0], b[0]), 0, None).prod()
    return float(common / max((a[1] - a[0]).prod() + (b[1] - b[0]).prod() - common, 1e-9))
