"""The commands under `tars3d bench`: figures that the documentation reports. `cli` registers them."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from tars3d.errors import UserError

Device = Literal["auto", "cpu", "cuda"]


def bench_speed(
    json: Path | None = None,
    quick: bool = False,
    chart: Path = Path("speed.svg"),
    threads: int | None = None,
    seed: int = 0,
    device: Device = "auto",
) -> None:
    """Time the plain transcription of the published system and this one side by side: training steps and meshes.

    Args:
        json: file for the figures.
        quick: small settings, about a minute on two cores; without it, the published ones, more than ten minutes.
        chart: SVG of how seconds grow with rays, points, batch and resolution, log-log.
        threads: CPU threads of both sides; default is one per core.
        seed: of weights and samples, the same on both sides.
        device: where both run.
    """
    from tars3d.bench.speed import bench_speed as run

    run(json, chart, quick=quick, device=device, threads=threads, seed=seed)


def bench_correspondence(
    model: tuple[str, ...] = (),
    objects: int = 30,
    data: Path | None = None,
    feature_weight: float | None = None,
    sweep: bool = False,
    resolution: int = 64,
    points: int = 4000,
    json: Path | None = None,
    seed: int = 7,
    device: Device = "auto",
) -> None:
    """Part labels and keypoints carried between reconstructions of procedural objects, against trivial baselines.

    Args:
        model: CATEGORY=MODEL for chair, car or airplane; default are the shipped models.
        objects: of each category; all ordered pairs of them are measured.
        data: folder where the rendered objects are kept or found; default is a temporary one.
        feature_weight: canonical units that a unit of point feature counts for.
        sweep: compare weights of the point features instead of methods (use a seed of its own).
        resolution: cells of the search grid along each axis.
        points: vertices of a target that are asked.
        json: file for the figures.
        seed: of objects and pictures; 0 made objects that the shipped chair was trained on.
        device: where the models run.
    """
    from tars3d.bench.correspondence import run_correspondence_bench
    from tars3d.correspondence import FEATURE_WEIGHT

    models: dict[str, str] = {}
    for item in model:
        category, _, name = item.partition("=")
        if category not in ("chair", "car", "airplane") or not name:
            raise UserError(f"--model {item}: give CATEGORY=MODEL, e.g. car=runs/car")
        models[category] = name
    run_correspondence_bench(
        models, objects=objects, data=data, sweep=sweep, resolution=resolution, points=points, seed=seed, json_file=json,
        feature_weight=FEATURE_WEIGHT if feature_weight is None else feature_weight, device=device,
    )  # fmt: skip


BENCH_COMMANDS: dict[str, Callable] = {"speed": bench_speed, "correspondence": bench_correspondence}
