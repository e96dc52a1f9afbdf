"""Cameras of objects that are not all the same shape: the rigid structure of `structure_from_motion` becomes a mean shape with a few modes.

Called by `data.keypoint_cameras.estimate`. A rigid mean shape explains with the camera what is another build or pose: a short tail turns the
whole object, a turned head too. Here each object may deviate, at a price, and what is seen must face the camera.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from tars3d.geometry.structure_from_motion import LEVEL, SHARPEST, turns
from tars3d.geometry.tracks import Axes, Structure, Tracks, WeakCameras, project

MODES = 3
"""Symmetric modes (a longer tail), and as many antisymmetric ones (a turned head)."""
PRICE = 1.0
"""Of a unit of squared coefficients, and for each object of squared modes. Together they price the sum of the deviations'
singular values (the variational form of the trace norm), so few modes are used, and little of them."""
FACING = 5.0
"""What it costs to see a point of the plane of symmetry from behind, straight on. Keypoints alone leave an object that is mostly seen
from its side free to turn away and be longer for it; that its front and its back are both seen does not."""
OCCLUDED = 0.1
"""Share of hidden points in pairs from which on visibility is believed; where all points are always visible, it says nothing."""
APART = 0.97
"""Quantile of the separation in pictures at which pairs start: a projection shows two points at most as far apart as they are."""


@dataclass(frozen=True, eq=False)
class DeformableStructure(Structure):
    """A mean shape, a camera for each picture, and how each object deviates."""

    modes: Float[np.ndarray, "modes keypoints 3"]
    coefficients: Float[np.ndarray, "images modes"]

    @property
    def shapes(self) -> Float[np.ndarray, "images keypoints 3"]:
        """Each object's keypoints in its own frame."""
        return self.shape + np.einsum("nm,mkc->nkc", self.coefficients, self.modes)

    def project(self) -> Float[np.ndarray, "images keypoints 2"]:
        """Where the objects' keypoints fall in their pictures."""
        pairs = zip(self.shapes, *self.cameras, strict=True)
        return np.concatenate([project(x, WeakCameras(r[None], np.array([s]), t[None])) for x, r, s, t in pairs])


def deform(
    found: Structure, tracks: Tracks, axes: Axes, *, modes: int = MODES, rounds: int = 600, seed: int = 0
) -> DeformableStructure:
    """Refine cameras and mean shape together with the deviations (L-BFGS under the Cauchy loss), in the object's axes.

    Args:
        found: the rigid answer to start from.
        modes: of each kind; without pairs there is one kind.
        rounds: L-BFGS iterations.
        seed: of the first modes, which are small and random.

    Raises:
        ValueError: the fit has turned inside out.
    """
    symmetric = bool(len(tracks.pairs))
    count, size = (2 * modes if symmetric else modes), float(np.ptp(found.shape, axis=0).max())
    flip = torch.tensor([-1.0, 1, 1], dtype=torch.float64)
    mirror = torch.as_tensor(tracks.mirror)
    sign = torch.tensor([1.0] * modes + [-1.0] * (count - modes), dtype=torch.float64)[:, None, None]
    target, weight = torch.as_tensor(tracks.points).double(), torch.as_tensor(tracks.weight).double()
    facing = torch.as_tensor(outward(found.shape, tracks))
    seen = torch.as_tensor(FACING * ~tracks.hidden)
    base = torch.as_tensor(found.rotations)

    rng = np.random.default_rng([seed, 0xDEF])
    starts = [
        np.zeros((len(base), 3)),
        np.log(found.scales),
        found.translations,
        _apart(found, tracks),
        0.05 * rng.normal(size=(len(base), count)),
        0.05 * size * rng.normal(size=(count, *found.shape.shape)),
    ]
    variables = [torch.tensor(start, dtype=torch.float64, requires_grad=True) for start in starts]
    turn, log_scale, move, free, coefficients, basis = variables

    def current() -> tuple[Tensor, Tensor, Tensor]:
        shape, deviation = free, basis
        if symmetric:
            shape = (free + free[mirror] * flip) / 2
            deviation = (basis + sign * basis[:, mirror] * flip) / 2
        return turns(turn) @ base, shape, deviation

    optimizer = torch.optim.LBFGS(
        variables, max_iter=rounds, max_eval=2 * rounds, history_size=20, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        rotations, shape, deviation = current()
        each = shape + torch.einsum("nm,mkc->nkc", coefficients, deviation)
        flat = log_scale.exp()[:, None, None] * (each @ rotations[:, :2].transpose(1, 2)) + move[:, None]
        fit = (torch.log1p((flat - target).square().sum(-1) / SHARPEST**2) * weight).sum()
        level = (rotations[:, 1, 0] / LEVEL).square().sum()
        behind = (torch.relu(rotations[:, 2] @ facing.T).square() * seen).sum()
        price = PRICE * (coefficients.square().sum() + len(base) * (deviation / size).square().sum())
        loss = fit + level + behind + price
        loss.backward()
        return loss

    optimizer.step(closure)
    with torch.no_grad():
        rotations, shape, deviation = (values.numpy() for values in current())
    turned, mirrored = axes.frame(shape)
    if mirrored:
        raise ValueError("left, front and up contradict one another")
    return DeformableStructure(
        shape @ turned.T,
        rotations @ turned.T,
        log_scale.exp().detach().numpy(),
        move.detach().numpy(),
        deviation @ turned.T,
        coefficients.detach().numpy(),
    )


def outward(shape: Float[np.ndarray, "keypoints 3"], tracks: Tracks) -> Float[np.ndarray, "keypoints 3"]:
    """Which way the surface faces at points on the plane of symmetry: away from their middle, within the plane. Zero elsewhere, and
    everywhere where the table never hides a point."""
    normals = np.zeros_like(shape)
    middle = np.setdiff1d(np.arange(len(shape)), tracks.pairs.ravel())
    if len(tracks.pairs) and len(middle) >= 3 and tracks.hidden[:, tracks.pairs.ravel()].mean() >= OCCLUDED:
        away = (shape[middle] - shape[middle].mean(axis=0)) * [0.0, 1.0, 1.0]
        normals[middle] = away / np.maximum(np.linalg.norm(away, axis=1, keepdims=True), 1e-9)
    return normals


def _apart(found: Structure, tracks: Tracks) -> Float[np.ndarray, "keypoints 3"]:
    """The mean shape with its pairs at least as wide apart as pictures show them: a robust fit has them too close."""
    shape = found.shape.copy()
    for left, right in tracks.pairs:
        both = (tracks.weight[:, left] > 0) & (tracks.weight[:, right] > 0)
        if both.any():
            across = np.abs(tracks.points[both, left, 0] - tracks.points[both, right, 0]) / found.scales[both]
            half = max(float(np.quantile(across, APART)) / 2, float(abs(shape[left, 0])))
            shape[left, 0], shape[right, 0] = -half, half
    return shape
