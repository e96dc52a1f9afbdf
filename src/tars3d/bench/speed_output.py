"""The tables of `bench speed`, and the drawing of how seconds grow. Called by `speed`."""

import math
from pathlib import Path
from typing import Any

from rich.table import Table

from tars3d.atomic import atomic_path
from tars3d.charts import log_log_chart

SIDES = ("plain", "ours")


def draw(found: dict[str, Any], path: Path) -> None:
    """The growth as one SVG, a panel for each axis."""
    panels = []
    for axis, row in found.items():
        curves = {
            f"{side}, slope {row[f'{side}_slope']:.2f}": (row["values"], row[f"{side}_s"])
            for side in SIDES
            if row[f"{side}_slope"] is not None
        }
        panels.append((f"seconds by {axis}", curves))
    with atomic_path(path) as temporary:
        temporary.write_text(log_log_chart(panels), encoding="utf-8")


def show(found: dict[str, Any]) -> None:
    """Print the tables, and the figures that need none."""
    from rich.console import Console

    screen = Console()
    if not screen.is_terminal:
        screen = Console(width=120)  # a file or a pipe has no width of its own
    screen.print(_steps(found))
    samples = found["settings"]["samples"]
    screen.print(_meshes("networks of the published size", found["reconstruct"]))
    screen.print(_meshes(f"shipped chair model, mean of {samples} sample pictures", found["reconstruct_chair"]))
    row = found["finest"]
    screen.print(
        f"Shipped chair model at {row['resolution']} cubed, ours alone: {_number(row['s'])} s, {_number(row['peak_gb'])} GB, "
        f"{_number(row['evaluations'])} evaluations {_ratio(row['dense_evaluations'], row['evaluations'])}"
    )
    row = found["bulk"]
    plain, ours = (_number(row[f"{side}_images_per_second"]) for side in SIDES)
    screen.print(f"In bulk at {row['resolution']} cubed: plain {plain}, ours {ours} pictures a second")
    screen.print(_growth(found["growth"]))


def _steps(found: dict[str, Any]) -> Table:
    settings = found["settings"]
    size = f"batch {settings['batch']}, {settings['rays']} rays, {settings['points']} points"
    columns = ("stage", "plain s", "ours s", "", "plain CPU s", "ours CPU s", "plain GB", "ours GB")
    made = _table(f"Training step ({size})", *columns)
    for stage in (1, 2):
        row = found[f"stage{stage}_step"]
        values = [row[f"{side}_{name}"] for name in ("s", "cpu_s", "peak_gb") for side in SIDES]
        shown = [_number(value) for value in values]
        made.add_row(str(stage), *shown[:2], _ratio(*values[:2]), *shown[2:])
    return made


def _meshes(what: str, rows: dict[str, Any]) -> Table:
    columns = ("resolution", "plain s", "ours s", "", "dense evaluations", "evaluations", "", "vertices differ by")
    made = _table(f"Picture to mesh ({what})", *columns)
    for resolution, row in rows.items():
        seconds = row["plain_s"], row["ours_s"]
        evaluations = row["dense_evaluations"], row["evaluations"]
        shown = [(*map(_number, pair), _ratio(*pair)) for pair in (seconds, evaluations)]
        made.add_row(resolution, *shown[0], *shown[1], _difference(row))
    return made


def _growth(found: dict[str, Any]) -> Table:
    made = _table("Growth of seconds (slope in log-log)", "with", "plain", "ours")
    for axis, row in found.items():
        slopes = [_number(row[f"{side}_slope"]) for side in SIDES]
        made.add_row(f"{axis} {row['values'][0]} to {row['values'][-1]}", *slopes)
    return made


def _table(title: str, *columns: str) -> Table:
    made = Table(title=title, title_justify="left")
    for column in columns:
        made.add_column(column, justify="right")
    return made


def _number(value: float | None) -> str:
    return "out of memory" if value is None else f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def _difference(row: dict[str, Any]) -> str:
    value = row["max_vertex_difference"]
    both = row["plain_s"] is not None and row["ours_s"] is not None
    return "one is empty" if value is None and both else _number(value)


def _ratio(first: float | None, second: float | None) -> str:
    return "" if not first or not second or not math.isfinite(first / second) else f"{first / second:.1f}x"
