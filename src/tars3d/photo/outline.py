"""The shape bent to its picture: a correction of its sdf on a grid, by which its silhouette becomes the mask, found together with the camera.

A mask shows where a back is open, which rungs there are and how many feet a base has; a code of some hundred numbers keeps little of that.
`reconstruct` calls `fit_outline` once the camera is found (`photo.camera`); networks and code stay as they are (those `photo.refine` moves).
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torch.nn.functional import interpolate, softplus

from tars3d.geometry.silhouette_fit import NEAREST, CenteredCamera
from tars3d.methods.base import Shape
from tars3d.methods.corrected import CorrectedShape, trilinear
from tars3d.methods.surface import at_points


@dataclass(frozen=True)
class OutlineSettings:
    """How the correction is found."""

    cells: int = 64
    """Of the correction's grid, along an axis of the search cube; even."""
    steps: int = 30
    """Of Adam."""
    samples: int = 64
    """Places along each pixel's ray."""
    softness: float = 0.006
    """World units: what an sdf of this much inside, or outside, leaves of the light. Less is sharper, and slower to move."""
    reach: float = 0.08
    """World units: farther outside the surface nothing is asked, so parts grow only from what is near them."""
    smoothing: float = 1.0
    """Standard deviation of the Gaussian that smooths the correction, in cells."""
    prior: float = 1.0
    """Weight of the mean square of the correction, in units of `typical`, beside the silhouette's cross entropy; see `mismatch`."""
    mismatch: float = 0.3
    """1 - IoU of the silhouette and the mask at first, at which the prior weighs that much; where they fit better, it weighs in proportion
    more: what is left to mend is then no more than what mask and camera are off."""
    typical: float = 0.02
    """World units: see `prior`."""
    camera_prior: float = 1e-3
    """Weight of the squared steps of the camera, in `CAMERA_UNITS`."""
    learning_rate: float = 0.02
    """World units of the correction before smoothing."""
    camera_learning_rate: float = 0.1
    """In `CAMERA_UNITS`."""
    blur: float = 0.6
    """Standard deviation of the Gaussian that softens the mask, pixels: its steps would become ridges along the line of sight."""
    deepest: float = 6.0
    """Optical depth beyond which background rays do not pull any more: what is thick there is no error of an outline."""
    refresh: int = 10
    """Steps after which the rays are sampled anew, at other places."""


LEFT_AS_PREDICTED = frozenset({"airplane"})
"""Categories whose shapes are nearer the truth as predicted (docs/photo.md): a camera some degrees off puts the tips of long wings elsewhere."""
CAMERA_UNITS = (0.087, 0.087, 0.087, 0.03, 2 / 128, 2 / 128, 0.05)
"""What a step of 1 is: radians of turn about the camera's axes, logarithm of scale, place (picture sides), inverse depth (1 / world units)."""
HALF_DARK = math.log(2)
"""Optical depth that lets half of the light pass."""
HALF = 0.87
"""World units: half the diagonal of the unit cube, how far from an object's centre its surface can be."""


class Adam:
    """Steps down a gradient (Kingma and Ba, ICLR 2015), as `torch.optim.Adam` takes them; making one of those imports PyTorch's compiler, a
    second at the start of every command."""

    def __init__(self, values: Tensor, learning_rate: float, betas: tuple[float, float] = (0.8, 0.99)):
        self.values, self.learning_rate, self.betas = values, learning_rate, betas
        self.mean, self.square = torch.zeros_like(values), torch.zeros_like(values)
        self.taken = 0

    def take(self, gradient: Tensor) -> None:
        """One step, in place."""
        self.taken += 1
        (first, second), values = self.betas, self.values.detach()
        self.mean.lerp_(gradient, 1 - first)
        self.square.mul_(second).addcmul_(gradient, gradient, value=1 - second)
        spread = (self.square.sqrt() / math.sqrt(1 - second**self.taken)).add_(1e-8)
        values.addcdiv_(self.mean, spread, value=-self.learning_rate / (1 - first**self.taken))


@dataclass(frozen=True)
class Outlined:
    """What `fit_outline` found: the shape with its correction, and the camera under which it has the picture's outline."""

    shape: CorrectedShape
    camera: CenteredCamera


@torch.no_grad()
def fit_outline(
    shape: Shape,
    camera: CenteredCamera,
    mask: Bool[np.ndarray, "size size"],
    bound: float,
    *,
    seen: Bool[np.ndarray, "size size"] | None = None,
    mirrored: bool = False,
    seed: int = 0,
    device: torch.device | str = "cpu",
    settings: OutlineSettings | None = None,
) -> Outlined:
    """Bend a shape (a batch of one) so that a camera, which moves a little, too, sees the mask.

    Light that passes a point is dimmed by softplus(-sdf / softness) there, so a ray's optical depth is the sum along it; what arrives is compared with
    the mask by cross entropy. Unlike the one deepest point of a ray, the sum carves all of what stands in the way, in few steps.

    Args:
        camera: of the picture as the model saw it.
        mask: the object in that picture.
        bound: half side of the search cube, world units.
        seen: pixels of which the mask says whether the object is there; None: all.
        mirrored: the object mirrors at x = 0, so the correction does.
        seed: of the places along the rays.
    """
    settings = settings or OutlineSettings()
    level = on_grid(shape, settings.cells, bound, settings.reach, torch.device(device))
    seen = np.ones_like(mask) if seen is None else seen
    pixels = torch.from_numpy(np.argwhere(seen)[:, ::-1].copy()).to(device)
    target = torch.from_numpy(softened(mask, seen, settings.blur)[seen]).to(device)
    rays = _Rays(camera, pixels + 0.5, len(mask))
    generator = torch.Generator().manual_seed(seed)
    rows = gaussian(len(level), settings.smoothing).to(device)
    raw = torch.zeros_like(level, requires_grad=True)
    moved = torch.zeros(len(CAMERA_UNITS), device=level.device, requires_grad=True)
    shape_steps, camera_steps = Adam(raw, settings.learning_rate), Adam(moved, settings.camera_learning_rate)

    prior = 0.0

    def correction() -> Float[Tensor, "corners corners corners"]:
        return smoothed((raw + raw.flip(2)) / 2 if mirrored else raw, rows)

    for step in range(settings.steps):
        if step % settings.refresh == 0:
            ray, depth = _near(rays, moved, level + correction(), bound, settings, generator)
            if not len(ray):  # nothing of the shape is in view
                break
        with torch.enable_grad():
            added = correction()
            sdf = trilinear(level + added, rays.at(ray, depth, moved), bound)
            dimmed = softplus(-sdf / settings.softness)
            optical_depth = torch.zeros_like(target).index_add(0, ray, dimmed)
            if step == 0:
                prior = settings.prior * max(1.0, settings.mismatch / max(_mismatch(optical_depth, target), 0.01))
            covered = -torch.log(-torch.expm1(-optical_depth.clamp_min(1e-4)))
            loss = (target * covered + (1 - target) * optical_depth.clamp_max(settings.deepest)).mean()
            loss = loss + prior * (added / settings.typical).square().mean()
            loss = loss + settings.camera_prior * moved.square().sum()
            by_shape, by_camera = torch.autograd.grad(loss, [raw, moved])
        shape_steps.take(by_shape)
        camera_steps.take(by_camera)
    step_taken = (moved * rays.units).double().cpu().numpy()
    return Outlined(CorrectedShape(shape, correction(), bound), camera.moved(step_taken))


def _mismatch(optical_depth: Float[Tensor, "rays"], target: Float[Tensor, "rays"]) -> float:
    """1 - IoU of the silhouette and the mask."""
    covered, wanted = optical_depth > HALF_DARK, target > 0.5
    return 1 - float((covered & wanted).sum() / (covered | wanted).sum().clamp_min(1))


class _Rays:
    """Points on the rays of a picture's pixels, as functions of a small step of its camera, see `CenteredCamera.moved`."""

    def __init__(self, camera: CenteredCamera, pixels: Float[Tensor, "rays 2"], size: int):
        self.pixels = pixels
        self.units = pixels.new_tensor(CAMERA_UNITS)
        self.units[4:6] *= size
        self._turn = pixels.new_tensor(camera.rotation)
        self._center = pixels.new_tensor(camera.center)
        self._scale, self._inverse_depth = camera.scale, camera.inverse_depth

    def at(
        self, ray: Int[Tensor, "points"], depth: Float[Tensor, "points"], moved: Float[Tensor, "7"]
    ) -> Float[Tensor, "points 3"]:
        """Object-frame points at depths from the object's centre (world units, away from the camera), `moved` in `CAMERA_UNITS`."""
        step = moved * self.units
        spread = (1 + depth * (self._inverse_depth + step[6]).clamp(0, NEAREST)) / (self._scale * step[3].exp())
        plane = (self.pixels[ray] - self._center - step[4:6]) * spread[:, None]
        return torch.cat([plane, depth[:, None]], dim=1) @ (_rotation(step[:3]) @ self._turn)


def _rotation(vector: Float[Tensor, "3"]) -> Float[Tensor, "3 3"]:
    """Of a rotation vector, radians."""
    x, y, z = vector
    none = torch.zeros_like(x)
    return torch.matrix_exp(torch.stack([none, -z, y, z, none, -x, -y, x, none]).reshape(3, 3))


def _near(
    rays: _Rays,
    moved: Float[Tensor, "7"],
    level: Float[Tensor, "corners corners corners"],
    bound: float,
    settings: OutlineSettings,
    generator: torch.Generator,
) -> tuple[Int[Tensor, "points"], Float[Tensor, "points"]]:
    """Places on rays inside the cube and inside or near the surface, jittered: the number of the ray, and the depth."""
    device = level.device
    ray = torch.arange(len(rays.pixels), device=device).repeat_interleave(settings.samples)
    jitter = torch.rand(len(rays.pixels), settings.samples, generator=generator).to(device)
    depth = (HALF * (2 * (torch.arange(settings.samples, device=device) + jitter) / settings.samples - 1)).reshape(-1)
    points = rays.at(ray, depth, moved)
    near = (points.abs() < bound).all(dim=1) & (trilinear(level, points, bound) < settings.reach)
    return ray[near], depth[near]


def softened(
    mask: Bool[np.ndarray, "size size"], seen: Bool[np.ndarray, "size size"], blur: float
) -> Float[np.ndarray, "size size"]:
    """A mask blurred by a Gaussian of `blur` pixels, among the pixels that are seen; from 0 to 1."""
    known = gaussian_filter(seen.astype(np.float32), blur)
    return gaussian_filter((mask & seen).astype(np.float32), blur) / np.maximum(known, 1e-6)


def on_grid(
    shape: Shape, cells: int, bound: float, reach: float, device: torch.device
) -> Float[Tensor, "corners corners corners"]:
    """The sdf of a shape (a batch of one) at the corners of the cells of [-bound, bound]³, by z, y, x.

    Asked at every second corner first, and at all others that may be within `reach` of the surface by those; the rest is interpolated.
    """
    coarse = _asked(shape, _corners(cells // 2, bound, device)).reshape(3 * (cells // 2 + 1,))
    level = interpolate(coarse[None, None], size=3 * (cells + 1,), mode="trilinear", align_corners=True)[0, 0]
    near = level.abs() < 8 * bound / cells + reach
    level[near] = _asked(shape, _corners(cells, bound, device)[near.reshape(-1)])
    return level


def _asked(shape: Shape, points: Float[Tensor, "points 3"]) -> Float[Tensor, "points"]:
    return torch.from_numpy(at_points(shape.sdf, points.cpu().numpy(), points.device)).to(points.device)


def _corners(cells: int, bound: float, device: torch.device) -> Float[Tensor, "points 3"]:
    """Corners of the cells of [-bound, bound]³, x fastest."""
    along = torch.linspace(-bound, bound, cells + 1, device=device)
    return torch.cartesian_prod(along, along, along).flip(1)


def gaussian(corners: int, deviation: float) -> Float[Tensor, "corners corners"]:
    """The matrix that smooths a row of values by a Gaussian, in steps of the row, cut at 2.5 standard deviations; beyond the ends everything is 0."""
    place = torch.arange(corners)
    apart = (place[:, None] - place).abs()
    weights = torch.where(apart <= 2.5 * deviation, torch.exp(-0.5 * (apart / deviation) ** 2), 0.0)
    return weights / weights[corners // 2].sum()


def smoothed(values: Float[Tensor, "z y x"], rows: Float[Tensor, "corners corners"]) -> Float[Tensor, "z y x"]:
    """A cube of values filtered along each axis by the matrix `rows`: much faster than convolutions of one channel."""
    for _ in range(3):  # each time the first axis, which becomes the last
        values = torch.einsum("zyx,az->yxa", values, rows)
    return values
