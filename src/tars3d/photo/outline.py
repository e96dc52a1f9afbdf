"""The shape bent to its pictures: a correction of its sdf on a grid, by which its silhouettes become the masks, found together with the cameras.

A mask shows where a back is open, which rungs there are and how many feet a base has; a code of some hundred numbers keeps little of that.
`reconstruct` calls `fit_outline` once the cameras are found (`photo.camera`); networks and code stay as they are (those `photo.refine` moves).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.ndimage import distance_transform_edt, gaussian_filter
from torch import Tensor
from torch.nn.functional import interpolate, softplus

from tars3d.geometry.antialiasing import mask_coverage
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
    prior: float = 0.7
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
    blur: float = 0.5
    """Standard deviation of the Gaussian that softens the mask, pixels, after the steps of its outline were smoothed: a silhouette is as soft."""
    background: float = 0.5
    """Weight of the pixels that do not show the object, beside those that do. At 1 thin parts are carved away for every bit that a single camera is off."""
    deepest: float = 6.0
    """Optical depth beyond which background rays do not pull any more: what is thick there is no error of an outline."""
    refresh: int = 10
    """Steps after which the rays are sampled anew, at other places."""


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


@dataclass(frozen=True, eq=False)
class SeenOutline:
    """What a picture shows of an object's outline, as the model saw the picture.

    Attributes:
        camera: of that picture, or one close by.
        mask: the object in it.
        seen: pixels of which the mask says whether the object is there; None: all.
    """

    camera: CenteredCamera
    mask: Bool[np.ndarray, "size size"]
    seen: Bool[np.ndarray, "size size"] | None = None


@dataclass(frozen=True, eq=False)
class Outlined:
    """What `fit_outline` found: the shape with its correction, and the cameras under which it has the pictures' outlines."""

    shape: CorrectedShape
    cameras: list[CenteredCamera]


@torch.no_grad()
def fit_outline(
    shape: Shape,
    outlines: Sequence[SeenOutline],
    bound: float,
    *,
    mirrored: bool = False,
    seed: int = 0,
    device: torch.device | str = "cpu",
    settings: OutlineSettings | None = None,
    level: Float[Tensor, "corners corners corners"] | None = None,
) -> Outlined:
    """Bend a shape (a batch of one) so that cameras, which move a little, too, see the masks of its pictures.

    Light that passes a point is dimmed by softplus(-sdf / softness) there, so a ray's optical depth is the sum along it; what arrives is compared with
    the mask by cross entropy. Unlike the one deepest point of a ray, the sum carves all of what stands in the way, in few steps. What several
    pictures ask for adds up, against one prior.

    Args:
        outlines: of one picture of the object, or of several.
        bound: half side of the search cube, world units.
        mirrored: the object mirrors at x = 0, so the correction does.
        seed: of the places along the rays.
        level: the shape's sdf as `on_grid` gives it, for fits that share it; None: found here.
    """
    settings = settings or OutlineSettings()
    if level is None:
        level = on_grid(shape, settings.cells, bound, settings.reach, torch.device(device))
    views = [_View(outline, settings, level.device) for outline in outlines]
    generator = torch.Generator().manual_seed(seed)
    rows = gaussian(len(level), settings.smoothing).to(device)
    raw = torch.zeros_like(level, requires_grad=True)
    shape_steps = Adam(raw, settings.learning_rate)
    camera_steps = [Adam(view.moved, settings.camera_learning_rate) for view in views]

    def correction() -> Float[Tensor, "corners corners corners"]:
        return smoothed((raw + raw.flip(2)) / 2 if mirrored else raw, rows)

    prior = 0.0
    for step in range(settings.steps):
        if step % settings.refresh == 0:
            bent = level + correction()
            for view in views:
                view.sample(bent, bound, generator)
            if not any(len(view.ray) for view in views):  # nothing of the shape is in view
                break
        with torch.enable_grad():
            added = correction()
            bent = level + added
            depths = [view.optical_depths(bent, bound) for view in views]
            if step == 0:
                mismatch = sum(_mismatch(depth, view.target) for depth, view in zip(depths, views, strict=True))
                prior = settings.prior * max(1.0, settings.mismatch / max(mismatch / len(views), 0.01))
            loss = prior * (added / settings.typical).square().mean()
            for view, depth in zip(views, depths, strict=True):
                covered = -torch.log(-torch.expm1(-depth.clamp_min(1e-4)))
                cleared = settings.background * depth.clamp_max(settings.deepest)
                loss = loss + (view.target * covered + (1 - view.target) * cleared).mean()
                loss = loss + settings.camera_prior * view.moved.square().sum()
            by_shape, *by_cameras = torch.autograd.grad(loss, [raw, *(view.moved for view in views)])
        shape_steps.take(by_shape)
        for steps, by_camera in zip(camera_steps, by_cameras, strict=True):
            steps.take(by_camera)
    return Outlined(CorrectedShape(shape, correction(), bound), [view.camera() for view in views])


def _mismatch(optical_depth: Float[Tensor, "rays"], target: Float[Tensor, "rays"]) -> float:
    """1 - IoU of the silhouette and the mask."""
    covered, wanted = optical_depth > HALF_DARK, target > 0.5
    return 1 - float((covered & wanted).sum() / (covered | wanted).sum().clamp_min(1))


class _View:
    """An outline under a fit: the step that its camera has taken, and places along its rays.

    Attributes:
        target: how much of each pixel's light the object stops, 0 to 1.
        moved: the step of the camera, in `CAMERA_UNITS`.
        ray, depth: places inside the cube, and inside or near the surface: the number of the ray, and the depth.
    """

    def __init__(self, outline: SeenOutline, settings: OutlineSettings, device: torch.device):
        mask = outline.mask
        seen = np.ones_like(mask) if outline.seen is None else outline.seen
        pixels = torch.from_numpy(np.argwhere(seen)[:, ::-1].copy()).to(device)
        self.target = torch.from_numpy(softened(mask, seen, settings.blur)[seen]).to(device)
        self.moved = torch.zeros(len(CAMERA_UNITS), device=device, requires_grad=True)
        self._start = outline.camera
        self._rays = _Rays(outline.camera, pixels + 0.5, len(mask))
        self._settings = settings

    def sample(self, level: Float[Tensor, "corners corners corners"], bound: float, generator: torch.Generator) -> None:
        """Take places along the rays anew, jittered."""
        rays, device, samples = len(self.target), level.device, self._settings.samples
        ray = torch.arange(rays, device=device).repeat_interleave(samples)
        jitter = torch.rand(rays, samples, generator=generator).to(device)
        depth = (HALF * (2 * (torch.arange(samples, device=device) + jitter) / samples - 1)).reshape(-1)
        points = self._rays.at(ray, depth, self.moved)
        near = (points.abs() < bound).all(dim=1) & (trilinear(level, points, bound) < self._settings.reach)
        self.ray, self.depth = ray[near], depth[near]

    def optical_depths(self, level: Float[Tensor, "corners corners corners"], bound: float) -> Float[Tensor, "rays"]:
        """How much the shape dims each ray; differentiable by the shape and the camera's step."""
        sdf = trilinear(level, self._rays.at(self.ray, self.depth, self.moved), bound)
        dimmed = softplus(-sdf / self._settings.softness)
        return torch.zeros_like(self.target).index_add(0, self.ray, dimmed)

    def camera(self) -> CenteredCamera:
        """The camera after its step."""
        return self._start.moved((self.moved * self._rays.units).detach().double().cpu().numpy())


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


def softened(
    mask: Bool[np.ndarray, "size size"], seen: Bool[np.ndarray, "size size"], blur: float
) -> Float[np.ndarray, "size size"]:
    """How much of each pixel the object covers, 0 to 1, blurred by a Gaussian of `blur` pixels.

    The steps of a mask would become ridges along the line of sight, and knots in legs. What is not seen goes on as the nearest pixel that is.
    """
    if not seen.all():
        rows, columns = np.asarray(distance_transform_edt(~seen, return_distances=False, return_indices=True))
        mask = mask[rows, columns]
    return gaussian_filter(mask_coverage(mask), blur)


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
