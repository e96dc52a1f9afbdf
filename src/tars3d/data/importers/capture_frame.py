"""Where the object of a capture is in the world of its cameras, how large it is, and which way it stands and faces.

Called by `data.importers.transforms`. Photos' outlines tell place and size, the cameras which way is up, and one named photo the front.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from tars3d.errors import UserError
from tars3d.geometry.masks import mask_box, mask_cells
from tars3d.geometry.rays import nearest_point

CELLS = 64
"""Along each axis, in which the outlines' common part is looked for."""
OUTLINE = 512
"""Squares along the longer side of a photo, at most, in which outlines are compared."""
LEVEL = 0.05
"""How much further along every other axis than along up the cameras' own horizontals must spread, for up to follow from them; a share,
squared: about 13 degrees all around, where photos are level."""
ROLLED = 45
"""Degrees by which a photo may be held askew."""
EVEN = 0.05
"""By which share those that are held one way up must outweigh those that are upside down: of 40 photos, 21 to 19 is too close."""
STEEP = 0.2
"""A direction whose level part is smaller than this, as a share, is up or down: 78 degrees above the ground."""
LONGER = 1.3
"""How much longer than in any photo an object may be found: what is deeper than it is wide was seen from too few sides, or is cut off."""


@dataclass(frozen=True)
class Shot:
    """A photo of a capture, and the camera that took it: OpenCV axes, world-to-camera, in the capture's world."""

    photo: Path
    mask: Path | None
    intrinsics: Float[np.ndarray, "3 3"]
    rotation: Float[np.ndarray, "3 3"]
    translation: Float[np.ndarray, "3"]

    @property
    def place(self) -> Float[np.ndarray, "3"]:
        """Of the camera, in the world."""
        return -self.rotation.T @ self.translation


@dataclass(frozen=True)
class Outline:
    """Where the object is in a photo, as small as suffices for its box: a capture has many photos of many pixels."""

    size: tuple[int, int]
    """Width and height of the photo, pixels; all lengths here are in its pixels."""
    box: Float[np.ndarray, "2 2"]
    """Two corners of the object's box, u and v."""
    cut: bool
    """Whether the object touches an edge of the photo: it may go on there."""
    step: int
    """Side of the squares that `distance` is known for."""
    distance: Float[np.ndarray, "rows columns"]
    """From the squares to the nearest that holds some of the object."""

    @classmethod
    def of_mask(cls, mask: Bool[np.ndarray, "height width"]) -> "Outline":
        """The outline that a mask has."""
        height, width = mask.shape
        share, step = mask_cells(mask, OUTLINE)
        distance = step * np.asarray(ndimage.distance_transform_edt(share == 0), dtype=np.float32)
        cut = bool(mask[[0, -1]].any() or mask[:, [0, -1]].any())
        return cls((width, height), mask_box(mask), cut, step, distance)


def object_frame(
    name: str, shots: list[Shot], outlines: list[Outline], front: int, azimuth: float
) -> tuple[Float[np.ndarray, "3 3"], Float[np.ndarray, "3"], float]:
    """The axes of the object in a capture's world (rows X, Y, Z), the middle of its bounding box, and its longest side, world units.

    The box is that of what lies inside (nearly) all outlines, which is the object's, or a little larger where few photos see it.

    Args:
        front: index of the shot that sees the object from `azimuth` (degrees; 0 is its front).

    Raises:
        UserError: the cameras do not tell up, or outlines and cameras do not agree or do not tell how large the object is.
    """
    up = _upwards(name, shots)
    rays = np.stack(
        [
            shot.rotation.T @ np.linalg.solve(shot.intrinsics, [*outline.box.mean(axis=0), 1.0])
            for shot, outline in zip(shots, outlines, strict=True)
        ]
    )
    directions = rays / np.linalg.norm(rays, axis=1, keepdims=True)
    middle = nearest_point(np.stack([shot.place for shot in shots]), directions)
    shown = [
        (shot.rotation @ middle + shot.translation)[2] * np.ptp(outline.box, axis=0).max() / shot.intrinsics[0, 0]
        for shot, outline in zip(shots, outlines, strict=True)
    ]
    turn, half = np.eye(3), np.full(3, float(np.median(shown)))
    for _ in range(3):  # each time in the box that the last found, with a margin
        turn = _facing(name, shots[front], up, middle, azimuth)
        low, high = _common_box(name, shots, outlines, turn, middle, 1.2 * half)
        middle, half = middle + (low + high) / 2 @ turn, (high - low) / 2
    if 2 * half.max() > LONGER * max(shown):
        raise UserError(
            f"{name}: its photos do not tell how large it is; add some from other sides that show all of it"
        )
    return turn, middle, float(2 * half.max())


def _upwards(name: str, shots: list[Shot]) -> Float[np.ndarray, "3"]:
    """Up in the world: across all cameras' horizontals, as photos are held about level, and where most of their heads are."""
    levels, heads = (np.stack([sign * shot.rotation[row] for shot in shots]) for row, sign in ((0, 1), (1, -1)))
    spread, axes = np.linalg.eigh(levels.T @ levels / len(shots))
    if spread[1] - spread[0] < LEVEL:  # else another axis, which may be any between the two, is as good
        raise UserError(
            f"{name}: which way is up cannot be told, as its photos are all from one side (or its opposite) or lie on their side; "
            "add other sides, held level, and leave out those that lie on their side"
        )
    aside, ahead = levels @ axes[:, 0], heads @ axes[:, 0]
    steep = np.hypot(aside, ahead) < STEEP  # straight from above no side of a photo is up
    tilts = np.where(steep, 0, np.degrees(np.arctan2(np.abs(aside), np.abs(ahead))))  # upside down is level as well
    if tilts.max() > ROLLED:
        worst = int(np.argmax(tilts > tilts.max() - 1))  # the first of those that are as askew
        raise UserError(
            f"{name}: the photo {shots[worst].photo.name} is held {tilts[worst]:.0f} degrees askew of the others; leave out "
            "those that lie on their side, or turn them upright and find the cameras again"
        )
    votes = np.where(steep, 0, ahead)
    if abs(votes.sum()) <= EVEN * np.abs(votes).sum():
        raise UserError(
            f"{name}: which way is up cannot be told, as half of its photos are upside down, or all are from straight above; "
            "leave out those that are upside down, or add some from the sides"
        )
    return axes[:, 0] * np.sign(votes.sum())


def _facing(
    name: str, shot: Shot, up: Float[np.ndarray, "3"], middle: Float[np.ndarray, "3"], azimuth: float
) -> Float[np.ndarray, "3 3"]:
    """The object's axes in the world, as rows, where a shot sees it from an azimuth in degrees."""
    towards = shot.place - middle
    level = towards - (towards @ up) * up
    if not np.linalg.norm(level) > STEEP * np.linalg.norm(towards):
        raise UserError(f"{name}: the photo {shot.photo.name} is from straight above; name one from a side")
    back = -level / np.linalg.norm(level)
    angle = math.radians(azimuth)
    around = np.array([[math.cos(angle), 0, -math.sin(angle)], [0, 1, 0], [math.sin(angle), 0, math.cos(angle)]])
    return around @ np.stack([np.cross(up, back), up, back])


def _common_box(
    name: str,
    shots: list[Shot],
    outlines: list[Outline],
    turn: Float[np.ndarray, "3 3"],
    middle: Float[np.ndarray, "3"],
    half: Float[np.ndarray, "3"],
) -> tuple[Float[np.ndarray, "3"], Float[np.ndarray, "3"]]:
    """Two corners of the box, along the axes `turn` from `middle`, of what lies inside (nearly) all outlines and not beyond `half`."""
    ticks = np.linspace(-half, half, CELLS, axis=1)
    cell = 2 * half / (CELLS - 1)
    # What is thinner than a cell counts where it comes so near to the cell's middle.
    around = float(np.linalg.norm(cell) / 2)
    points = np.stack(np.meshgrid(*ticks, indexing="ij"), axis=-1).reshape(-1, 3)
    missed = np.zeros(len(points), dtype=int)
    for shot, outline in zip(shots, outlines, strict=True):
        missed += ~_covered(points @ turn + middle, around, shot, outline)
        points, missed = points[missed <= len(shots) // 10], missed[missed <= len(shots) // 10]
    if not len(points):
        raise UserError(f"{name}: nothing lies inside the outlines of all its photos; look at its masks and cameras")
    beyond = np.minimum(around - cell / 2, np.ptp(points, axis=0) / 2)
    return points.min(axis=0) + beyond, points.max(axis=0) - beyond


def _covered(
    points: Float[np.ndarray, "points 3"], around: float, shot: Shot, outline: Outline
) -> Bool[np.ndarray, "points"]:
    """Which points of the world come as near as `around` to the object in a photo, or lie outside a photo that may cut the object off."""
    seen = points @ shot.rotation.T + shot.translation
    depth = np.maximum(seen[:, 2], 1e-9)
    u, v = ((seen / depth[:, None]) @ shot.intrinsics.T)[:, :2].T
    width, height = outline.size
    known = (seen[:, 2] > 0) & (u >= 0) & (u < width) & (v >= 0) & (v < height)
    found = np.full(len(points), outline.cut)
    row, column = ((value[known] / outline.step).astype(int) for value in (v, u))
    found[known] = outline.distance[row, column] <= around * shot.intrinsics[0, 0] / depth[known]
    return found
