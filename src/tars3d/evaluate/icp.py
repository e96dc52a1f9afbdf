"""Rigid alignment by iterative closest points, as the published evaluation does where ground truth is only
roughly in place (Pascal3D+, Pix3D); `metrics.score_reconstruction` calls it.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.spatial import KDTree


@dataclass(frozen=True)
class Alignment:
    """A rigid motion x -> rotation x + translation, a proper rotation without scale."""

    rotation: Float[np.ndarray, "3 3"]
    translation: Float[np.ndarray, "3"]
    iterations: int
    """Fewer than asked for when the pairing had stopped to change, after which nothing moves."""

    def apply(self, points: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
        return points @ self.rotation.T + self.translation


def best_rigid_motion(source: Float[np.ndarray, "n 3"], target: Float[np.ndarray, "n 3"]) -> Alignment:
    """The rigid motion with the least sum of squared distances between paired points (Kabsch): the rotation
    is V diag(1, 1, det(V U^T)) U^T of the covariance's U S V^T, so that it never mirrors. (The published
    code negates a row of the rotation instead, which is not the optimum: docs/paper-vs-code.md, ICP. The two differ
    only where a mirror image fits best.)"""
    centre, goal = source.mean(axis=0), target.mean(axis=0)
    u, _, vt = np.linalg.svd((source - centre).T @ (target - goal))
    flip = np.array([1.0, 1.0, np.sign(np.linalg.det(vt.T @ u.T))])
    rotation = (vt.T * flip) @ u.T
    return Alignment(rotation, goal - rotation @ centre, 1)


def icp(prediction: Float[np.ndarray, "n 3"], truth: Float[np.ndarray, "m 3"], *, iterations: int = 50) -> Alignment:
    """Point-to-point ICP from the identity: the motion that carries the prediction onto the truth. Each
    predicted point is paired with its nearest true point.

    Raises:
        ValueError: a cloud is empty.
    """
    if len(prediction) == 0 or len(truth) == 0:
        raise ValueError(f"ICP needs points: {len(prediction)} predicted, {len(truth)} true")
    source = np.asarray(prediction, dtype=np.float64)
    tree = KDTree(truth)
    motion = Alignment(np.eye(3), np.zeros(3), 0)
    before = None
    for iteration in range(1, iterations + 1):
        pairing = tree.query(motion.apply(source), workers=1)[1]
        if before is not None and np.array_equal(pairing, before):
            break
        # Always from where the points started, so that rounding does not pile up.
        step = best_rigid_motion(source, tree.data[pairing])
        motion, before = Alignment(step.rotation, step.translation, iteration), pairing
    return motion
