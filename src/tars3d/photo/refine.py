"""`--refine STEPS`: the shape code moved so that the field's silhouette becomes that of the picture.

`fitting` calls it between two fits of the camera, `evaluate.predictors` with an annotated one. The networks stay as they are.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tars3d.geometry.camera import Cameras
from tars3d.geometry.distance_transform import distance_transform
from tars3d.geometry.rays import cube_chord
from tars3d.methods.base import Shape
from tars3d.methods.inference import InferenceModel


@dataclass(frozen=True)
class RefineSettings:
    """How a code is fitted."""

    rays: int = 256
    """Pixels asked at a step, half of them in a band along the outline."""
    samples: int = 24
    """Places along a ray where its deepest point is looked for."""
    softness: float = 0.02
    """World units: how near a surface a ray must pass to count as half covered."""
    learning_rate: float = 0.03
    """Of Adam, in units of the typical distance of a code's entries from the mean code."""
    prior: float = 0.3
    """Weight of the squared change of the code, in the same units, beside the cross entropy of the silhouette."""
    band: float = 0.06
    """Half width of the band along the outline, picture sides."""


def refine_code(
    model: InferenceModel,
    code: Float[Tensor, "1 code"],
    cameras: Cameras,
    mask: Bool[np.ndarray, "size size"],
    steps: int,
    *,
    seen: Bool[np.ndarray, "size size"] | None = None,
    settings: RefineSettings | None = None,
    seed: int = 0,
    spread: float | None = None,
    advance: Callable[[int], None] | None = None,
) -> Float[Tensor, "1 code"]:
    """The code after `steps` steps of `refinement`; `advance` is called after each with its number."""
    walk = refinement(model, code, cameras, mask, seen=seen, settings=settings, seed=seed, spread=spread)
    for step in range(steps):
        code = next(walk)
        if advance is not None:
            advance(step + 1)
    return code


def refinement(
    model: InferenceModel,
    code: Float[Tensor, "1 code"],
    cameras: Cameras,
    mask: Bool[np.ndarray, "size size"],
    *,
    seen: Bool[np.ndarray, "size size"] | None = None,
    settings: RefineSettings | None = None,
    seed: int = 0,
    spread: float | None = None,
) -> Iterator[Float[Tensor, "1 code"]]:
    """The code after each step, without end, of Adam on a soft silhouette and a prior that keeps it near where it was.

    A ray's coverage is a sigmoid of the smallest sdf along it, found without gradient on jittered samples; the gradient flows
    through the field at that one point (the envelope theorem: the place of a minimum adds nothing to first order).

    Args:
        code: as the encoder gave it.
        cameras: a batch of one, of the framed picture.
        mask: of the framed picture.
        seen: pixels of which the mask says whether the object is there; None: all.
        spread: unit of the code's change; default is the typical distance of its entries from the mean code.
    """
    settings = settings or RefineSettings()
    rng = np.random.default_rng(seed)
    generator = torch.Generator().manual_seed(seed)
    inside = torch.from_numpy(mask.ravel()).to(code.device)
    asked = np.flatnonzero(np.ones(mask.shape, bool) if seen is None else seen)
    near = np.intersect1d(pixels_near_outline(mask, settings.band), asked)
    near = near if len(near) else asked  # the object fills the picture
    spread = spread or spread_of(model, code)
    change = torch.zeros_like(code, requires_grad=True)  # in units of `spread`
    optimizer = torch.optim.Adam([change], lr=settings.learning_rate)
    half = settings.rays // 2
    while True:
        chosen = np.concatenate([rng.choice(asked, settings.rays - half), rng.choice(near, half)])
        index = torch.from_numpy(chosen).to(code.device)
        pixels = torch.stack([index % mask.shape[1], index // mask.shape[1]], dim=-1) + 0.5
        with torch.enable_grad():
            shape = model.shape(code + spread * change)
            deepest, hits = deepest_points(shape, cameras, pixels, model.config.bound, settings.samples, generator)
            logits = -shape.sdf(deepest[:, hits])[0] / settings.softness
            loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, inside[index][hits].float())
            loss = loss + settings.prior * change.square().mean()
            (change.grad,) = torch.autograd.grad(loss, change)  # nothing stays in the networks' own gradients
        optimizer.step()
        yield (code + spread * change).detach()


def spread_of(model: InferenceModel, code: Float[Tensor, "1 code"]) -> float:
    """The typical distance of a code's entries from the mean code's."""
    return max(float((code - model.mean_code).square().mean().sqrt()), 1e-6)


@torch.no_grad()
def deepest_points(
    shape: Shape,
    cameras: Cameras,
    pixels: Float[Tensor, "rays 2"],
    bound: float,
    samples: int,
    generator: torch.Generator,
) -> tuple[Float[Tensor, "1 rays 3"], Bool[Tensor, "rays"]]:
    """Where along each ray the sdf is smallest inside the cube [-bound, bound]³, and which rays meet the cube."""
    origins, directions = (part[0] for part in cameras.rays(pixels[None]))
    enter, leave = cube_chord(origins, directions, bound)
    hits = leave > enter.clamp_min(0)
    jitter = torch.rand(len(pixels), samples, generator=generator).to(pixels.device)
    share = (torch.arange(samples, device=pixels.device) + jitter) / samples
    depth = enter[:, None] + share * (leave - enter)[:, None]
    points = origins[:, None] + depth[..., None] * directions[:, None]
    sdf = shape.sdf(points[hits].reshape(1, -1, 3)).reshape(-1, samples)
    best = torch.zeros(len(pixels), dtype=torch.long, device=pixels.device)
    best[hits] = sdf.argmin(dim=1)
    return points[torch.arange(len(points), device=pixels.device), best][None], hits


def pixels_near_outline(mask: Bool[np.ndarray, "size size"], band: float) -> np.ndarray:
    """Flat indices of the pixels at most `band` picture sides from the mask's outline."""
    return np.flatnonzero(distance_transform(mask).ravel() + 0.5 <= max(band * max(mask.shape), 1.5))
