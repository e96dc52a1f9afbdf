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
    """The tables."""
    from rich.console import Console

    screen = Console()
    if not screen.is_terminal:
        screen = Console(width=120)  # a file or a pipe has no width of its own

    def number(value: float | None, digits: int = 3) -> str:
        return "out of memory" if value is None else f"{value:.{digits}g}" if abs(value) < 1000 else f"{value:,.0f}"

    def difference(row: dict[str, Any]) -> str:
        value = row["max_vertex_difference"]
        both = row["plain_s"] is not None and row["ours_s"] is not None
        return "one is empty" if value is None and both else number(value)

    def ratio(first: float | None, second: float | None) -> str:
        return "" if not first or not second or not math.isfinite(first / second) else f"{first / second:.1f}x"

    def table(title: str, *columns: str) -> Table:
        made = Table(title=title, title_justify="left")
        for column in columns:
            made.add_column(column, justify="right")
        return made

    settings = found["settings"]
    size = f"batch {settings['batch']}, {settings['rays']} rays, {settings['points']} points"
    made = table(
        f"Training step ({size})", "stage", "plain s", "ours s", "", "plain CPU s", "ours CPU s", "plain GB", "ours GB"
    )
    for stage in (1, 2):
        row = found[f"stage{stage}_step"]
        values = [row[f"{side}_{name}"] for name in ("s", "cpu_s", "peak_gb") for side in SIDES]
        shown = [number(value) for value in values]
        made.add_row(str(stage), *shown[:2], ratio(*values[:2]), *shown[2:])
    screen.print(made)
    for key, what in (
        ("reconstruct", "networks of the published size"),
        ("reconstruct_chair", f"shipped chair model, mean of {settings['samples']} sample pictures"),
    ):
        made = table(
            f"Picture to mesh ({what})",
            "resolution",
            "plain s",
            "ours s",
            "",
            "dense evaluations",
            "evaluations",
            "",
            "vertices differ by",
        )
        for resolution, row in found[key].items():
            made.add_row(
                resolution, number(row["plain_s"]), number(row["ours_s"]), ratio(row["plain_s"], row["ours_s"]),
                number(row["dense_evaluations"]), number(row["evaluations"]),
                ratio(row["dense_evaluations"], row["evaluations"]), difference(row),
            )  # fmt: skip
        screen.print(made)
    row = found["finest"]
    screen.print(
        f"Shipped chair model at {row['resolution']} cubed, ours alone: {number(row['s'])} s, {number(row['peak_gb'])} GB, "
        f"{number(row['evaluations'])} evaluations {ratio(row['dense_evaluations'], row['evaluations'])}"
    )
    row = found["bulk"]
    rates = [row[f"{side}_images_per_second"] for side in SIDES]
    screen.print(
        f"In bulk at {row['resolution']} cubed: plain {number(rates[0])}, ours {number(rates[1])} pictures a second"
    )
    made = table("Growth of seconds (slope in log-log)", "with", "plain", "ours")
    for axis, row in found["growth"].items():
        slopes = [row[f"{side}_slope"] for side in SIDES]
        made.add_row(f"{axis} {row['values'][0]} to {row['values'][-1]}", *(number(slope) for slope in slopes))
    screen.print(made)
