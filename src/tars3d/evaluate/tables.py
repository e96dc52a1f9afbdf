"""Summaries of `metrics.summarise` as text tables, and the paper's own rows to set beside them.

Called by `tars3d evaluate` and by the tables of `tars3d bench`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

Row = tuple[str, Mapping]

_COLUMNS = (
    ("Acc↓", ("chamfer_x10", "accuracy"), ".3f"),
    ("Cov↓", ("chamfer_x10", "coverage"), ".3f"),
    ("CD↓", ("chamfer_x10", "overall"), ".3f"),
    ("EMD↓", ("emd_x10",), ".3f"),
    ("P↑", ("precision",), ".2f"),
    ("R↑", ("recall",), ".2f"),
    ("F↑", ("fscore",), ".2f"),
    ("IoU↑", ("mask_iou",), ".3f"),
    ("IoU, camera found↑", ("camera_found", "mask_iou"), ".3f"),
    ("NC↑", ("normal_consistency",), ".3f"),
    ("n", ("count",), "d"),
    ("empty", ("empty",), "d"),
)


def _published(accuracy: float, coverage: float, overall: float, emd: float | None = None, *shares: float) -> Mapping:
    precision, recall, fscore = shares or (None, None, None)
    return {
        "chamfer_x10": {"accuracy": accuracy, "coverage": coverage, "overall": overall},
        "emd_x10": emd,
        "precision": precision,
        "recall": recall,
        "fscore": fscore,
    }


PAPER_TABLE_1: Mapping[str, Mapping[str, Mapping]] = {
    "car": {
        "SoftRas": _published(0.372, 0.302, 0.337, 0.723, 93.04, 96.62, 94.80),
        "SDF-SRN": _published(0.141, 0.144, 0.142, 0.452, 99.76, 99.84, 99.80),
        "TARS": _published(0.141, 0.140, 0.140, 0.446, 99.70, 99.81, 99.75),
    },
    "chair": {
        "SoftRas": _published(0.572, 0.475, 0.523, 1.017, 82.56, 89.18, 85.74),
        "SDF-SRN": _published(0.352, 0.315, 0.333, 0.854, 94.18, 95.21, 94.69),
        "TARS": _published(0.353, 0.312, 0.332, 0.817, 93.43, 95.39, 94.40),
    },
    "airplane": {
        "SoftRas": _published(0.215, 0.207, 0.211, 0.588, 98.74, 98.42, 98.58),
        "SDF-SRN": _published(0.193, 0.154, 0.173, 0.576, 98.55, 99.11, 98.83),
        "TARS": _published(0.194, 0.152, 0.173, 0.533, 98.79, 99.34, 99.06),
    },
}
"""ShapeNet: category, system, figures as `summarise` has them. EMD's point count is not published."""

PAPER_TABLE_2: Mapping[str, Mapping[str, Mapping]] = {
    "car": {
        "TARS without point features": _published(0.379, 0.473, 0.426, 0.949, 96.97, 91.77, 94.30),
        "TARS": _published(0.363, 0.386, 0.374, 0.763, 97.00, 95.63, 96.31),
    },
    "chair": {
        "TARS without point features": _published(0.539, 0.485, 0.512, 1.291, 86.95, 91.44, 89.14),
        "TARS": _published(0.527, 0.426, 0.476, 1.171, 89.75, 94.83, 92.22),
    },
    "airplane": {
        "TARS without point features": _published(0.576, 0.561, 0.568, 1.341, 87.77, 93.16, 90.38),
        "TARS": _published(0.547, 0.530, 0.538, 1.302, 88.50, 93.76, 91.05),
    },
}
"""Pascal3D+, after ICP, in the frame of a crop normalised to [-1, 1]."""

PAPER_TABLE_3: Mapping[int, Mapping[str, Mapping]] = {
    500: {"SDF-SRN": _published(0.475, 0.422, 0.448), "TARS": _published(0.495, 0.402, 0.448)},
    1000: {"SDF-SRN": _published(0.442, 0.385, 0.413), "TARS": _published(0.462, 0.366, 0.414)},
    2000: {"SDF-SRN": _published(0.423, 0.349, 0.386), "TARS": _published(0.423, 0.347, 0.385)},
}
"""ShapeNet chairs by number of training instances, one view each."""

PAPER_TABLE_4: Mapping[str, Mapping] = {
    "SDF-SRN": _published(0.352, 0.315, 0.333),
    "DIT": _published(0.386, 0.326, 0.356),
    "DIF": _published(0.376, 0.308, 0.342),  # printed as 0.0308, which its own overall figure contradicts
    "TARS": _published(0.353, 0.312, 0.332),
}
"""ShapeNet chairs, deformable implicit systems."""


def paper_rows(category: str) -> list[Row]:
    """Table 1's rows of a category (none for a category that it lacks), labelled as the paper's."""
    return [(f"{name} (paper, ShapeNet)", row) for name, row in PAPER_TABLE_1.get(category, {}).items()]


def format_text(rows: Sequence[Row]) -> str:
    """A table in aligned columns; figures that no row has get no column, a missing one is a dash. The
    protocols of rows that carry one are written out below."""
    table = _cells(rows)
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = [
        "  ".join(
            cell.rjust(width) if k else cell.ljust(width)
            for k, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in table
    ]
    lines.insert(1, "-" * len(lines[0]))
    return "\n".join([*(line.rstrip() for line in lines), *_protocol_lines(rows)])


def figure(summary: Mapping, column: str) -> str | None:
    """One figure of a summary by the name of its column, written as in the tables; None where it has none."""
    path, form = next((path, form) for name, path, form in _COLUMNS if name == column)
    value = _lookup(summary, path)
    return None if value is None else format(value, form)


def _lookup(summary: Mapping, path: tuple[str, ...]) -> Any:
    value: Any = summary
    for key in path:
        value = value.get(key) if value is not None else None
    return value


def _cells(rows: Sequence[Row]) -> list[list[str]]:
    columns = [c for c in _COLUMNS if any(_lookup(summary, c[1]) is not None for _, summary in rows)]
    table = [["", *(name for name, _, _ in columns)]]
    for label, summary in rows:
        values = [(_lookup(summary, path), form) for _, path, form in columns]
        table.append([label, *("-" if value is None else format(value, form) for value, form in values)])
    return table


def _protocol_lines(rows: Sequence[Row]) -> list[str]:
    """One line for each different protocol, with the rows that it holds for unless it holds for all."""
    users: dict[str, list[str]] = {}
    for label, summary in rows:
        if protocol := summary.get("protocol"):
            text = "; ".join(
                f"{key.replace('_', ' ')}: {value}" for key, value in protocol.items() if value is not None
            )
            users.setdefault(text, []).append(label)
    if len(users) == 1 and len(next(iter(users.values()))) == len(rows):
        return [f"Protocol: {text}" for text in users]
    return [f"Protocol of {', '.join(labels)}: {text}" for text, labels in users.items()]
