"""What several test modules share: a toy collection and bank, a tiny preset, an analytic shape, and the plain twins of the fields.

The twins say in loops and concatenations what docs/paper-vs-code.md, C1 to C4, says in words; `test_nn`,
`test_methods` and `test_derivatives` hold the fast paths against them.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image
from torch import Tensor

from tars3d import cli
from tars3d.config import LossWeights, ModelConfig, Preset, Stage, TrainingConfig
from tars3d.data.bank import PictureBank
from tars3d.data.collection import write_index
from tars3d.data.image_record import ImageRecord
from tars3d.geometry.camera import Cameras, look_at_origin
from tars3d.geometry.rasterize import silhouette
from tars3d.geometry.views import render_view
from tars3d.methods.base import Samples, Shape
from tars3d.methods.tars import TARS

DISTANCE = 2.732


def toy_camera(view: int, size: int, model: str = "perspective") -> tuple[np.ndarray, np.ndarray]:
    """Intrinsics and extrinsics of a camera that sees the whole unit cube; every `view` from another side."""
    focal = 1.5 * size if model == "perspective" else 0.55 * size
    intrinsics = np.array([[focal, 0.0, size / 2], [0.0, focal, size / 2], [0.0, 0.0, 1.0]])
    return intrinsics, look_at_origin(50.0 * view + 20.0, 25.0 - 7.0 * view, DISTANCE)


def toy_mesh(number: int) -> trimesh.Trimesh:
    """Balls and bricks of different sizes, the longest side at most 1."""
    if number % 2:
        mesh = trimesh.creation.box(extents=(0.5 + 0.1 * (number % 3), 0.4, 0.3 + 0.1 * (number % 4)))
    else:
        mesh = trimesh.creation.icosphere(subdivisions=3, radius=0.25 + 0.04 * (number % 5))
    color = [60 + 37 * number % 190, 200 - 23 * number % 190, 90, 255]
    mesh.visual = trimesh.visual.ColorVisuals(mesh, vertex_colors=np.tile(color, (len(mesh.vertices), 1)))
    return mesh


def write_toy_collection(
    root: Path,
    *,
    objects: int = 4,
    views: int = 2,
    size: int = 32,
    model: str = "perspective",
    splits: dict[str, list[str]] | None = None,
    truth: bool = True,
) -> Path:
    """A collection of balls and bricks `toy0`, `toy1`, ... as RGBA pictures `toy0_0`, ... with cameras and ground truth."""
    entries = {}
    (root / "images").mkdir(parents=True, exist_ok=True)
    (root / "ground_truth").mkdir(exist_ok=True)
    for number in range(objects):
        mesh = toy_mesh(number)
        for view in range(views):
            camera = toy_camera(view, size, model)
            args = (*camera, model == "perspective", size, size)
            mask = silhouette(mesh, *args)
            rgb = render_view(mesh, *args, supersample=1)
            file = root / "images" / f"toy{number}_{view}.png"
            Image.fromarray(np.dstack([rgb, 255 * mask.astype(np.uint8)])).save(file)
            record = ImageRecord(file.stem, file, None, f"toy{number}", model, *camera)
            entries[file.stem] = record.to_json(root)
        if truth:
            points, face = trimesh.sample.sample_surface(mesh, 1000, seed=number)[:2]
            arrays = {"points": points.astype(np.float32), "normals": mesh.face_normals[face].astype(np.float32)}
            np.savez(root / "ground_truth" / f"toy{number}.npz", **arrays)
    write_index(root, "toy", entries, splits)
    return root


def coded_bank(
    objects: int = 3, views: int = 3, size: int = 16, model: str = "perspective", seed: int = 0
) -> PictureBank:
    """A bank in memory whose pictures name themselves: red is the column, green the row, blue the picture's number."""
    count = objects * views
    rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    rgb = torch.stack([torch.stack([columns, rows, torch.full_like(rows, i)], dim=-1) for i in range(count)])
    generator = torch.Generator().manual_seed(seed)
    centre = size / 2 + 2 * torch.rand(count, 2, generator=generator)
    grid = torch.stack([columns, rows], dim=-1) + 0.5
    radius = (grid[None] - centre[:, None, None]).norm(dim=-1)
    edge = size / 4
    cameras = [toy_camera(i, size, model) for i in range(count)]
    return PictureBank(
        rgb=rgb.to(torch.uint8),
        mask=radius < edge,
        distance=(radius - edge).abs(),
        cameras=Cameras(
            torch.from_numpy(np.stack([k for k, _ in cameras])).float(),
            torch.from_numpy(np.stack([rt for _, rt in cameras])).float(),
            torch.full((count,), model == "perspective"),
        ),
        instance=torch.arange(objects).repeat_interleave(views),
        instances=tuple(f"object{i}" for i in range(objects)),
        names=tuple(f"picture{i}" for i in range(count)),
    )


def close(found: Tensor, expected: Tensor, tolerance: float = 1e-9) -> None:
    """Equal to rounding in float64, unless told otherwise."""
    torch.testing.assert_close(found, expected, atol=tolerance, rtol=tolerance)


def tiny_model(**changes) -> ModelConfig:
    """Networks of a few thousand weights, with every part that the presets have."""
    config = ModelConfig(
        picture_size=32, encoder_input=32, framing="bbox", padding=1.2, encoder_widths=(8, 8, 16, 16),
        encoder_depths=(1, 1, 1, 1), encoder_hub_id=None, code_width=8, width=16, hidden=16, generator_depth=1,
        deform_depth=1, octaves=4, point_features=2, feature_octaves=1, near_constant=True, camera_hidden=8, bound=0.6,
    )  # fmt: skip
    return replace(config, **changes)


def tiny_preset(**changes) -> Preset:
    """A curriculum of a few steps with every kind of stage and every loss term; `changes` are of its TrainingConfig."""
    losses = LossWeights(
        eikonal=0.1, symmetry=0.5, carving=0.5, filling=0.1, thin_filling=0.2, color=0.2, camera=0.1, curvature=0.003
    )
    reconstruct = Stage(
        name="stage 1", kind="reconstruct", steps=3, losses=losses, march_steps=3, batch=4, views=2, rays=24,
        boundary_rays=0.5, points=12, point_range=0.6, surface_points=0.5, hull_points=8,
        learning_rate=1e-3, cosine=True, anneal=0.5,
    )  # fmt: skip
    without_rays = replace(losses, render=0.0, silhouette=0.0, intersection=0.0, free_space=0.0)
    small = {"batch": 2, "points": 128, "point_range": 0.7, "learning_rate": 1e-2}
    stages = (
        Stage(name="sphere", kind="sphere", steps=2, radius=0.4, **small),
        replace(reconstruct, name="hull", rays=0, steps=2, losses=without_rays),
        reconstruct,
        Stage(name="canonical code", kind="canonical_code"),
        Stage(name="sphere deformation", kind="sphere_deformation", steps=2, radius=0.4, **small),
        Stage(
            name="deformation",
            kind="distill_deformation",
            steps=2,
            losses=LossWeights(deformation=0.05, template_normal=0.1),
            **small,
        ),
        replace(
            reconstruct,
            name="stage 2",
            deformed=True,
            anneal=0.0,
            losses=replace(losses, deformation=0.05, template_normal=0.1),
        ),
        Stage(name="color", kind="color", deformed=True, steps=2, batch=4, rays=0, hull_points=8, learning_rate=1e-3),
        Stage(name="camera", kind="camera", deformed=True, steps=2, batch=2, recalled=3, rays=0, learning_rate=1e-3),
    )
    training = TrainingConfig(
        stages=stages, near=-0.8, far=0.8, silhouette_samples=2, bisection_steps=3, derivatives="differences",
        flip=True, color_jitter=(0.2, 0.2, 0.2, 0.1), crop_jitter=0.05, validate_every=0, validate_instances=2,
        validate_resolution=16,
    )  # fmt: skip
    return Preset(tiny_model(palette=2), replace(training, **changes))


def tiny_method(seed: int = 0, **changes) -> TARS:
    """Untrained tiny networks with a canonical code that is not zero; float64, for comparisons."""
    torch.manual_seed(seed)
    method = TARS(tiny_model(**changes)).double().eval()
    with torch.no_grad():
        method.canonical_code.normal_()
    return method


@dataclass(frozen=True)
class AnalyticShape(Shape):
    """A batch of shapes given by formulas; it stands in for networks where the truth must be known."""

    distance: Callable[[Tensor], Tensor]
    displacement: Callable[[Tensor], Tensor] | None = None
    batch: int = 1

    @property
    def batch_size(self) -> int:
        return self.batch

    def sample(self, points: Tensor) -> Samples:
        moved = None if self.displacement is None else self.displacement(points)
        return Samples(self.distance(points), points, moved)

    def color(self, points: Tensor) -> Tensor:
        return (points + 0.5).clamp(0, 1)

    def canonical(self, points: Tensor) -> Tensor:
        return points if self.displacement is None else points + self.displacement(points)

    def features(self, points: Tensor) -> Tensor:
        return points[..., :0]


def box(half: tuple[float, float, float]) -> AnalyticShape:
    """An axis-parallel box around the origin."""

    def distance(points: Tensor) -> Tensor:
        beyond = points.abs() - points.new_tensor(half)
        return beyond.clamp_min(0).norm(dim=-1) + beyond.amax(dim=-1).clamp_max(0)

    return AnalyticShape(distance)


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line of a command that fails: exit code 1, a file or option named, no traceback."""
    with pytest.raises(SystemExit) as stop:
        cli.main([str(argument) for argument in arguments])
    assert stop.value.code == 1
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err + captured.out
    errors = [line for line in captured.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, captured.err
    assert captured.err.rstrip().endswith(errors[0]), "the message has more than one line"
    assert any(cure in errors[0] for cure in (";", "?", "choose", "give")), f"no cure in: {errors[0]}"
    return errors[0]


def plain_encoding(values: Tensor, octaves: int, decay: float = 1.0) -> Tensor:
    """γ, one value at a time; octave l is multiplied by decay^l."""
    columns = []
    for i in range(values.shape[-1]):
        columns += [decay**octave * torch.sin(2**octave * math.pi * values[..., i]) for octave in range(octaves)]
        columns += [decay**octave * torch.cos(2**octave * math.pi * values[..., i]) for octave in range(octaves)]
    return torch.stack(columns, dim=-1)


def plain_point(points: Tensor, octaves: int, decay: float = 1.0) -> Tensor:
    """E(x): the encoding, then the point."""
    return torch.cat([plain_encoding(points, octaves, decay), points], dim=-1)


def plain_norm(values: Tensor) -> Tensor:
    """LayerNorm without affine weights, then ReLU."""
    centred = values - values.mean(-1, keepdim=True)
    return torch.relu(centred / torch.sqrt(centred.square().mean(-1, keepdim=True) + 1e-5))


def plain_trunk(layers: list[Tensor], encoded: Tensor, extra: Tensor | None = None) -> Tensor:
    """One object's trunk with concatenated inputs; layers are [1 + fan in, width], the bias first."""
    hidden = None
    for layer in layers:
        if hidden is None:
            inputs = encoded if extra is None else torch.cat([extra, encoded], dim=-1)
        else:
            inputs = torch.cat([hidden, encoded], dim=-1)
        hidden = plain_norm(layer[0] + inputs @ layer[1:])
    assert hidden is not None
    return hidden


def plain_layers(hyper: torch.nn.Module, code: Tensor) -> tuple[list[Tensor], dict[str, Tensor]]:
    """The trunk's and the heads' matrices that a HyperField makes of one code, by running each of its MLPs by hand."""

    def made(layer) -> Tensor:
        values = code
        linears = [module for module in layer.mlp if isinstance(module, torch.nn.Linear)]
        for number, linear in enumerate(linears):
            values = linear.weight @ values + linear.bias
            if number < len(linears) - 1:
                values = torch.relu(values)
        return values.reshape(layer.fan_in + 1, layer.fan_out)

    return [made(layer) for layer in hyper.trunk], {name: made(head) for name, head in hyper.heads.items()}


def plain_head(layer: Tensor, values: Tensor) -> Tensor:
    return layer[0] + values @ layer[1:]


@dataclass(frozen=True)
class PlainPoint:
    """What the plain twin of TARS says of points [n, 3] of one object."""

    sdf: Tensor
    rgb: Tensor
    canonical: Tensor
    features: Tensor
    steering: Tensor


def plain_tars(
    method: TARS, code: Tensor, points: Tensor, *, deformed: bool, unconditioned: bool = False
) -> PlainPoint:
    """TARS for one object (docs/paper-vs-code.md, C1 to C3); `unconditioned`: φ is u's though there is a DeformNet."""
    config = method.config

    def encode(x: Tensor) -> Tensor:
        return plain_point(x, config.octaves, config.octave_decay)

    trunk, heads = plain_layers(method.generator, method.canonical_code if deformed else code)
    canonical, features = points, method.generator.unconditioned(encode(points))
    steering = rgb = None
    if deformed:
        deform_trunk, deform_heads = plain_layers(method.deform_net, code)
        steering = plain_trunk(deform_trunk, encode(points))
        canonical = points + plain_head(deform_heads["deformation"], steering)
        features = method.generator.unconditioned(encode(canonical))
        if not unconditioned:
            features = plain_head(deform_heads["features"], steering)
        rgb = plain_head(deform_heads["rgb"], steering)
    lifted = plain_trunk(trunk, encode(canonical), plain_encoding(features, config.feature_octaves))
    rgb = plain_head(heads["rgb"], lifted) if rgb is None else rgb
    return PlainPoint(
        plain_head(heads["level"], lifted)[..., 0],
        (torch.tanh(rgb) + 1) / 2,
        canonical,
        features,
        lifted if steering is None else steering,
    )


def flat_grid(rows: int, columns: int, spacing: float = 0.1) -> trimesh.Trimesh:
    """A flat rectangle of triangles from the origin along X and Y, vertex by vertex in rows of equal x; it faces up Z."""
    x, y = np.meshgrid(np.arange(rows) * spacing, np.arange(columns) * spacing, indexing="ij")
    corner = (np.arange(rows - 1)[:, None] * columns + np.arange(columns - 1)).ravel()
    faces = np.concatenate(
        [
            np.stack([corner, corner + columns, corner + columns + 1], 1),
            np.stack([corner, corner + columns + 1, corner + 1], 1),
        ]
    )
    return trimesh.Trimesh(np.stack([x.ravel(), y.ravel(), np.zeros(rows * columns)], axis=1), faces, process=False)
