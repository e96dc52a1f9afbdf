"""The commands under `tars3d bench`: figures that the documentation reports. `cli` registers them."""

from collections.abc import Callable
from pathlib import Path

import tyro

from tars3d.arguments import Device
from tars3d.bench.exam import Exam
from tars3d.bench.table_options import TableOptions
from tars3d.errors import UserError
from tars3d.rules import PARTS

Options = tyro.conf.OmitArgPrefixes[TableOptions]
Objects = tyro.conf.OmitArgPrefixes[Exam]


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
        quick: small settings, about a minute on two cores; without it, the published ones, eight or nine minutes on two quiet cores.
        chart: SVG of how seconds grow with rays, points, batch and resolution, log-log.
        threads: CPU threads of both sides; default is one per core.
        seed: of weights and samples, the same on both sides.
        device: where both run.
    """
    from tars3d.bench.speed import bench_speed as run

    run(json, chart, quick=quick, device=device, threads=threads, seed=seed)


def bench_correspondence(
    exam: Objects,
    model: tuple[str, ...] = (),
    feature_weight: float | None = None,
    normal_weight: float | None = None,
    height_weight: float | None = None,
    sweep: bool = False,
    json: Path | None = None,
    device: Device = "auto",
) -> None:
    """Part labels and keypoints carried between reconstructions of procedural objects, against trivial baselines.

    Args:
        model: CATEGORY=MODEL for chair, car or airplane; default are the shipped models.
        feature_weight: canonical units that a unit of point feature counts for.
        normal_weight: canonical units that a unit of surface normal counts for.
        height_weight: canonical units that a unit of levelled height counts for.
        sweep: compare weights of the point features, normals and heights instead of methods (use a seed of its own).
        json: file for the figures.
        device: where the models run.
    """
    from tars3d.bench.correspondence import run_correspondence_bench

    models: dict[str, str] = {}
    for item in model:
        category, _, name = item.partition("=")
        if category not in ("chair", "car", "airplane") or not name:
            raise UserError(f"--model {item}: give CATEGORY=MODEL, e.g. car=runs/car")
        models[category] = name
    rule = PARTS.changed(feature_weight=feature_weight, normal_weight=normal_weight, height_weight=height_weight)
    run_correspondence_bench(models, exam, rule=rule, sweep=sweep, json_file=json, device=device)


def bench_table1(table: Options) -> None:
    """SoftRas, SDF-SRN and TARS on cars, chairs and airplanes, trained and measured here, beside the paper's Table 1."""
    from tars3d.bench.tables import run_table

    run_table("table1", table)


def bench_table2(table: Options) -> None:
    """TARS without and with point features, orthographic cameras and ICP, beside the paper's Table 2.

    Perspective cameras are replaced by the nearest orthographic ones, as the paper takes Pascal3D+'s photos.
    """
    from tars3d.bench.tables import run_table

    run_table("table2", table)


def bench_table3(table: Options, sizes: tuple[int, ...] = (500, 1000, 2000)) -> None:
    """SDF-SRN and TARS by the number of training objects, one picture of each, beside the paper's Table 3.

    Args:
        sizes: numbers of training objects.
    """
    from tars3d.bench.tables import run_table

    run_table("table3", table, sizes=sizes)


def bench_table4(table: Options) -> None:
    """SDF-SRN, DIT, DIF and TARS on chairs, beside the paper's Table 4."""
    from tars3d.bench.tables import run_table

    run_table("table4", table)


def bench_figure8(table: Options, k: tuple[int, ...] = (0, 1, 2, 4, 8)) -> None:
    """TARS by the number of its point features, in the setting of Table 2: the paper's Figure 8, with figures.

    Args:
        k: dimensions of the point features.
    """
    from tars3d.bench.tables import run_table

    run_table("figure8", table, k=k)


BENCH_COMMANDS: dict[str, Callable] = {
    "speed": bench_speed,
    "correspondence": bench_correspondence,
    "table1": bench_table1,
    "table2": bench_table2,
    "table3": bench_table3,
    "table4": bench_table4,
    "figure8": bench_figure8,
}
