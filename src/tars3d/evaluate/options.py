"""The options of `tars3d evaluate`. Light to import: `cli` does so at once."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tars3d.arguments import (
    Device,
    check_at_least,
    check_folder,
    check_positive,
    check_refine,
    check_resolution,
    check_seed,
)
from tars3d.errors import UserError


@dataclass(frozen=True)
class EvaluateOptions:
    """What is measured, and by which protocol."""

    model: str = "chair"
    """shipped name, run directory, .safetensors file or hub id."""
    split: str = "test"
    """of the collection."""
    views: int = 1
    """pictures of each object, chosen by the seed."""
    together: bool = False
    """the chosen pictures of an object make one mesh, as by `tars3d reconstruct --together`; it is measured once."""
    resolution: int = 128
    """cells of the search grid along each axis."""
    samples: int = 100_000
    """points on each predicted surface."""
    emd_points: int = 1024
    """points of the Earth Mover's Distance; 0 leaves it out."""
    threshold: float = 0.1
    """distance within which a point counts for precision and recall, world units."""
    align: bool = False
    """rigid ICP before measuring, as for Pascal3D+ and Pix3D in the paper."""
    as_published: bool = False
    """measure each mesh a second time with the scaling error of the published evaluator, to compare with old figures."""
    outline: bool = False
    """bend each mesh to the outline of its picture first, as `tars3d reconstruct` does unless told otherwise."""
    refine: int = 0
    """steps in which each shape's code is fitted to that outline, see `tars3d reconstruct --refine`."""
    refine_camera: Literal["found", "annotated"] = "found"
    """of --outline and --refine: the one that the model finds in the picture, or the annotated one, which a photo alone does not have."""
    baseline: Literal["none", "mean-shape", "nearest"] = "none"
    """instead of the model: its mean shape, or the nearest training object by picture features."""
    train_data: tuple[Path, ...] = ()
    """collections whose train split `nearest` chooses from; default is DATA."""
    limit: int | None = None
    """measure only this many pictures; with --together, objects."""
    out: Path | None = None
    """folder for metrics.json and sheet.png."""
    seed: int = 0
    """of views and surface samples."""
    device: Device = "auto"
    """where the model runs."""

    def check(self) -> None:
        """Refuse options that make no sense, or do not go with the baseline.

        Raises:
            UserError: names the option.
        """
        check_resolution(self.resolution)
        check_positive(threshold=self.threshold)
        if self.out is not None:
            check_folder(self.out)
        check_at_least(1, views=self.views, limit=self.limit, samples=self.samples)
        check_at_least(0, emd_points=self.emd_points)
        check_seed(self.seed)
        if self.as_published and self.baseline == "nearest":
            raise UserError("--as-published: the nearest training object comes from no grid; choose another --baseline")
        if self.train_data and self.baseline != "nearest":
            raise UserError("--train-data: only --baseline nearest chooses from it; give that too, or leave it out")
        check_refine(self.refine, "auto", pictures=self.views if self.together else 1)
        if self.together and self.baseline != "none":
            raise UserError(
                f"--together: does not go with --baseline {self.baseline}, which has one answer to each picture; leave it out"
            )
        fits = self.baseline == "none" or (self.baseline == "mean-shape" and self.refine_camera == "annotated")
        for flag, given in (("--refine", self.refine > 0), ("--outline", self.outline)):
            if given and not fits:
                other = ", or choose --refine-camera annotated" if self.baseline == "mean-shape" else ""
                raise UserError(f"{flag}: does not go with --baseline {self.baseline}; leave it out{other}")
