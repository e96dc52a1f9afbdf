"""The options that the commands `tars3d bench table1` to `figure8` share. Light to import: `cli_bench` does so at once."""

from dataclasses import dataclass
from pathlib import Path

from tars3d.arguments import Device
from tars3d.methods import MethodName


@dataclass(frozen=True)
class TableOptions:
    """Data, scale and protocol of a table."""

    data: tuple[Path, ...]
    """Image collections; those of one category are mixed. Tested are the test splits."""
    out: Path = Path("tables")
    """Folder for rows and results; finished rows in it are not repeated, also those of another table."""
    budget: float | None = None
    """Minutes of training for all rows together, in equal shares: every curriculum is shortened to fit. None trains in full."""
    row_minutes: float | None = None
    """Minutes of training for each row, instead of --budget: the same in several tables, so that they share rows."""
    add: tuple[MethodName, ...] = ()
    """Further systems, a row of each below the paper's in each category, trained and measured as those are."""
    preset: str = "compact-unpaired"
    """Whose networks and curriculum the rows take."""
    views: int = 1
    """Pictures of each training object; each counts as an object of its own."""
    objects: int | None = None
    """Training objects of each category; default is all."""
    test_objects: int | None = None
    """Test objects of each category; default is all. One picture of each is measured."""
    resolution: int = 128
    """Cells of the evaluation's grid along each axis."""
    samples: int = 100_000
    """Points on each predicted surface."""
    emd_points: int = 1024
    """Points of the Earth Mover's Distance; 0 leaves it out."""
    threshold: float = 0.1
    """Distance of precision and recall, world units."""
    as_published: bool = False
    """Also measure with the scaling error of the published evaluator."""
    pretrained: bool = True
    """Start the encoder from ImageNet weights where the preset names a hub id."""
    seed: int = 0
    """Of the draw of pictures and objects, of training and of surface samples."""
    threads: int | None = None
    """CPU threads; default is one per core."""
    device: Device = "auto"
    """Where rows are trained."""
