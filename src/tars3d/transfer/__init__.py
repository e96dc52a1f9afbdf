"""`tars3d transfer`: colours, part labels and keypoints from one reconstruction to others, through canonical space.

`painted` reads what users bring back from Blender or MeshLab, `source` finds its place in canonical space, `targets` reads or
reconstructs the objects that receive, `run` does the work of the three commands, `texture` bakes pictures.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

# As in `correspondence`, which the command line must not import for its help; a test holds them together.
FEATURE_WEIGHT = 0.5
NORMAL_WEIGHT = 0.2
MAX_DISTANCE = 0.2


@dataclass(frozen=True)
class TransferSettings:
    """What the three transfers share."""

    reconstruction: Path | None = None
    """The mesh that tars3d wrote, if SOURCE is a changed copy of it: vertices split or in another order."""
    source_image: Path | None = None
    """Instead: the picture that SOURCE was reconstructed from."""
    model: str = "chair"
    """For pictures: shipped name, run directory, .safetensors file or hub id."""
    resolution: int = 128
    """Cells of the search grid along each axis, for pictures."""
    feature_weight: float = FEATURE_WEIGHT
    """Canonical units that a unit of point feature counts for; 0 with --normal-weight 0: positions alone, as published."""
    normal_weight: float = NORMAL_WEIGHT
    """Canonical units that a unit of surface normal (mean over 0.05 of the surface) counts for."""
    max_distance: float = MAX_DISTANCE
    """Canonical units beyond which a point has no counterpart; the category's longest side is about 1."""
    max_cycle: float | None = None
    """Object units that a point may stray on its way to the source and back; default: no such filter."""
    out: Path = Path("transferred")
    """Folder for the results."""
    seed: int = 0
    """Of the points that sample the source's surface."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the model runs."""
