"""One measurement of `bench speed`, of the plain code or of the product: `speed` runs each in a process of its own.

A process of its own, because peak memory and the allocator's setting belong to a process: the product tells it to keep
freed memory, the plain code runs as Python leaves it. `python -m tars3d.bench.jobs SPEC` prints the result as the last line, in JSON.
"""

import json
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tars3d.arguments import choose_device
from tars3d.bench import plain
from tars3d.bench.published import at_points, matrices, resnet18
from tars3d.config import ModelConfig, Stage, from_dict
from tars3d.data.bank import PictureBank
from tars3d.data.pictures import as_picture, sample_pictures
from tars3d.geometry.camera import SHAPENET_DISTANCE, SHAPENET_FOCAL, Cameras, look_at_origin, pinhole
from tars3d.geometry.distance_transform import distance_transform
from tars3d.methods.surface import surface_of
from tars3d.methods.tars import TARS
from tars3d.nn.hypernetwork import HyperLayer
from tars3d.objectives import weighted_sum
from tars3d.presets import preset
from tars3d.reconstruct import load
from tars3d.training.allocator import keep_freed_memory
from tars3d.training.stages import ReconstructStage

TRAINING = preset("paper-shapenet").training
RADIUS = 0.4
"""Of the ball that the networks which are meshed make, world units."""
ROUGHNESS = 0.35
"""Each octave's weight over the last one's in the networks that are meshed: as smooth as trained ones, which random ones are not."""


def run(spec: dict[str, Any]) -> Any:
    """The measurement that a specification asks for: see `steps`, `meshes` and `bulk`."""
    torch.manual_seed(spec.get("seed", 0))
    torch.set_num_threads(spec["threads"])
    if spec["side"] == "ours":
        keep_freed_memory()
    device = choose_device(spec["device"])
    kinds: dict[str, Callable] = {"steps": steps, "meshes": meshes, "bulk": bulk}
    options = {name: value for name, value in spec.items() if name not in ("kind", "threads", "device", "seed")}
    return kinds[spec["kind"]](device=device, **options)


def steps(
    side: str, model: dict[str, Any], cases: list[dict[str, int]], repeats: int, device: torch.device
) -> list[dict[str, float]]:
    """Training steps, each case after one that is not counted.

    Args:
        cases: number of the stage (1 or 2), codes, rays and points.

    Returns:
        For each case the median seconds, processor seconds, and the process's peak memory so far, GB.
    """
    method = TARS(from_dict(ModelConfig, model, "bench speed")).to(device).train()
    bank = pictures(max(case["batch"] for case in cases), method.config.picture_size).to(device)
    found = []
    for case in cases:
        names = ("batch", "rays", "points")
        stage = replace(reconstruction_stage(deformed=case["stage"] == 2), **{name: case[name] for name in names})
        runner = ReconstructStage(method, stage, TRAINING, bank, 0)
        take = _ours(runner) if side == "ours" else _plain(runner, case["stage"])
        seconds, processor = [], []
        for number in range(1 + repeats):
            wall, cpu = time.perf_counter(), time.process_time()
            take(number)
            if device.type == "cuda":
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - wall)
            processor.append(time.process_time() - cpu)
        medians = {"s": statistics.median(seconds[1:]), "cpu_s": statistics.median(processor[1:])}
        found.append({**medians, "peak_gb": peak_gb(device)})
    return found


def reconstruction_stage(*, deformed: bool) -> Stage:
    """The paper's stage 1, or its stage 2, in which shapes are deformed."""
    return next(stage for stage in TRAINING.stages if stage.kind == "reconstruct" and stage.deformed == deformed)


def _ours(runner: ReconstructStage) -> Callable[[int], None]:
    optimizer = torch.optim.Adam(list(runner.parameters()), lr=1e-4, fused=True)

    def take(number: int) -> None:
        losses = runner.losses(number)
        optimizer.zero_grad(set_to_none=True)
        losses.total.backward()
        optimizer.step()

    return take


def _plain(runner: ReconstructStage, number: int) -> Callable[[int], None]:
    state = plain.networks_of(plain.state_of(runner.method), number)
    optimizer = torch.optim.Adam([value for value in state.values() if value.requires_grad], lr=1e-4)

    def take(step: int) -> None:
        terms = plain.drawn_losses(runner, state, number, step)
        optimizer.zero_grad()
        weighted_sum(terms, runner.stage.losses).backward()
        optimizer.step()

    return take


def pictures(count: int, size: int) -> PictureBank:
    """Pictures of nothing in particular with round silhouettes: what a step costs does not depend on what it shows."""
    grid = np.stack(np.meshgrid(np.arange(size), np.arange(size)), axis=-1) + 0.5 - size / 2
    mask = np.linalg.norm(grid, axis=-1) < size / 3
    rgb = np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)
    rgb[:, ~mask] = 255
    intrinsics = torch.from_numpy(pinhole(SHAPENET_FOCAL * size, (size / 2, size / 2))).float()
    extrinsics = np.stack([look_at_origin(15.0 * number, 30.0, SHAPENET_DISTANCE) for number in range(count)])
    masks = torch.from_numpy(mask).expand(count, -1, -1)
    distance = torch.from_numpy(distance_transform(mask)).float().expand(count, -1, -1)
    poses, perspective = torch.from_numpy(extrinsics).float(), torch.ones(count, dtype=torch.bool)
    cameras = Cameras(intrinsics.expand(count, -1, -1), poses, perspective)
    names = tuple(str(number) for number in range(count))
    return PictureBank(torch.from_numpy(rgb), masks, distance, cameras, torch.arange(count), names, names)


def meshes(
    side: str,
    source: str,
    model: dict[str, Any],
    resolutions: list[int],
    samples: int,
    folder: str,
    device: torch.device,
) -> list[dict[str, float]]:
    """A picture to a mesh, encoder included, at each resolution; writes the vertices to FOLDER/SIDE-SOURCE-RESOLUTION.npy.

    The two sides' networks of the published size are different code: where their surface is nearly flat in value, rounding alone moves
    its vertices by 1e-4. So the product meshes them a second time, untimed, on the whole grid, and writes FOLDER/dense-...:
    what differs from that is the sparse grid's.

    Args:
        source: `published` for networks of the published size whose surface is about a ball, or the name of a model.
        samples: of the package's pictures that a model reconstructs.

    Returns:
        Seconds and field evaluations of a picture in the mean, and the process's peak memory so far, GB.
    """
    reconstruct = (
        _published_mesher(side, model, device) if source == "published" else _mesher(side, source, samples, device)
    )
    reconstruct(8)
    found = []
    for resolution in resolutions:
        wall = time.perf_counter()
        vertices, evaluations = reconstruct(resolution)
        each = (time.perf_counter() - wall) / (1 if source == "published" else samples)
        found.append({"s": each, "evaluations": evaluations, "peak_gb": peak_gb(device)})
        np.save(Path(folder) / f"{side}-{source}-{resolution}.npy", vertices)
        if side == "ours" and source == "published":
            np.save(Path(folder) / f"dense-{source}-{resolution}.npy", reconstruct(resolution, dense=True)[0])
    return found


Mesher = Callable[..., tuple[np.ndarray, int]]
"""Vertices and number of field evaluations at a resolution; `dense` evaluates the whole grid."""


def _mesher(side: str, name: str, samples: int, device: torch.device) -> Mesher:
    """A model of the product; the plain side evaluates the same field on the whole grid. Vertices of several pictures lie 10 units
    apart, so that none is near another picture's; evaluations are a picture's in the mean."""
    reconstructor = load(name, device=device.type)
    framed = _framed(reconstructor, samples)
    bound = reconstructor.model.config.bound

    def of_picture(number: int, resolution: int, dense: bool) -> tuple[np.ndarray, int]:
        shape = reconstructor.shapes(framed[number : number + 1])
        if side == "plain":
            return plain.dense_mesh(shape.sdf, bound, resolution, device)
        mesh = surface_of(shape, bound=bound, resolution=resolution, device=device, dense=dense)
        return np.asarray(mesh.mesh.vertices).reshape(-1, 3), mesh.evaluations

    def reconstruct(resolution: int, *, dense: bool = False) -> tuple[np.ndarray, int]:
        found = [of_picture(number, resolution, dense) for number in range(samples)]
        beside = [vertices + np.array([10.0 * number, 0, 0]) for number, (vertices, _) in enumerate(found)]
        return np.concatenate(beside), round(sum(count for _, count in found) / samples)

    return reconstruct


@torch.no_grad()
def _published_mesher(side: str, model: dict[str, Any], device: torch.device) -> Mesher:
    method = round_shape(from_dict(ModelConfig, model, "bench speed")).to(device)
    size, bound = method.config.picture_size, method.config.bound
    image = pictures(1, size).images(torch.tensor([0])).to(device)
    state = {name: value.detach() for name, value in plain.state_of(method).items()}

    @torch.no_grad()
    def reconstruct(resolution: int, *, dense: bool = False) -> tuple[np.ndarray, int]:
        if side == "ours":
            shape = method.shape(method.encode(image))
            mesh = surface_of(shape, bound=bound, resolution=resolution, device=device, dense=dense)
            return np.asarray(mesh.mesh.vertices), mesh.evaluations
        made = matrices(state, resnet18(state, image))

        def level(points: Tensor) -> Tensor:
            return at_points(state, plain.size_of(method.config), made, points, stage=2).level

        return plain.dense_mesh(level, bound, resolution, device)

    return reconstruct


@torch.no_grad()
def round_shape(config: ModelConfig) -> TARS:
    """Untrained networks in which f's last layer is solved for so that the surface is about a ball of radius `RADIUS`."""
    method = TARS(config).eval()
    rates = ROUGHNESS ** torch.arange(config.octaves)
    # of E(x): per coordinate sines and cosines, then the coordinates
    rows = torch.cat([rates.repeat(6), torch.ones(3)])
    for field in (method.generator, method.deform_net):
        for layer in field.trunk_layers():
            _scale_rows(layer, torch.cat([torch.ones(layer.fan_in + 1 - len(rows)), rows]))
    shrink = torch.full((config.width + 1,), 0.1)
    _scale_rows(method.deform_net.head_layer("deformation"), shrink)
    _scale_rows(method.deform_net.head_layer("features"), shrink)
    points = config.bound * (2 * torch.rand(1, 8000, 3) - 1)
    shape = method.deformed_shape(torch.zeros(1, config.whole_code_width))
    object_features = shape.deformation.features(shape.template.encode(points))
    moved = points + shape.deformation.head("deformation", object_features)
    lifted = shape.template.lifted(shape.template.encode(moved), shape.deformation.head("features", object_features))[0]
    known = torch.cat([torch.ones(len(lifted), 1), lifted], dim=1).double()
    wanted = (points[0].norm(dim=-1, keepdim=True) - RADIUS).double()
    ridge = 30 * torch.eye(known.shape[1], dtype=torch.float64)
    solution = torch.linalg.solve(known.T @ known + ridge, known.T @ wanted)
    level = method.generator.head_layer("level")
    level.start_at_zero()
    level.last.bias.copy_(solution[:, 0])
    return method


def _scale_rows(layer: HyperLayer, factors: Tensor) -> None:
    per_entry = factors[:, None].expand(-1, layer.fan_out).flatten()
    layer.last.weight.mul_(per_entry[:, None])
    layer.last.bias.mul_(per_entry)


def bulk(side: str, count: int, resolution: int, device: torch.device) -> dict[str, float]:
    """Pictures per second to meshes with the shipped model: codes in one batch, or everything one by one on the whole grid."""
    reconstructor = load("chair", device=device.type)
    framed = _framed(reconstructor, count)
    bound = reconstructor.model.config.bound

    @torch.no_grad()
    def reconstruct(pictures: np.ndarray, resolution: int) -> None:
        codes = reconstructor.codes(pictures) if side == "ours" else None
        for number in range(len(pictures)):
            own = slice(number, number + 1)
            if codes is None:
                plain.dense_mesh(reconstructor.shapes(pictures[own]).sdf, bound, resolution, device)
            else:
                surface_of(reconstructor.model.shape(codes[own]), bound=bound, resolution=resolution, device=device)

    reconstruct(framed[:1], 8)  # what a device does once is not timed
    wall = time.perf_counter()
    reconstruct(framed, resolution)
    return {"images_per_second": count / (time.perf_counter() - wall)}


def _framed(reconstructor, count: int) -> np.ndarray:
    """The package's own sample pictures, over and over, as the model sees them."""
    frames = [reconstructor.frame(as_picture(file, None)) for file in sample_pictures()[:count]]
    return np.stack([frames[number % len(frames)] for number in range(count)])


def peak_gb(device: torch.device) -> float:
    """The most memory that this process has held: on CUDA of the device, else resident memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    try:  # getrusage would report the parent's peak where the process was started from a large one
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e9
    except (OSError, IndexError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing here is fetched
    print(json.dumps(run(json.loads(sys.argv[1]))))
