"""The published training step and reconstruction, plainly: everything at once, double backward, bisection with its graph, a dense grid.

Our own straightforward code for paper §3.4 and docs/paper-vs-code.md, C5 and C6. `jobs` times it beside the product,
and tests hold the product's losses and gradients against it.
"""

from collections.abc import Callable

import numpy as np
import torch
from skimage.measure import marching_cubes
from torch import Tensor

from tars3d.bench.published import Size, State, at_points, march, matrices, resnet18
from tars3d.config import LossWeights, ModelConfig
from tars3d.convert import published_name
from tars3d.data.ray_batches import RayBatch
from tars3d.methods.tars import TARS
from tars3d.training.stages import ReconstructStage

MARGIN = 0.01
FIXED = ("running_mean", "running_var", "num_batches_tracked")


def size_of(config: ModelConfig) -> Size:
    """The published code's settings of a configuration."""
    return Size(
        config.code_width,
        config.hidden,
        config.generator_depth,
        config.deform_depth,
        config.width,
        config.feature_octaves,
    )


def state_of(method: TARS) -> State:
    """A copy of a method's weights under the published names, ready to be trained."""
    state = {
        published_name(name, "tars"): value.detach().clone()
        for name, value in method.state_dict().items()
        if name != "octave_weights"
    }
    for name, value in state.items():
        value.requires_grad_(not name.endswith(FIXED))
    return state


def networks_of(state: State, stage: int) -> State:
    """The weights that a stage has."""
    absent = ("deformnet.", "meannet_latent") if stage == 1 else ()
    return {name: value for name, value in state.items() if not name.startswith(absent)}


def step_losses(
    state: State,
    size: Size,
    batch: RayBatch,
    depths: Tensor,
    points: Tensor,
    *,
    stage: int,
    start: Tensor,
    march_steps: int,
    weights: LossWeights,
) -> dict[str, Tensor]:
    """The loss terms before their weights.

    Args:
        depths: of the silhouette samples, [batch, rays, samples].
        points: of the derivative terms, [batch, points, 3].
        start: depth at which rays start, [batch, rays].
        weights: terms of weight 0 are left out.
    """
    code = resnet18(state, batch.images, training=True)
    switched = len(code) // 2 if stage == 2 else 0
    made = matrices(networks_of(state, stage), code)

    def query(x: Tensor):
        return at_points(state, size, made, x, stage=stage, switched=switched)

    marched = march(state, query, batch.origins, batch.directions, start, march_steps)
    inside, weight = batch.foreground, 1 / (batch.distance + 1e-8)
    last = marched.levels[..., -1]
    terms = {
        "render": (query(marched.point).rgb - batch.rgb).square().mean(),
        "intersection": _mean(torch.relu(last + MARGIN), weight, inside)
        + _mean(torch.relu(MARGIN - last), weight, ~inside),
        "free_space": torch.relu(MARGIN - marched.levels[..., :-1]).mean(),
    }

    x = batch.origins[:, :, None] + depths[..., None] * batch.directions[:, :, None]
    level = query(x.flatten(1, 2)).level.view_as(depths)
    ray = torch.cat([batch.plane, torch.ones_like(batch.plane[..., :1])], dim=-1)
    pushed = batch.plane + batch.distance[..., None] * batch.plane / batch.plane.norm(dim=-1, keepdim=True)
    pushed = torch.cat([pushed, torch.ones_like(pushed[..., :1])], dim=-1)
    away = (ray - pushed * (ray * pushed).sum(-1, keepdim=True) / (pushed * pushed).sum(-1, keepdim=True)).norm(dim=-1)
    bound = torch.where(batch.perspective[..., None], depths * away[..., None], batch.distance[..., None])
    shortfall = torch.relu(bound - level)
    terms["silhouette"] = _mean(shortfall, weight[..., None].expand_as(level), ~inside[..., None].expand_as(level))

    points = points.detach().requires_grad_(True)
    found = query(points)

    def gradient(values: Tensor) -> Tensor:
        return torch.autograd.grad(values, points, torch.ones_like(values), create_graph=True)[0]

    if weights.eikonal:
        terms["eikonal"] = (gradient(found.level).norm(dim=-1) - 1).square().mean()
    if weights.deformation:
        moved = found.canonical - points
        rows = torch.stack([gradient(moved[..., i]) for i in range(3)], dim=-2)
        terms["deformation"] = rows.square().sum(-1).mean()
    return terms


def drawn_losses(runner: ReconstructStage, state: State, number: int, step: int) -> dict[str, Tensor]:
    """`step_losses` of step `step`, with the pictures, rays and points that the runner of stage `number` draws for it."""
    stage, training = runner.stage, runner.training
    generator = runner.generator(step)
    batch = runner.sampler.draw(step)
    uniform = torch.rand(*batch.distance.shape, training.silhouette_samples, generator=generator)
    offset = (training.near + (training.far - training.near) * uniform).to(runner.device)
    return step_losses(
        state, size_of(runner.method.config), batch, batch.object_depth[..., None] + offset, runner.cube(generator),
        stage=number, start=batch.object_depth + training.near, march_steps=stage.march_steps, weights=stage.losses,
    )  # fmt: skip


@torch.no_grad()
def dense_mesh(
    field: Callable[[Tensor], Tensor], bound: float, resolution: int, device: torch.device
) -> tuple[np.ndarray, int]:
    """Vertices of the zero surface in [-bound, bound]³ and the number of evaluations: every sample of the grid, plane by plane.

    Args:
        field: points [1, n, 3] to sdf [1, n].
    """
    ticks = torch.linspace(-bound, bound, resolution + 1, dtype=torch.float64)
    y, z = (axis.flatten() for axis in torch.meshgrid(ticks, ticks, indexing="ij"))
    planes = []
    for x in ticks:
        points = torch.stack([x.expand_as(y), y, z], dim=-1).float().to(device)
        planes.append(field(points[None])[0].cpu())
    volume = torch.stack(planes).view(len(ticks), len(ticks), len(ticks)).numpy()
    if not volume.min() < 0 < volume.max():
        return np.zeros((0, 3)), volume.size
    vertices = marching_cubes(volume, 0.0, gradient_direction="descent")[0]
    return vertices.astype(np.float64) / resolution * 2 * bound - bound, volume.size


def _mean(values: Tensor, weights: Tensor, selected: Tensor) -> Tensor:
    if not selected.any():
        return values.sum() * 0
    return (weights * values)[selected].sum() / weights[selected].sum()
