"""What `tars3d bench correspondence` asks of which objects. Light to import, as the command line does it at once."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from tars3d.arguments import check_at_least, check_resolution


@dataclass(frozen=True)
class Exam:
    """The objects between which is carried, and how they are reconstructed."""

    categories: tuple[Literal["chair", "car", "airplane"], ...] = ()
    """only these; default are all that have a model."""
    objects: int = 30
    """of each category; all ordered pairs of them are measured."""
    data: Path | None = None
    """folder where the rendered objects are kept or found; default is a temporary one."""
    views: int = 1
    """pictures of each object, which are reconstructed together."""
    photos: bool = False
    """pictures from cameras as people take photos (`tars3d data render --photos`), in place of level ones from one distance."""
    outline: bool = False
    """bend the reconstructions to the outlines of their pictures, as `tars3d reconstruct` does; else they are as the model predicts them."""
    resolution: int = 64
    """cells of the search grid along each axis."""
    points: int = 1000
    """vertices of a target that are asked, drawn by the seed."""
    seed: int = 7
    """of objects and pictures; 0 made objects that the shipped chair was trained on."""

    def check(self) -> None:
        """Refuse numbers that make no exam."""
        check_resolution(self.resolution)
        check_at_least(2, objects=self.objects)  # of one there are no pairs
        check_at_least(1, points=self.points, views=self.views)

    def described(self) -> dict[str, Any]:
        """For JSON, beside what is counted."""
        return {name: value for name, value in asdict(self).items() if name not in ("categories", "objects", "data")}
