"""The options of `tars3d data render`. Light to import: `cli_collections` does so at once."""

from dataclasses import dataclass

from tars3d.arguments import check_at_least, check_seed
from tars3d.errors import UserError


@dataclass(frozen=True)
class RenderOptions:
    """How many objects and pictures there are, where the pictures are taken from, and which objects are for what."""

    views: int = 24
    """pictures of each object."""
    size: int = 128
    """side of the pictures, pixels."""
    count: int | None = None
    """how many procedural objects."""
    photos: bool = False
    """cameras as people take photos of such objects, from near and far, from above and aslant, where the next three do not say otherwise."""
    elevation: tuple[float, float] | None = None
    """range of camera elevations, degrees; default is 30 30. Two equal numbers are the published orbit: that elevation, azimuths evenly spaced from 0; a true range also jitters the azimuths."""
    roll: tuple[float, float] | None = None
    """range of in-plane rotations, degrees; default is 0 0."""
    distance: tuple[float, ...] | None = None
    """of the camera, world units (objects have a longest side of 1); default is 2.732.
    Two numbers are a range, even in strength of perspective, through which the lens zooms along, so that objects stay as large."""
    samples: int = 16
    """per pixel."""
    category: str | None = None
    """of the objects; default is the folder's name, or the procedural category."""
    test: int | None = None
    """objects in the test split; without any split, everything is in train and in test."""
    val: int | None = None
    """objects in the validation split."""
    variants: int = 0
    """of each training object, stretched along its axes at random, rendered besides it."""
    stretch: float = 0.15
    """of a variant along an axis, at most by a factor of e to the power of this."""
    workers: int | None = None
    """processes; default is one per core."""
    seed: int = 0
    """of everything random: same seed, same bytes."""

    def check(self) -> None:
        """Refuse options that make no sense.

        Raises:
            UserError: names the option.
        """
        if self.distance is not None and len(self.distance) not in (1, 2):
            raise UserError(f"--distance {' '.join(map(str, self.distance))}: give one number, or the ends of a range")
        check_at_least(
            1, views=self.views, size=self.size, samples=self.samples, workers=self.workers, count=self.count
        )
        check_at_least(0, variants=self.variants)
        check_seed(self.seed)
        if not 0 <= self.stretch < 1:
            raise UserError(f"--stretch {self.stretch}: choose a number from 0 to below 1")

    @property
    def splits(self) -> dict[str, int] | None:
        """Objects of each split that is asked for; None: of none."""
        asked = {"test": self.test, "val": self.val}
        return {name: number for name, number in asked.items() if number is not None} or None
