"""Whether keypoints lie on their masks, and whether one mean shape of keypoints, seen through all cameras, lands on them.

Called by `data.checking.check`. Where every object is seen once and has no ground truth, this is all that can be said of its camera.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from tars3d.data.checking.camera_mistakes import CAMERA_MISTAKES, View
from tars3d.data.checking.fault import Fault
from tars3d.data.checking.truth_fit import Vicinity, view_of
from tars3d.data.image_record import ImageRecord
from tars3d.geometry.masks import mask_box

ON_THE_MASK = 0.7
"""Share of a picture's visible keypoints that must lie on or near its mask."""
FEW_PICTURES, FEW_POINTS = 8, 4
"""From which on a mean shape says something."""
SCATTER = 0.15
"""Median distance, in shares of the mask's longer side, at which keypoints and cameras contradict each other. Objects of a category
differ: 214 birds of 13 species have 0.03 with the cameras fitted to them.
"""
CLEARLY_LESS = 0.6
"""Share of the scatter to which undoing a mistake must bring it down. Right cameras are not undercut: the birds' least is 1.0."""


@dataclass(frozen=True, eq=False)
class Marked:
    """A picture's visible keypoints, in pixels, with its mask and camera."""

    record: ImageRecord
    view: View
    near: Vicinity
    side: float
    """The longer side of the mask's box, pixels."""
    points: dict[str, tuple[float, float]]

    @staticmethod
    def of(record: ImageRecord, mask: Bool[np.ndarray, "height width"]) -> "Marked | None":
        """None: there are no visible keypoints."""
        points = {name: (u, v) for name, (u, v, seen) in (record.keypoints or {}).items() if seen}
        if not points:
            return None
        side = float(np.ptp(mask_box(mask), axis=0).max())
        return Marked(record, view_of(record, mask), Vicinity.of(mask), side, points)

    def on_the_mask(self, change: Callable[[np.ndarray], np.ndarray] = lambda uv: uv) -> float:
        """Share of the points that lie on or near the mask, after a change of their coordinates."""
        return float(self.near.holds(change(np.array(list(self.points.values())))).mean())


def keypoint_mistake(stray: Sequence[Marked]) -> str | None:
    """What would bring keypoints back onto the masks they lie off, in words."""
    tried: dict[str, Callable[[Marked], Callable[[np.ndarray], np.ndarray]]] = {
        "they seem to be v before u; write u (right) first": lambda m: lambda uv: uv[:, ::-1],
        "the masks (or the keypoints) seem mirrored left-right; mirror them back": lambda m: (
            lambda uv: uv * [-1, 1] + [m.near.width, 0]
        ),
        "v seems to be counted from below; count it from the picture's top": lambda m: (
            lambda uv: uv * [1, -1] + [0, m.near.height]
        ),
        "they seem normalised to 0..1; write them in pixels": lambda m: lambda uv: uv * [m.near.width, m.near.height],
    }
    as_is = float(np.median([m.on_the_mask() for m in stray]))
    scores = {words: float(np.median([m.on_the_mask(change(m)) for m in stray])) for words, change in tried.items()}
    best = max(scores, key=lambda words: scores[words])
    return best if scores[best] > max(ON_THE_MASK, as_is + 0.2) else None


def camera_faults(marked: Sequence[Marked]) -> Iterator[Fault]:
    """Whether cameras contradict keypoints, in words."""
    usable = [m for m in marked if len(m.points) >= FEW_POINTS]
    if len(usable) < FEW_PICTURES:
        return
    as_is = scatter(usable)
    if as_is == 0:
        return
    scores = {words: scatter(usable, undo) for words, undo in CAMERA_MISTAKES.items()}
    best = min(scores, key=lambda words: scores[words])
    told = f"cameras do not bring the keypoints of all pictures together (median distance {100 * as_is:.0f}% of a mask's longer side)"
    if scores[best] < min(SCATTER, CLEARLY_LESS * as_is):
        yield Fault(f"{told}: {best}", serious=True)
    elif as_is > SCATTER:
        cure = "are cameras and pictures in the same order? `tars3d data cameras` estimates them anew"
        yield Fault(f"{told}: {cure}", serious=True)


def scatter(marked: Sequence[Marked], undo: Callable[[View], View] = lambda view: view) -> float:
    """Median distance between keypoints and the best mean shape's projections, in shares of the masks' longer sides.

    Each keypoint's mean place minimises the algebraic error of its projections (direct linear transform; Hartley and Zisserman,
    Multiple View Geometry, 12.2).
    """
    rows: dict[str, list[np.ndarray]] = {}
    seen: dict[str, list[tuple[np.ndarray, np.ndarray, bool, float]]] = {}
    for m in marked:
        view = undo(m.view)
        camera = view.extrinsics if view.perspective else np.r_[view.extrinsics[:2], [[0, 0, 0, 1.0]]]
        matrix = view.intrinsics @ camera
        # A point some way before the camera has an algebraic error of about its distance in shares of the side.
        weight = 1 / (m.side * (max(abs(view.extrinsics[2, 3]), 1e-6) if view.perspective else 1.0))
        for name, (u, v) in m.points.items():
            rows.setdefault(name, []).append(weight * (matrix[:2] - np.array([[u], [v]]) * matrix[2]))
            seen.setdefault(name, []).append((matrix, np.array([u, v]), view.perspective, m.side))
    errors = []
    for name, equations in rows.items():
        if len(equations) < 3:
            continue
        stacked = np.concatenate(equations)
        place = np.append(np.linalg.lstsq(stacked[:, :3], -stacked[:, 3], rcond=None)[0], 1.0)
        for matrix, pixel, perspective, side in seen[name]:
            x, y, depth = matrix @ place
            behind = perspective and depth <= 0
            errors.append(np.inf if behind else float(np.hypot(*(np.array([x, y]) / depth - pixel)) / side))
    return float(np.median(errors)) if errors else 0.0
