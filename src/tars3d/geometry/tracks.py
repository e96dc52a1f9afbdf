"""What structure from motion of a category knows and finds: keypoints of many pictures, named directions, a mean shape with cameras.

Shared by `factorisation`, `structure_from_motion` and `deformable`.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int


class WeakCameras(NamedTuple):
    """Weak-perspective cameras: a point X is seen at s (R X)_xy + t."""

    rotations: Float[np.ndarray, "images 3 3"]
    scales: Float[np.ndarray, " images"]
    translations: Float[np.ndarray, "images 2"]


@dataclass(frozen=True, eq=False)
class Tracks:
    """2D keypoints of a set of pictures, in box sides from the middle of each picture's box."""

    points: Float[np.ndarray, "images keypoints 2"]
    weight: Float[np.ndarray, "images keypoints"]
    """1 where a point is fitted, 0 where it is unknown or left out."""
    hidden: Bool[np.ndarray, "images keypoints"]
    """Points that are annotated as invisible."""
    pairs: Int[np.ndarray, "pairs 2"]
    """Left and right partners."""

    @property
    def mirror(self) -> Int[np.ndarray, " keypoints"]:
        """The keypoint that each becomes in a mirrored picture."""
        order = np.arange(self.points.shape[1])
        order[self.pairs] = self.pairs[:, ::-1]
        return order


@dataclass(frozen=True)
class Axes:
    """Named directions of the object frame, each from the middle of some keypoints to the middle of others (indices)."""

    right: tuple[tuple[int, ...], tuple[int, ...]]
    """From left to right: becomes X."""
    front: tuple[tuple[int, ...], tuple[int, ...]]
    """From back to front: becomes -Z, as far as it is across to X."""
    up: tuple[tuple[int, ...], tuple[int, ...]]
    """From low to high: decides which of two mirror images is the object; Y points there, but need not be parallel."""

    def frame(self, shape: Float[np.ndarray, "keypoints 3"]) -> tuple[Float[np.ndarray, "3 3"], bool]:
        """Rows X, Y, Z in the shape's axes, and whether the shape is a mirror image (then they are left-handed)."""

        def direction(ends: tuple[tuple[int, ...], tuple[int, ...]]) -> np.ndarray:
            return shape[list(ends[1])].mean(axis=0) - shape[list(ends[0])].mean(axis=0)

        x = direction(self.right)
        x = x / np.linalg.norm(x)
        z = -direction(self.front)
        z = z - (z @ x) * x
        z = z / np.linalg.norm(z)
        y = np.cross(z, x)
        mirrored = bool(y @ direction(self.up) < 0)
        return np.stack([x, -y if mirrored else y, z]), mirrored


@dataclass(frozen=True, eq=False)
class Structure:
    """A mean shape and a camera for each picture."""

    shape: Float[np.ndarray, "keypoints 3"]
    rotations: Float[np.ndarray, "images 3 3"]
    scales: Float[np.ndarray, " images"]
    translations: Float[np.ndarray, "images 2"]

    @property
    def cameras(self) -> WeakCameras:
        """The pictures' cameras."""
        return WeakCameras(self.rotations, self.scales, self.translations)

    def project(self) -> Float[np.ndarray, "images keypoints 2"]:
        """Where the mean shape's keypoints fall in every picture."""
        return project(self.shape, self.cameras)


def project(shape: Float[np.ndarray, "keypoints 3"], cameras: WeakCameras) -> Float[np.ndarray, "images keypoints 2"]:
    """s (R X)_xy + t."""
    rotations, scales, translations = cameras
    return scales[:, None, None] * (shape @ rotations[:, :2].transpose(0, 2, 1)) + translations[:, None]
