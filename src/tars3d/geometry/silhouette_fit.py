"""The camera under which a mesh has a given silhouette: Gauss-Newton on points, from one start or a grid of them.

`photo.camera` calls it with the mesh of a reconstruction and the mask of its picture. Plain arrays in and out.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float
from scipy.ndimage import distance_transform_edt, map_coordinates
from scipy.spatial import KDTree
from scipy.spatial.transform import Rotation

from tars3d.geometry.camera import pinhole

PARAMETERS = 7
WANTED = 1500
"""Pixels of a mask that want to be covered, drawn; more hardly change a fit."""
KEPT = 6
"""Cameras of a search that are fitted to the end."""
DEPTH_PRIOR = 0.15
"""Change of inverse depth (1 / world units) that costs as much as a pixel everywhere, at 128 pixels a side; a silhouette hardly tells it."""
NEAREST = 0.95
"""Largest inverse depth, 1 / world units: from 1.05 away; the corners of the unit cube reach the camera at 0.87."""


@dataclass(frozen=True)
class CenteredCamera:
    """A camera whose optical axis goes through the object's centre, the world's origin.

    A point x lands at centre + scale · (q_x, q_y) / (1 + q_z · inverse_depth) with q = rotation · x: all of it stays finite where
    perspective fades (inverse depth 0 is the orthographic camera).

    Attributes:
        rotation: world to camera, OpenCV axes.
        scale: pixels per world unit at the object's centre.
        center: pixel of the object's centre (u, v).
        inverse_depth: of the object's centre, 1 / world units.
    """

    rotation: Float[np.ndarray, "3 3"]
    scale: float
    center: Float[np.ndarray, "2"]
    inverse_depth: float

    def project(self, points: Float[np.ndarray, "points 3"]) -> Float[np.ndarray, "points 2"]:
        """Pixels of world points."""
        q = points @ self.rotation.T
        return self.center + self.scale * q[:, :2] / (1 + self.inverse_depth * q[:, 2:])

    def pinhole(self) -> tuple[Float[np.ndarray, "3 3"], Float[np.ndarray, "3 4"], bool]:
        """Intrinsics, extrinsics and whether it is perspective: the same camera in the package's convention."""
        perspective = self.inverse_depth > 1e-3
        depth = 1 / self.inverse_depth if perspective else 2.0  # in front of the cube; it has no other meaning
        focal = self.scale * depth if perspective else self.scale
        return pinhole(focal, self.center), np.c_[self.rotation, [0, 0, depth]], perspective

    @staticmethod
    def of_pinhole(
        intrinsics: Float[np.ndarray, "3 3"], extrinsics: Float[np.ndarray, "3 4"], perspective: bool
    ) -> "CenteredCamera":
        """The nearest such camera: turned to the object where the given one looks past it, so its picture differs a little."""
        rotation, shift = np.asarray(extrinsics[:, :3], float), np.asarray(extrinsics[:, 3], float)
        focal = float(np.sqrt(abs(np.linalg.det(intrinsics[:2, :2]))))
        if not perspective:
            center = intrinsics[:2, :2] @ shift[:2] + intrinsics[:2, 2]
            return CenteredCamera(rotation, focal, center, 0.0)
        center = (intrinsics @ (shift / shift[2]))[:2]
        distance = float(np.linalg.norm(shift))
        to_axis = Rotation.align_vectors([[0, 0, 1.0]], [shift / distance])[0]
        return CenteredCamera(
            to_axis.as_matrix() @ rotation, focal / float(shift[2]), center, min(1 / distance, NEAREST)
        )

    def moved(self, step: Float[np.ndarray, "7"]) -> "CenteredCamera":
        """After a step: turn (radians, camera axes), logarithm of scale, centre (pixels), inverse depth."""
        return CenteredCamera(
            Rotation.from_rotvec(step[:3]).as_matrix() @ self.rotation,
            float(self.scale * np.exp(np.clip(step[3], -0.5, 0.5))),
            self.center + step[4:6],
            float(np.clip(self.inverse_depth + step[6], 0.0, NEAREST)),
        )

    def jacobian(self, points: Float[np.ndarray, "points 3"]) -> Float[np.ndarray, "points 2 7"]:
        """Derivative of `project` by a step of `moved`."""
        q = points @ self.rotation.T
        share = 1 / (1 + self.inverse_depth * q[:, 2])
        plane = self.scale * q[:, :2] * share[:, None]
        found = np.zeros((len(points), 2, PARAMETERS))
        # d(pixel) / dq, then dq = turn × q
        by_q = np.zeros((len(points), 2, 3))
        by_q[:, 0, 0] = by_q[:, 1, 1] = self.scale * share
        by_q[:, :, 2] = -plane * (self.inverse_depth * share)[:, None]
        for axis in range(3):
            turned = np.cross(np.eye(3)[axis], q)
            found[:, :, axis] = np.einsum("nij,nj->ni", by_q, turned)
        found[:, :, 3] = plane
        found[:, 0, 4] = found[:, 1, 5] = 1
        found[:, :, 6] = -plane * (q[:, 2] * share)[:, None]
        return found


class SilhouetteTarget:
    """A mask as the fit sees it: how far any pixel is from it, and pixels that want to be covered.

    Args:
        mask: the object.
        seen: pixels of which the mask says whether the object is there; it may be anywhere else, and beyond the border wherever the border's
            pixels are unseen. None: all.
    """

    def __init__(self, mask: Bool[np.ndarray, "size size"], seen: Bool[np.ndarray, "size size"] | None = None):
        if not mask.any():
            raise ValueError("SilhouetteTarget: the mask is empty")
        self.mask = mask
        self.size = max(mask.shape)
        margin = self.size  # points may leave the picture
        padded = np.pad(mask, margin)
        if seen is not None:
            padded |= ~np.pad(seen, margin, mode="edge")
        self._margin = margin
        self._distance = np.asarray(distance_transform_edt(~padded))
        self._slope = [np.gradient(self._distance, axis=axis) for axis in (1, 0)]  # along u, along v
        rows, columns = np.nonzero(mask)
        chosen = np.random.default_rng(0).permutation(len(rows))[:WANTED]
        self.wanted = np.stack([columns[chosen], rows[chosen]], axis=1) + 0.5
        self.low = np.array([columns.min(), rows.min()], float)
        self.high = np.array([columns.max(), rows.max()]) + 1.0

    def outside(self, pixels: Float[np.ndarray, "points 2"]) -> tuple[np.ndarray, np.ndarray]:
        """Distance to the mask, pixels, and its derivative [n, 2]; 0 on it."""
        index = (pixels[:, ::-1] - 0.5 + self._margin).T
        distance = map_coordinates(self._distance, index, order=1, mode="nearest")
        slope = np.stack([map_coordinates(part, index, order=1, mode="nearest") for part in self._slope], axis=1)
        return np.maximum(distance - 0.5, 0), slope * (distance > 0.5)[:, None]


def fit_silhouette(
    points: Float[np.ndarray, "points 3"],
    target: SilhouetteTarget,
    start: CenteredCamera,
    *,
    iterations: int = 30,
    cap: float = 0.04,
    turn_prior: float = 20.0,
    zoom_prior: float = 1.0,
) -> tuple[CenteredCamera, float]:
    """The camera near `start` under which surface points cover the mask and nothing else; and its cost, pixels².

    Two sums of capped squares, each a mean: distances of projected points to the mask, and of mask pixels to the nearest projected
    point. Both vanish where the silhouettes agree. Levenberg-Marquardt; nearest points are looked up anew at each iteration.

    Args:
        points: spread over the surface, some thousands.
        iterations: at most.
        cap: distances beyond this share of the picture's side hardly pull: parts that a reconstruction lacks or has too many.
        turn_prior: degrees of turn from the start that cost as much as a pixel everywhere (at 128 pixels a side).
        zoom_prior: change of the scale's logarithm that costs as much.
    """
    pixel = target.size / 128
    widths = np.array([np.radians(turn_prior)] * 3 + [zoom_prior, 1e3 * pixel, 1e3 * pixel, DEPTH_PRIOR]) / pixel
    prior = 1 / widths**2
    camera, damping = start, 1e-2
    cost, gradient, curvature = _terms(points, target, camera, cap * target.size)
    total = np.zeros(PARAMETERS)
    for _ in range(iterations):
        hessian = curvature + np.diag(prior)
        slope = gradient + prior * total
        step = -np.linalg.solve(hessian + damping * np.diag(np.diag(hessian)), slope)
        trial = camera.moved(step)
        # Turns of a small fit add up well enough for a prior.
        trial_cost, trial_gradient, trial_curvature = _terms(points, target, trial, cap * target.size)
        moved = total + step
        before, after = cost + total @ (prior * total), trial_cost + moved @ (prior * moved)
        if after < before:
            camera, total, damping = trial, moved, damping / 4
            cost, gradient, curvature = trial_cost, trial_gradient, trial_curvature
            if before - after < 1e-4 * before:
                break
        else:
            damping *= 8
            if damping > 1e6:
                break
    return camera, cost


def _terms(
    points: np.ndarray, target: SilhouetteTarget, camera: CenteredCamera, cap: float
) -> tuple[float, np.ndarray, np.ndarray]:
    """Cost, half its gradient and its Gauss-Newton matrix."""
    pixels = camera.project(points)
    jacobian = camera.jacobian(points)
    distance, slope = target.outside(pixels)
    gap, nearest = KDTree(pixels).query(target.wanted)
    away = (pixels[nearest] - target.wanted) / np.maximum(gap, 1e-9)[:, None]
    # A pixel whose neighbour holds a point is covered: points are samples of a surface.
    gap = np.maximum(gap - target.size / 128, 0)
    rows_out = np.einsum("ni,nij->nj", slope, jacobian)
    rows_in = np.einsum("ni,nij->nj", away, jacobian[nearest]) * (gap > 0)[:, None]
    cost, gradient, curvature = 0.0, np.zeros(PARAMETERS), np.zeros((PARAMETERS, PARAMETERS))
    for residual, rows in ((distance, rows_out), (gap, rows_in)):
        weight = 1 / (1 + (residual / cap) ** 2) ** 2 / len(residual)  # Geman-McClure, as weights
        cost += float((residual**2 / (1 + (residual / cap) ** 2)).mean())
        gradient += rows.T @ (weight * residual)
        curvature += rows.T @ (weight[:, None] * rows)
    return cost, gradient, curvature + 1e-9 * np.eye(PARAMETERS)


def aligned(points: Float[np.ndarray, "points 3"], target: SilhouetteTarget, camera: CenteredCamera) -> CenteredCamera:
    """The camera zoomed and shifted so that the box around the points is that around the mask."""
    for _ in range(2):
        pixels = camera.project(points)
        low, high = pixels.min(0), pixels.max(0)
        zoom = float((target.high - target.low).max() / max((high - low).max(), 1e-6))
        middle = (low + high) / 2
        center = (target.low + target.high) / 2 + zoom * (camera.center - middle)
        camera = replace(camera, scale=camera.scale * zoom, center=center)
    return camera


def search_silhouette(
    points: Float[np.ndarray, "points 3"], target: SilhouetteTarget, starts: list[CenteredCamera]
) -> list[tuple[CenteredCamera, float]]:
    """The best cameras of a grid of starts, best first: all are tried coarsely, `KEPT` are fitted to the end.

    Several, because a silhouette looks nearly the same from the opposite side: something else must choose among them.
    """
    few = points[:: max(1, len(points) // 800)]
    loose = {"iterations": 8, "cap": 0.1, "turn_prior": 60.0}
    rough = [fit_silhouette(few, target, aligned(few, target, start), **loose) for start in starts]
    rough.sort(key=lambda found: found[1])
    chosen: list[CenteredCamera] = []
    for camera, _ in rough:  # starts that ran into one place count once
        if all(turn_between(camera.rotation, other.rotation) > 10 for other in chosen):
            chosen.append(camera)
        if len(chosen) == KEPT:
            break
    fitted = [fit_silhouette(points, target, camera, turn_prior=60.0) for camera in chosen]
    return sorted(fitted, key=lambda found: found[1])


def turn_between(first: Float[np.ndarray, "3 3"], second: Float[np.ndarray, "3 3"]) -> float:
    """Angle between two rotations, degrees."""
    return float(np.degrees(Rotation.from_matrix(first @ second.T).magnitude()))
