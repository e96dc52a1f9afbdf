"""`tars3d bench speed`: the plain transcription of the published system and the product, side by side in one run.

Prints tables, draws how each grows, and writes the figures as JSON. The measurements themselves are in `jobs`.
"""

import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from tars3d.arguments import check_threads, choose_device
from tars3d.atomic import atomic_path
from tars3d.bench.speed_output import SIDES, draw, show
from tars3d.config import ModelConfig, to_dict
from tars3d.errors import UserError, says_out_of_memory
from tars3d.presets import preset
from tars3d.progress import progress_bar, remark

Job = Callable[[dict[str, Any]], Any]


@dataclass(frozen=True)
class Plan:
    """What is measured.

    Attributes:
        model: the networks of the steps and of `reconstruct`.
        batch, rays, points: of the step that is reported.
        base: of the step from which growth is measured.
        growth: values along each axis.
        resolutions: of the meshes.
        samples: of the package's pictures that the shipped model turns into these meshes.
        finest: of one more mesh, which only the product makes, for its memory.
        pictures: in bulk, at `bulk_resolution`.
        repeats: counted steps.
    """

    model: ModelConfig = field(default_factory=lambda: preset("paper-shapenet").model)
    batch: int = 16
    rays: int = 1024
    points: int = 10_000
    base: tuple[int, int, int] = (4, 256, 1000)
    growth: tuple[tuple[str, tuple[int, ...]], ...] = (
        ("rays", (128, 256, 512, 1024)),
        ("points", (500, 1000, 2000, 4000, 8000)),
        ("batch", (2, 4, 8, 16)),
    )
    resolutions: tuple[int, ...] = (64, 128, 256)
    samples: int = 3
    finest: int = 512
    pictures: int = 16
    bulk_resolution: int = 64
    repeats: int = 1


REPEATS_ON_GPU = 10
"""A step there is so short that a single one measures noise."""
FULL = Plan()
QUICK = replace(
    FULL,
    batch=2,
    rays=128,
    points=1000,
    base=(2, 64, 250),
    growth=(("rays", (64, 256)), ("points", (250, 1000)), ("batch", (1, 4))),
    resolutions=(32, 64),
    samples=1,
    finest=128,
    pictures=2,
)


def run_speed(
    plan: Plan,
    *,
    device: str,
    threads: int | None,
    out: Path | None,
    chart: Path,
    seed: int = 0,
    job: Job | None = None,
) -> dict:
    """Measure, print and write; returns what the JSON file holds.

    Args:
        out: the JSON file; it holds what there is after each measurement, so that little is lost where the rest is stopped.
        chart: the drawing of growth, SVG.
        seed: of weights and samples.
        job: runs a specification of `jobs`; by default in a process of its own.

    Raises:
        UserError: a measurement failed.
    """
    threads = check_threads(threads)
    for path in (out, chart):
        if path is not None and not path.absolute().parent.is_dir():
            raise UserError(f"{path}: its folder does not exist; make it, or choose another place")
    job = job or in_process
    common = {"device": device, "threads": threads, "seed": seed}
    found: dict[str, Any] = {"machine": machine(device, threads), "settings": to_dict(replace(plan))}
    with tempfile.TemporaryDirectory() as folder, progress_bar() as bar:
        task = bar.add_task("measuring", total=2 * (2 + 2 + 1 + 1) + 1)

        def both(kind: str, **options) -> dict[str, Any]:
            sides = {}
            for side in SIDES:
                bar.update(task, description=f"{kind}, {side}")
                sides[side] = job({"kind": kind, "side": side, **options, **common})
                bar.advance(task)
            return sides

        def keep(key: str, values: dict[str, Any]) -> None:
            found[key] = values
            if out is not None:
                with atomic_path(out) as temporary:
                    temporary.write_text(json.dumps(found, indent=1) + "\n")

        model = to_dict(plan.model)
        for stage in (1, 2):
            case = {"stage": stage, "batch": plan.batch, "rays": plan.rays, "points": plan.points}
            sides = both("steps", model=model, cases=[case], repeats=plan.repeats)
            figures = {
                f"{side}_{name}": None if rows is None else rows[0][name]
                for side, rows in sides.items()
                for name in ("s", "cpu_s", "peak_gb")
            }
            keep(f"stage{stage}_step", figures)
        for source, key in (("published", "reconstruct"), ("chair", "reconstruct_chair")):
            sides = both(
                "meshes", source=source, model=model, resolutions=list(plan.resolutions), samples=plan.samples, folder=folder
            )  # fmt: skip
            rows = {
                str(resolution): mesh_row(sides, number, source, resolution, Path(folder))
                for number, resolution in enumerate(plan.resolutions)
            }
            keep(key, rows)
        alone = {"kind": "meshes", "side": "ours", "source": "chair", "model": model, "folder": folder, **common}
        bar.update(task, description=f"mesh at {plan.finest} cubed, ours")
        rows = job({**alone, "resolutions": [plan.finest], "samples": 1})
        bar.advance(task)
        size = {"resolution": plan.finest, "dense_evaluations": (plan.finest + 1) ** 3}
        keep("finest", size | (rows[0] if rows else dict.fromkeys(("s", "evaluations", "peak_gb"))))
        sides = both("bulk", count=plan.pictures, resolution=plan.bulk_resolution)
        rates = {f"{side}_images_per_second": row and row["images_per_second"] for side, row in sides.items()}
        keep("bulk", {"resolution": plan.bulk_resolution} | rates)
        cases = growth_cases(plan)
        sides = both("steps", model=model, cases=[case for _, _, case in cases], repeats=plan.repeats)
        keep("growth", growth(plan, cases, sides, found["reconstruct"]))
    draw(found["growth"], chart)
    show(found)
    return found


def in_process(spec: dict[str, Any]) -> Any:
    """A job in a process of its own; None where it ran out of memory.

    Raises:
        UserError: it failed otherwise.
    """
    command = [sys.executable, "-m", "tars3d.bench.jobs", json.dumps(spec)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return json.loads(done.stdout.splitlines()[-1])
    if out_of_memory(done.returncode, done.stderr):
        return None
    last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    raise UserError(f"bench speed: measuring {spec['kind']} of the {spec['side']} side failed ({last}); try --quick")


def out_of_memory(code: int, stderr: str) -> bool:
    """Whether a process that failed did so for want of memory: it says so, or the kernel killed it."""
    return code in (-signal.SIGKILL, 128 + signal.SIGKILL) or says_out_of_memory(stderr)


def machine(device: str, threads: int) -> dict[str, Any]:
    """Where the figures come from."""
    import torch

    name = platform.processor() or platform.machine()
    if device != "cpu" and torch.cuda.is_available():
        name = torch.cuda.get_device_name()
    return {
        "device": name,
        "cores": os.cpu_count(),
        "threads": threads,
        "load": os.getloadavg()[0],
        "torch": torch.__version__,
    }


def mesh_row(sides: dict[str, Any], number: int, source: str, resolution: int, folder: Path) -> dict[str, Any]:
    """One resolution of both sides, and how far apart their vertices are."""
    rows = {side: found and found[number] for side, found in sides.items()}
    row: dict[str, Any] = {f"{side}_s": found and found["s"] for side, found in rows.items()}
    row["dense_evaluations"] = (resolution + 1) ** 3
    row["evaluations"] = rows["ours"] and rows["ours"]["evaluations"]
    files = [folder / f"{side}-{source}-{resolution}.npy" for side in SIDES]
    if (own := folder / f"dense-{source}-{resolution}.npy").exists():
        files[0] = own
    row["max_vertex_difference"] = vertex_difference(*map(np.load, files)) if all(rows.values()) else None
    return row


def vertex_difference(first: np.ndarray, second: np.ndarray) -> float | None:
    """The largest distance from a vertex of one mesh to the nearest of the other, world units; None if only one is empty."""
    from scipy.spatial import KDTree

    if not len(first) or not len(second):
        return None if len(first) + len(second) else 0.0
    return float(max(KDTree(first).query(second)[0].max(), KDTree(second).query(first)[0].max()))


def growth_cases(plan: Plan) -> list[tuple[str, int, dict[str, int]]]:
    """Axis, value and case of every step of which growth is made: stage 2, one setting changed at a time."""
    names = ("batch", "rays", "points")
    base = {"stage": 2, **dict(zip(names, plan.base, strict=True))}
    return [(axis, value, base | {axis: value}) for axis, values in plan.growth for value in values]


def growth(plan: Plan, cases: Sequence[tuple[str, int, dict]], sides: dict[str, Any], meshed: dict) -> dict[str, Any]:
    """By axis the values, seconds of both sides, and the slopes in log-log: 1 is in proportion."""
    found: dict[str, Any] = {}
    for axis, values in [*plan.growth, ("resolution", plan.resolutions)]:
        row: dict[str, Any] = {"values": list(values)}
        for side, results in sides.items():
            if axis == "resolution":
                seconds = [meshed[str(value)][f"{side}_s"] for value in values]
            else:
                seconds = [
                    result["s"]
                    for (name, _, _), result in zip(cases, results or [], strict=bool(results))
                    if name == axis
                ]
            row[f"{side}_s"] = seconds
            usable = len(seconds) == len(values) > 1 and None not in seconds
            row[f"{side}_slope"] = float(np.polyfit(np.log(values), np.log(seconds), 1)[0]) if usable else None
        found[axis] = row
    return found


def bench_speed(out: Path | None, chart: Path, *, quick: bool, device: str, threads: int | None, seed: int) -> None:
    """What `cli.bench_speed` asks for."""
    plan = QUICK if quick else FULL
    if choose_device(device).type != "cpu":  # which also refuses at once
        plan = replace(plan, repeats=REPEATS_ON_GPU)
    run_speed(plan, device=device, threads=threads, out=out, chart=chart, seed=seed)
    remark(f"growth: {chart}" + (f"; figures: {out}" if out else ""))
