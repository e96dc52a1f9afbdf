"""`tars3d transfer`: colours, part labels and keypoints from one reconstruction to others, through canonical space.

`painted` reads what users bring back from Blender or MeshLab, `source` finds its place in canonical space, `session` reads or reconstructs the
objects that receive, `run` and `labels` do the work of the commands; `checks` refuses what cannot go well.
"""

from dataclasses import dataclass
from pathlib import Path

from tars3d.arguments import Device, OutlineMode
from tars3d.rules import PARTS, SMOOTH, Rule


@dataclass(frozen=True)
class TransferSettings:
    """What the three transfers share."""

    reconstruction: Path | None = None
    """The mesh that tars3d wrote, if SOURCE is a changed copy of it: vertices split or in another order."""
    source_image: Path | None = None
    """Instead: the picture that SOURCE was reconstructed from."""
    together: bool = False
    """The targets are pictures of one object from several sides, as in `tars3d reconstruct --together`: one mesh, named after the first of them."""
    model: str = "chair"
    """For pictures: shipped name, run directory, .safetensors file or hub id."""
    resolution: int = 128
    """Cells of the search grid along each axis, for pictures."""
    faces: int | None = None
    """Of targets that are pictures at most, as in `tars3d reconstruct`; default: as many as the grid gives, with an image texture 10,000."""
    outline: OutlineMode = "auto"
    """For pictures: as in `tars3d reconstruct`."""
    feature_weight: float | None = None
    """Canonical units that a unit of point feature counts for, by default 0.1, for textures 0; with all three weights at 0: positions alone, as published."""
    normal_weight: float | None = None
    """Canonical units that a unit of surface normal (mean over 0.05 of the surface) counts for, by default 0.2, for textures 0."""
    height_weight: float | None = None
    """Canonical units that a unit of levelled height (canonical height, mean over the surface at a height) counts for, by default 1.5, for textures 0."""
    max_distance: float | None = None
    """Canonical units beyond which a point has no counterpart, by default 0.2, for textures 0.1; the category's longest side is about 1."""
    max_cycle: float | None = None
    """Object units that a point may stray on its way to the source and back, not for keypoints; default: no such filter."""
    out: Path = Path("transferred")
    """Folder for the results."""
    seed: int = 0
    """Of the points that sample the source's surface."""
    device: Device = "auto"
    """Where the model runs."""

    def rule(self, command: str) -> Rule:
        """The weights of a command (texture, labels or keypoints), where no others were given."""
        usual = SMOOTH if command == "texture" else PARTS
        return usual.changed(
            feature_weight=self.feature_weight, normal_weight=self.normal_weight, height_weight=self.height_weight,
            max_distance=self.max_distance,
        )  # fmt: skip
