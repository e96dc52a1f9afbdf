"""A first shape from 2D keypoints with missing points: rank-3 factorisation, upgraded to metric and made symmetric.

Called by `structure_from_motion`, which refines it (Tomasi and Kanade's factorisation for weak perspective).
"""

import numpy as np
from jaxtyping import Float

from tars3d.geometry.tracks import Tracks


def factorise(tracks: Tracks, rounds: int = 60) -> Float[np.ndarray, "keypoints 3"]:
    """A first shape: rank-3 factorisation by alternating least squares over the known points, upgraded to metric.

    With pairs, each picture also counts as its mirror image, whose left is the other's right.
    """
    points, weight = tracks.points, tracks.weight
    if len(tracks.pairs):
        points = np.concatenate([points, points[:, tracks.mirror] * [-1.0, 1.0]])
        weight = np.concatenate([weight, weight[:, tracks.mirror]])
    rows = points.transpose(0, 2, 1).reshape(-1, points.shape[1])
    known = np.repeat(weight, 2, axis=0)
    means = (rows * known).sum(axis=1, keepdims=True) / np.maximum(known.sum(axis=1, keepdims=True), 1)
    filled = np.where(known > 0, rows, means)
    for _ in range(rounds):  # expectation-maximisation: what is missing is what the factors say
        offset = filled.mean(axis=1, keepdims=True)
        left, values, right = np.linalg.svd(filled - offset, full_matrices=False)
        motion, structure = left[:, :3] * values[:3], right[:3]
        filled = np.where(known > 0, rows, motion @ structure + offset)
    return _metric(motion, structure)


def _metric(motion: np.ndarray, structure: np.ndarray) -> Float[np.ndarray, "keypoints 3"]:
    """The affine ambiguity resolved so that camera axes are as orthogonal and as equally long as can be."""

    def quadratic(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Coefficients of a^T L b in the six entries of a symmetric L."""
        return np.stack(
            [a[:, 0] * b[:, 0], a[:, 1] * b[:, 1], a[:, 2] * b[:, 2], a[:, 0] * b[:, 1] + a[:, 1] * b[:, 0],
             a[:, 0] * b[:, 2] + a[:, 2] * b[:, 0], a[:, 1] * b[:, 2] + a[:, 2] * b[:, 1]], axis=1,
        )  # fmt: skip

    u, v = motion[0::2], motion[1::2]
    size = np.sqrt((u**2).sum(axis=1) + (v**2).sum(axis=1)) + 1e-12
    u, v = u / size[:, None], v / size[:, None]
    size_of_all = (quadratic(u, u) + quadratic(v, v)).sum(axis=0, keepdims=True)  # fixes the scale, nothing else
    system = np.concatenate([quadratic(u, u) - quadratic(v, v), quadratic(u, v), size_of_all])
    wanted = np.r_[np.zeros(2 * len(u)), len(u)]
    a, b, c, d, e, f = np.linalg.lstsq(system, wanted, rcond=None)[0]
    values, vectors = np.linalg.eigh(np.array([[a, d, e], [d, b, f], [e, f, c]]))
    upgrade = vectors * np.sqrt(np.maximum(values, 1e-3 * values.max()))
    return (np.linalg.inv(upgrade) @ structure).T


def made_symmetric(shape: np.ndarray, tracks: Tracks) -> np.ndarray:
    """The shape turned so that left-right is X, and made symmetric at X = 0; about the size of a box."""
    shape = shape - shape.mean(axis=0)
    if len(tracks.pairs):
        across = shape[tracks.pairs[:, 0]] - shape[tracks.pairs[:, 1]]
        axis = np.linalg.svd(across)[2][0]
        frame = np.linalg.svd(np.c_[axis, np.eye(3)])[0]
        frame[:, 0] = axis
        frame = np.linalg.qr(frame)[0]
        shape = symmetrised(shape @ frame, tracks)
    return shape / np.ptp(shape, axis=0).max()


def symmetrised(shape: np.ndarray, tracks: Tracks) -> np.ndarray:
    """The mean of a shape whose left-right is X and its mirror image at X = 0; without pairs the shape, centred."""
    if not len(tracks.pairs):
        return shape - shape.mean(axis=0)
    shape = shape - [shape[:, 0].mean(), 0, 0]
    return (shape + shape[tracks.mirror] * [-1.0, 1, 1]) / 2
