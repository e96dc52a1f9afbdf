"""The mistakes that people make when they write cameras, masks and ground truth, each with what undoes it.

Called by `data.checking.truth_fit` (ground truth), `data.checking.coherence` (silhouettes against each other) and `data.checking.keypoint_fit`: each tries
all that it can tell apart, and the one that fits is named.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True, eq=False)
class View:
    """A camera, and the size of its picture in pixels."""

    intrinsics: Float[np.ndarray, "3 3"]
    extrinsics: Float[np.ndarray, "3 4"]
    perspective: bool
    width: int
    height: int

    def moved(self, extrinsics: Float[np.ndarray, "3 4"]) -> "View":
        """The same camera elsewhere."""
        return View(self.intrinsics, extrinsics, self.perspective, self.width, self.height)

    def in_picture(self, affine: Float[np.ndarray, "3 3"]) -> "View":
        """The camera whose pixels are those of this one, put through a map of the picture."""
        return View(affine @ self.intrinsics, self.extrinsics, self.perspective, self.width, self.height)

    def zoomed(self, factor: float) -> "View":
        """Focal length (or orthographic scale) times `factor`; the principal point stays."""
        intrinsics = self.intrinsics.copy()
        intrinsics[:2, :2] *= factor
        return View(intrinsics, self.extrinsics, self.perspective, self.width, self.height)

    def moved_off(self, factor: float) -> "View":
        """Translation times `factor`, as with another unit of length."""
        return self.moved(np.c_[self.extrinsics[:, :3], factor * self.extrinsics[:, 3]])


Undo = Callable[[View], View]


def _axes(*signs: float) -> Undo:
    return lambda view: view.moved(np.diag(signs) @ view.extrinsics)


def _inverted(view: View) -> View:
    rotation = view.extrinsics[:, :3].T
    return view.moved(np.c_[rotation, -rotation @ view.extrinsics[:, 3]])


def _transposed(view: View) -> View:
    return view.moved(np.c_[view.extrinsics[:, :3].T, view.extrinsics[:, 3]])


def _after(first: Undo, *signs: float) -> Undo:
    return lambda view: _axes(*signs)(first(view))


def _normalised(unit: float, shift: float) -> Undo:
    def undo(view: View) -> View:
        size = np.array([view.width, view.height])
        to_pixels = np.diag([*(size * unit), 1.0])
        to_pixels[:2, 2] = size * shift
        return view.in_picture(to_pixels)

    return undo


def _other_size(view: View) -> View:
    """Assumes the principal point in the middle of the size that the intrinsics were written for."""
    centre = np.where(view.intrinsics[:2, 2] > 1e-6, view.intrinsics[:2, 2], np.nan)
    scale = np.nan_to_num(np.array([view.width, view.height]) / 2 / centre, nan=1.0)
    return view.in_picture(np.diag([*scale, 1.0]))


def _mirrored(view: View) -> View:
    return view.in_picture(np.array([[-1.0, 0, view.width], [0, 1, 0], [0, 0, 1]]))


def _upside_down(view: View) -> View:
    return view.in_picture(np.array([[1.0, 0, 0], [0, -1, view.height], [0, 0, 1]]))


# Cameras that mirror are none of these: a collection that holds them does not load.
EXTRINSICS: dict[str, Undo] = {
    "the extrinsics look like OpenGL's or Blender's (y up, z backward); negate their rows 2 and 3": _axes(1, -1, -1),
    "the cameras' x and y seem to point left and up, as in PyTorch3D; negate rows 1 and 2 of the extrinsics": _axes(
        -1, -1, 1
    ),
    "the extrinsics look like PyTorch3D's (for row vectors, x left, y up); transpose R, then negate rows 1 and 2": _after(
        _transposed, -1, -1, 1
    ),
    "the rotations seem transposed; transpose R and keep t": _transposed,
    "the extrinsics look like camera-to-world; invert them": _inverted,
    "the extrinsics look like Blender's camera-to-world; invert, then negate rows 2 and 3": _after(
        _inverted, 1, -1, -1
    ),
}
INTRINSICS: dict[str, Undo] = {
    "the intrinsics look normalised to 0..1; write them in pixels": _normalised(1.0, 0.0),
    "the intrinsics look normalised to -1..1; write them in pixels": _normalised(0.5, 0.5),
    "the intrinsics look made for another picture size; scale them": _other_size,
}
MASKS: dict[str, Undo] = {
    "the masks (or the whole pictures) seem mirrored left-right; mirror them back, or, where cameras come from azimuths, count these the other way round": _mirrored,
    "the masks (or the whole pictures) seem upside down; turn them over": _upside_down,
}
CAMERA_MISTAKES = EXTRINSICS | INTRINSICS | MASKS

TRUTH_TURNS: dict[str, Float[np.ndarray, "3 3"]] = {
    "the ground truth seems to have Z up; turn it to Y up with (x, z, -y)": np.array(
        [[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]
    ),
    "the ground truth seems to face +Z; turn it with (-x, y, -z)": np.diag([-1.0, 1, -1]),
    "the ground truth seems mirrored left-right; use (-x, y, z)": np.diag([-1.0, 1, 1]),
}
"""What undoes mistakes in the ground truth's axes."""


def in_words(factor: float) -> str:
    """How much too large or small something is, e.g. "2.5 times too large"; `factor` is its size over the right one."""
    return f"{factor:.3g} times too large" if factor > 1 else f"{1 / factor:.3g} times too small"
