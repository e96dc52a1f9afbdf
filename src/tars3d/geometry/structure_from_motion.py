"""Weak-perspective structure from motion: cameras and a mean shape from 2D keypoints of many objects of one category.

Called by `data.keypoint_cameras.estimate`. Factorisation with missing points (mirrored copies for symmetric categories) gives the first
shape; then cameras, each from many starts, and the shape are refined in turn under a robust loss, and last of all together.

A weak-perspective camera sees a point X at s (R X)_xy + t, OpenCV axes. Alone, it cannot tell a shape from its mirror image with
the depths reversed: names of left and right decide for the whole set, and for a single picture that both explain alike, the
side whose points are visible is the nearer one.
"""

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from scipy.spatial.transform import Rotation
from torch import Tensor

from tars3d.geometry.factorisation import factorise, made_symmetric, symmetrised
from tars3d.geometry.tracks import Axes, Structure, Tracks, WeakCameras, project

SHARPEST = 0.02
"""The least spread of a keypoint, box sides."""
WIDE = (8.0, 6.0, 4.5, 3.0, 2.0, 1.5)
"""Factors of the spreads in the first rounds: a shape that is still flat must not take frontal views for outliers."""
CONTRAST = 0.5
LEVEL = 0.2
"""Photos are upright and objects stand level: by how much the left-right axis usually rises or falls in the picture (of its
length). A narrow shape leaves that to noise otherwise; a banking bird pays for it once, with points that say so."""
STARTS = 40
VISIBLE_SIDE = 0.5
"""What it costs a camera to see a hidden point of a pair before the visible one, in the units of its mean robust loss."""


def solve(tracks: Tracks, axes: Axes, *, rounds: int = 12, seed: int = 0) -> Structure:
    """Cameras and mean shape in the object's axes; with pairs, the plane of symmetry is X = 0.

    Args:
        rounds: of cameras and shape in turn.
        seed: of the starting rotations.
    """
    shape = made_symmetric(factorise(tracks), tracks)
    # The factors know the shape up to a mirror image. Names tell which it is; cameras are fitted to it from all around.
    shape = shape @ axes.frame(shape)[0].T
    cameras, spread = None, np.full(len(shape), 2 * SHARPEST)
    for number in range(rounds):
        starts = STARTS if number % 3 == 0 or number == rounds - 1 else 0
        wide = WIDE[number] if number < len(WIDE) else 1.0
        cameras = fit_cameras(shape, tracks, wide * spread, cameras, starts, seed)
        shape = _fit_shape(shape, cameras, tracks, wide * spread)
        spread = _spreads(shape, cameras, tracks)
    assert cameras is not None
    found = bundle(Structure(shape, *cameras), tracks, spread)
    turn, mirrored = axes.frame(found.shape)
    if mirrored:  # the fit has turned inside out, which names cannot mean
        raise ValueError("left, front and up contradict one another")
    return replace(found, shape=found.shape @ turn.T, rotations=found.rotations @ turn.T)


def _starts(count: int, seed: int) -> Float[np.ndarray, "starts 3 3"]:
    if not count:
        return np.zeros((0, 3, 3))
    return Rotation.from_quat(np.random.default_rng([seed, count]).normal(size=(count, 4))).as_matrix()


def fit_cameras(
    shape: Float[np.ndarray, "keypoints 3"],
    tracks: Tracks,
    spread: Float[np.ndarray, " keypoints"],
    cameras: WeakCameras | None,
    starts: int,
    seed: int = 0,
) -> WeakCameras:
    """Each picture's best camera for a shape: from its present one, and from `starts` rotations all around.

    Args:
        spread: residual from which on each keypoint counts less (Cauchy loss), box sides: tips of tails and feet move, heads do not.
    """
    images = len(tracks.points)
    rotations = np.tile(_starts(starts, seed)[None], (images, 1, 1, 1))
    scales = np.full((images, starts), 1.0 / max(float(np.ptp(shape, axis=0).max()), 1e-9))
    translations = np.zeros((images, starts, 2))
    if cameras is not None:
        rotations = np.concatenate([rotations, cameras.rotations[:, None]], axis=1)
        scales = np.concatenate([scales, cameras.scales[:, None]], axis=1)
        translations = np.concatenate([translations, cameras.translations[:, None]], axis=1)
    tries = rotations.shape[1]
    target = np.repeat(tracks.points, tries, axis=0)
    weight = np.repeat(tracks.weight, tries, axis=0)
    flat = WeakCameras(rotations.reshape(-1, 3, 3), scales.reshape(-1), translations.reshape(-1, 2))
    flat = _gauss_newton(shape, flat, target, weight, spread)
    loss = _robust(shape, flat, target, weight, spread)
    loss = loss + VISIBLE_SIDE * _wrong_side(shape, flat.rotations, tracks, tries)
    best = loss.reshape(images, tries).argmin(axis=1) + tries * np.arange(images)
    return WeakCameras(*(part[best] for part in flat))


def _gauss_newton(
    shape: np.ndarray, cameras: WeakCameras, target: np.ndarray, weight: np.ndarray, spread: np.ndarray, steps: int = 25
) -> WeakCameras:
    """Damped, reweighted (Cauchy) steps on rotation, scale and translation of all cameras at once."""
    rotations, scales, translations = cameras
    count, keypoints = weight.shape
    for _ in range(steps):
        seen = shape @ rotations.transpose(0, 2, 1)
        residual = scales[:, None, None] * seen[..., :2] + translations[:, None] - target
        trust = weight / (spread**2 + (residual**2).sum(axis=-1))
        x, y, z = np.moveaxis(seen * scales[:, None, None], -1, 0)
        zero, one = np.zeros_like(x), np.ones_like(x)
        rows_u = np.stack([zero, z, -y, x, one, zero], axis=-1)
        rows_v = np.stack([-z, zero, x, y, zero, one], axis=-1)
        jacobian = np.stack([rows_u, rows_v], axis=2).reshape(count, 2 * keypoints, 6)
        weighted = jacobian * np.repeat(trust, 2, axis=1)[..., None]
        normal = weighted.transpose(0, 2, 1) @ jacobian + 1e-2 * np.eye(6)
        gradient = weighted.transpose(0, 2, 1) @ residual.reshape(count, -1, 1)
        across = rotations[:, :, 0]
        level = np.stack([-across[:, 2], *np.zeros((1, count)), across[:, 0], *np.zeros((3, count))], axis=1)
        normal += level[:, :, None] * level[:, None] / LEVEL**2
        gradient += (level * across[:, 1:2] / LEVEL**2)[..., None]
        step = -np.linalg.solve(normal, gradient)[..., 0]
        step[:, :3] *= np.minimum(1, 0.5 / np.maximum(np.linalg.norm(step[:, :3], axis=1, keepdims=True), 1e-12))
        rotations = Rotation.from_rotvec(step[:, :3]).as_matrix() @ rotations
        scales = scales * np.exp(np.clip(step[:, 3], -0.3, 0.3))
        translations = translations + step[:, 4:]
    return WeakCameras(rotations, scales, translations)


def _robust(
    shape: np.ndarray, cameras: WeakCameras, target: np.ndarray, weight: np.ndarray, spread: np.ndarray
) -> np.ndarray:
    square = ((project(shape, cameras) - target) ** 2).sum(axis=-1)
    loss = (np.log1p(square / spread**2) * weight).sum(axis=1) + (cameras.rotations[:, 1, 0] / LEVEL) ** 2
    return loss / np.maximum(weight.sum(axis=1), 1)


def _wrong_side(shape: np.ndarray, rotations: np.ndarray, tracks: Tracks, tries: int) -> np.ndarray:
    """How clearly hidden points of pairs lie before visible ones, summed over pairs, 0 to 1 each."""
    if not len(tracks.pairs):
        return np.zeros(len(rotations))
    left, right = tracks.pairs.T
    depth = shape @ rotations[:, 2].T
    ahead = (depth[left] - depth[right]).T  # positive: the right one is nearer
    side = tracks.hidden[:, right].astype(float) - tracks.hidden[:, left]  # positive: the left one is seen
    reach = np.maximum(np.abs(shape[left, 0] - shape[right, 0]), 1e-9)
    return np.clip(np.repeat(side, tries, axis=0) * ahead / reach, 0, 1).sum(axis=1)


def _spreads(shape: np.ndarray, cameras: WeakCameras, tracks: Tracks) -> Float[np.ndarray, " keypoints"]:
    """Each keypoint's median residual, the same for partners, with the contrast raised.

    What moves by itself (feet, tips of tails and wings) must not turn the camera: a step forward would be seen as a turn aside.
    """
    residual = np.linalg.norm(project(shape, cameras) - tracks.points, axis=-1)
    residual[tracks.weight == 0] = np.nan
    pooled = np.concatenate([residual, residual[:, tracks.mirror]])
    usual = np.nanmedian(residual)
    spread = np.array([np.nanmedian(column) if np.isfinite(column).any() else usual for column in pooled.T])
    spread = np.maximum(spread, SHARPEST)
    return spread * (spread / SHARPEST) ** CONTRAST


def _fit_shape(
    shape: np.ndarray, cameras: WeakCameras, tracks: Tracks, spread: np.ndarray, rounds: int = 5
) -> np.ndarray:
    """The shape that fits the points best under given cameras, reweighted; symmetric where there are pairs."""
    rotations, scales, translations = cameras
    basis = scales[:, None, None] * rotations[:, :2]
    for _ in range(rounds):
        residual = ((project(shape, cameras) - tracks.points) ** 2).sum(axis=-1)
        trust = tracks.weight / (spread**2 + residual)
        normal = np.einsum("nk,nai,naj->kij", trust, basis, basis)
        sight = np.einsum("nk,nai,nka->ki", trust, basis, tracks.points - translations[:, None])
        if len(tracks.pairs):  # a point's mirrored equations are its partner's
            flip = np.array([-1.0, 1, 1])
            normal = normal + flip[:, None] * normal[tracks.mirror] * flip
            sight = sight + flip * sight[tracks.mirror]
        shape = np.linalg.solve(normal + 1e-6 * np.eye(3), sight[..., None])[..., 0]
    return symmetrised(shape, tracks) if len(tracks.pairs) else shape


def bundle(found: Structure, tracks: Tracks, spread: Float[np.ndarray, " keypoints"], rounds: int = 30) -> Structure:
    """Bundle adjustment: all cameras and the shape together under the robust loss (L-BFGS on its exact gradient)."""

    def tensor(values: np.ndarray) -> Tensor:
        return torch.tensor(values, dtype=torch.float64)

    base, target, weight = tensor(found.rotations), tensor(tracks.points), tensor(tracks.weight)
    width, mirror = tensor(spread), torch.as_tensor(tracks.mirror)
    flip = torch.tensor([-1.0, 1, 1], dtype=torch.float64)
    turn = torch.zeros(len(base), 3, dtype=torch.float64, requires_grad=True)
    log_scale = tensor(np.log(found.scales)).requires_grad_()
    move = tensor(found.translations).requires_grad_()
    free = tensor(found.shape).requires_grad_()
    symmetric = bool(len(tracks.pairs))

    def current() -> tuple[Tensor, Tensor]:
        shape = (free + free[mirror] * flip) / 2 if symmetric else free
        return turns(turn) @ base, shape

    optimizer = torch.optim.LBFGS([turn, log_scale, move, free], max_iter=rounds * 5, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        rotations, shape = current()
        seen = log_scale.exp()[:, None, None] * (shape @ rotations[:, :2].transpose(1, 2)) + move[:, None]
        square = (seen - target).square().sum(-1) / width**2
        loss = (torch.log1p(square) * weight).sum() + (rotations[:, 1, 0] / LEVEL).square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    with torch.no_grad():
        rotations, shape = current()
    adjusted = shape.numpy()
    return replace(
        found, shape=adjusted, rotations=rotations.numpy(), scales=log_scale.exp().detach().numpy(),
        translations=move.detach().numpy(),
    )  # fmt: skip


def turns(vectors: Float[Tensor, "images 3"]) -> Float[Tensor, "images 3 3"]:
    """Rotations by vectors along the axes, as long as the angles (radians), with gradients at zero too."""
    zero = torch.zeros_like(vectors[:, 0])
    x, y, z = vectors.unbind(dim=1)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=1).unflatten(1, (3, 3))
    return torch.linalg.matrix_exp(cross)
