"""`tars3d transfer`: colours, part labels and keypoints from one reconstruction to others, through canonical space.

`painted` reads what users bring back from Blender or MeshLab, `source` finds its place in canonical space, `run` reads or reconstructs the
objects that receive and does the work of the commands, with `labels`; `checks` refuses what cannot go well.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class Rule:
    """What `correspond` weighs: see there."""

    feature_weight: float
    normal_weight: float
    height_weight: float
    max_distance: float


# As in `correspondence`, which the command line must not import for its help; a test holds them together.
PARTS = Rule(feature_weight=0.1, normal_weight=0.2, height_weight=1.5, max_distance=0.2)
"""Finds the right part most often: for labels and keypoints."""
SMOOTH = Rule(feature_weight=0.0, normal_weight=0.0, height_weight=0.0, max_distance=0.1)
"""Less often the right part, but neighbours stay neighbours: for textures, which normals tear where surfaces are bumpy."""


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
    feature_weight: float | None = None
    """Canonical units that a unit of point feature counts for, by default 0.1, for textures 0; with all three weights at 0: positions
    alone, as published."""
    normal_weight: float | None = None
    """Canonical units that a unit of surface normal (mean over 0.05 of the surface) counts for, by default 0.2, for textures 0."""
    height_weight: float | None = None
    """Canonical units that a unit of levelled height (canonical height, mean over the surface at a height) counts for, by default
    1.5, for textures 0."""
    max_distance: float | None = None
    """Canonical units beyond which a point has no counterpart, by default 0.2, for textures 0.1; the category's longest side is about 1."""
    max_cycle: float | None = None
    """Object units that a point may stray on its way to the source and back, not for keypoints; default: no such filter."""
    out: Path = Path("transferred")
    """Folder for the results."""
    seed: int = 0
    """Of the points that sample the source's surface."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the model runs."""

    def rule(self, command: str) -> Rule:
        """The weights of a command (texture, labels or keypoints), where no others were given."""
        usual = SMOOTH if command == "texture" else PARTS
        return Rule(
            usual.feature_weight if self.feature_weight is None else self.feature_weight,
            usual.normal_weight if self.normal_weight is None else self.normal_weight,
            usual.height_weight if self.height_weight is None else self.height_weight,
            usual.max_distance if self.max_distance is None else self.max_distance,
        )
