"""A table's results as text in the paper's layout, as JSON, as a picture of the meshes and as bars. Called by `bench.tables`."""

import contextlib
import json
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tars3d.atomic import atomic_path
from tars3d.bench.paper_tables import TITLES
from tars3d.bench.table_options import TableOptions
from tars3d.charts import bar_chart
from tars3d.evaluate.tables import figure
from tars3d.sheets import contact_sheet, write_picture

TILE = 160
SHOWN = 6
"""Test objects in the picture."""
CORRESPONDENCES = {"sdf-srn": "no", "softras": "template", "cmr": "template"}
"""What a system gives; the implicit ones with a deformation give dense ones."""


def write_results(
    table: str,
    columns: Sequence[str],
    results: Sequence[Mapping[str, Any]],
    options: TableOptions,
    *,
    minutes: float | None,
    notes: Sequence[str],
) -> dict:
    """Print the table and write TABLE.txt, .json, .png and .svg into the folder of the options."""
    heading = [TITLES[table], *scale_sentences(results, minutes)]
    text = "\n".join(
        [
            *heading,
            "",
            layout(columns, results),
            "",
            *_protocol(results[0]),
            f"Machine: {machine(options.threads)}",
            *(f"note: {n}" for n in notes),
        ]
    )
    found = {
        "table": table, "title": TITLES[table], "scale": heading[1:], "budget_minutes": options.budget, "preset": options.preset,
        "row_minutes": minutes, "seed": options.seed, "machine": machine(options.threads), "rows": list(results), "notes": list(notes),
    }  # fmt: skip
    out = options.out
    with atomic_path(out / f"{table}.json") as temporary:
        temporary.write_text(json.dumps(found, indent=1))
    with atomic_path(out / f"{table}.txt") as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")
    with atomic_path(out / f"{table}.svg") as temporary:
        temporary.write_text(bars(TITLES[table], results), encoding="utf-8")
    write_picture(out / f"{table}.png", meshes(results))
    print(text)
    for suffix in ("txt", "json", "png", "svg"):
        print(out / f"{table}.{suffix}")
    return found


def machine(threads: int | None) -> str:
    """The processor, its cores, and how many threads trained."""
    name = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
        name = models[0].split(":", 1)[1].strip() if models else name
    cores = os.cpu_count() or 1
    return f"{name}, {cores} cores, {threads or cores} thread(s), {platform.system()}"


def scale_sentences(results: Sequence[Mapping[str, Any]], minutes: float | None) -> list[str]:
    """How far the rows' training went, said above the table wherever it is less than the preset's."""
    shares = [sum(row["steps"].values()) / max(sum(row["full_steps"].values()), 1) for row in results]
    tested = " and ".join(str(n) for n in sorted({row["measured"]["count"] for row in results}))
    said = [f"Measured on {tested} objects of each category that no row was trained on, one picture of each, one seed."]
    if min(shares) < 1:
        said.insert(
            0,
            f"SMALL SCALE: {minutes:.4g} minutes of training a row, {100 * min(shares):.2g} to {100 * max(shares):.2g} % of the steps of "
            "the preset. Rows may be compared with each other, with care; beside the paper's they only show how far such training gets.",
        )
    return said


def layout(columns: Sequence[str], results: Sequence[Mapping[str, Any]]) -> str:
    """The rows in aligned columns: each figure with the paper's in brackets, and below it the published evaluator's where it was asked for."""
    head = ["", "", "pictures", "steps", "minutes", "corresp.", *columns]
    lines, category = [head], None
    for row in results:
        name = row["category"] if row["category"] != category else ""
        category = row["category"]
        gives = CORRESPONDENCES.get(row["method"], "dense")
        steps = str(sum(row["steps"].values()))
        figures = [_pair(column, row["measured"], row["paper"]) for column in columns]
        seconds = row.get("training_seconds")
        minutes = "-" if seconds is None else f"{seconds / 60:.1f}"
        lines.append([name, row["label"], f"{row['pictures']}", steps, minutes, gives, *figures])
        if row["as_published"]:
            lines.append(
                ["", "  as published", "", "", "", "", *(_pair(c, row["as_published"], None) for c in columns)]
            )
        if row["measured"]["empty"]:
            lines.append(["", f"  {row['measured']['empty']} without a surface", *[""] * (len(head) - 2)])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    written = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    ]
    written.insert(1, "-" * max(map(len, written)))
    return "\n".join([*written, "", "In brackets: the paper's figure, where it prints one."])


def _pair(column: str, ours: Mapping, paper: Mapping | None) -> str:
    mine, theirs = figure(ours, column), None if paper is None else figure(paper, column)
    return (mine or "-") + ("" if theirs is None else f" ({theirs})")


def _protocol(row: Mapping[str, Any]) -> list[str]:
    said = "; ".join(f"{k.replace('_', ' ')}: {v}" for k, v in row["measured"]["protocol"].items() if v is not None)
    return [f"Protocol: {said}"]


def bars(title: str, results: Sequence[Mapping[str, Any]]) -> str:
    """Chamfer distances of all rows, the paper's beside them, as SVG."""
    groups = []
    for row in results:
        values = {"measured": row["measured"]["chamfer_x10"]["overall"]}
        if row["as_published"]:
            values["as published"] = row["as_published"]["chamfer_x10"]["overall"]
        if row["paper"] is not None:
            values["paper"] = row["paper"]["chamfer_x10"]["overall"]
        size = f", {row['objects']} objects" if len({r["objects"] for r in results}) > 1 else ""
        groups.append((f"{row['category']}, {row['label']}{size}", values))
    return bar_chart(f"{title.split('.')[0]}: Chamfer distance x10, lower is better", groups)


def meshes(results: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """Test objects in rows: the picture, then each system's mesh, all from one side. Categories stand below each other."""
    blocks = []
    for category in dict.fromkeys(row["category"] for row in results):
        mine = [row for row in results if row["category"] == category]
        strips = [np.asarray(Image.open(Path(row["folder"]) / "views.png")) for row in mine]
        sizes = len({row["objects"] for row in mine}) > 1
        labels = [row["label"] + (f", {row['objects']}" if sizes else "") for row in mine]
        count = min(SHOWN, *(len(strip) // TILE for strip in strips))
        rows = []
        for n in range(count):
            cut = [strip[n * TILE : (n + 1) * TILE] for strip in strips]
            rows.append([cut[0][:, :TILE], *(strip[:, 2 * TILE : 3 * TILE] for strip in cut)])
        blocks.append(contact_sheet(rows, tile=TILE, header=[f"{category}: picture", *labels]))
    width = max(block.shape[1] for block in blocks)
    return np.concatenate([np.pad(b, ((0, 0), (0, width - b.shape[1]), (0, 0)), constant_values=255) for b in blocks])
