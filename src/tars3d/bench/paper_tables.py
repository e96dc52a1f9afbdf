"""The rows of the paper's Tables 1 to 4 and of Figure 8: which system, on what, and the figures printed for it.

The figures themselves are in `evaluate.tables`. Called by `bench.tables`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tars3d.evaluate.tables import PAPER_TABLE_1, PAPER_TABLE_2, PAPER_TABLE_3, PAPER_TABLE_4
from tars3d.methods import MESH_METHODS

CATEGORIES = ("car", "chair", "airplane")
LABELS = {"softras": "SoftRas", "cmr": "CMR", "sdf-srn": "SDF-SRN", "dit": "DIT", "dif": "DIF", "tars": "TARS"}
CHAMFER = ("Acc↓", "Cov↓", "CD↓")
ALL = (*CHAMFER, "EMD↓", "P↑", "R↑", "F↑")
TITLES = {
    "table1": "Table 1. Reconstruction (in the paper: ShapeNet)",
    "table2": "Table 2. Point features (in the paper: Pascal3D+, default masks), orthographic cameras, after ICP",
    "table3": "Table 3. Number of training objects (in the paper: ShapeNet chairs)",
    "table4": "Table 4. Deformable implicit systems (in the paper: ShapeNet chairs)",
    "figure8": "Figure 8. Dimensions k of the point features (in the paper: pictures of Pascal3D+ chairs), orthographic cameras, after ICP",
}


@dataclass(frozen=True)
class TableRow:
    """A row to train and to measure.

    Attributes:
        category: of the collections.
        label: as the paper names it.
        method, point_features: what is trained; None leaves k to the preset.
        paper: the paper's figures as `metrics.summarise` has them; None where it prints none.
        objects: training objects, where the row says so.
        orthographic: whether cameras are taken as orthographic and predictions aligned before measuring, as on Pascal3D+.
    """

    category: str
    label: str
    method: str
    paper: Mapping | None
    point_features: int | None = None
    objects: int | None = None
    orthographic: bool = False

    @property
    def is_mesh(self) -> bool:
        """Whether the system deforms a template mesh, so that no evaluation grid is involved."""
        return self.method in MESH_METHODS


def added_rows(rows: Sequence[TableRow], methods: Sequence[str]) -> list[TableRow]:
    """The rows of a table with those of further systems below each category's, in the setting of the category's first row.

    A system that the table has already is left out: DIT is TARS without point features.
    """
    found = []
    for category in dict.fromkeys(row.category for row in rows):
        mine = [row for row in rows if row.category == category]
        there = {row.method for row in mine}
        if any(row.point_features == 0 for row in mine if row.method == "tars"):
            there.add("dit")
        added = [
            TableRow(category, LABELS[method], method, None, objects=mine[0].objects, orthographic=mine[0].orthographic)
            for method in dict.fromkeys(methods)
            if method not in there
        ]
        found += [*mine, *added]
    return found


def columns_of(table: str) -> tuple[str, ...]:
    """The figures that the paper prints in a table."""
    return ALL if table in ("table1", "table2", "figure8") else CHAMFER


def rows_of(
    table: str,
    categories: Sequence[str],
    *,
    sizes: Sequence[int] = (500, 1000, 2000),
    k: Sequence[int] = (0, 1, 2, 4, 8),
) -> list[TableRow]:
    """The rows of a table for the categories that there are data of, in the paper's order. Tables 3, 4 and Figure 8 have one category;
    the paper's Tables 3 and 4 are of chairs, so another one's rows have no figures of the paper.

    Args:
        sizes: numbers of training objects of Table 3.
        k: dimensions of the point features of Figure 8.
    """
    known = [name for name in CATEGORIES if name in categories] + [n for n in categories if n not in CATEGORIES]
    one = "chair" if "chair" in categories else known[0]
    systems = {"SoftRas": "softras", "SDF-SRN": "sdf-srn", "TARS": "tars"}
    if table == "table1":
        return [
            TableRow(name, label, method, PAPER_TABLE_1.get(name, {}).get(label))
            for name in known
            for label, method in systems.items()
        ]
    if table == "table2":
        rows = []
        for name in known:
            paper = PAPER_TABLE_2.get(name, {})
            without = "TARS without point features"
            rows += [  # CMR is in the paper's figures of Pascal3D+, not in its tables
                TableRow(name, "CMR", "cmr", None, orthographic=True),
                TableRow(name, without, "tars", paper.get(without), 0, orthographic=True),
                TableRow(name, "TARS", "tars", paper.get("TARS"), orthographic=True),
            ]
        return rows
    if table == "table3":
        paper = PAPER_TABLE_3 if one == "chair" else {}
        return [
            TableRow(one, label, systems[label], paper.get(size, {}).get(label), objects=size)
            for label in ("SDF-SRN", "TARS")
            for size in sizes
        ]
    if table == "table4":
        methods = {"SDF-SRN": "sdf-srn", "DIT": "dit", "DIF": "dif", "TARS": "tars"}
        paper = PAPER_TABLE_4 if one == "chair" else {}
        return [TableRow(one, label, method, paper.get(label)) for label, method in methods.items()]
    paper = PAPER_TABLE_2.get(one, {})
    printed = {0: paper.get("TARS without point features"), 4: paper.get("TARS")}
    return [TableRow(one, f"k = {n}", "tars", printed.get(n), n, orthographic=True) for n in k]
