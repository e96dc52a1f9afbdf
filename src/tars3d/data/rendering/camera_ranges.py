"""Where pictures are taken from: `tars3d data render [--photos]` and `tars3d bench correspondence [--photos]` draw their cameras from these ranges.

Those of photos are about what cameras fitted to Pix3D's masks have (`benchmarks/pix3d_overlap.py` prints it), and a little wider. Nothing was
measured for airplanes: they fly, so they are seen from below as well, and they bank.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from tars3d.errors import UserError
from tars3d.geometry.camera import SHAPENET_DISTANCE, SHAPENET_FOCAL, fitting_focal, look_at_origin


@dataclass(frozen=True)
class CameraRanges:
    """Lowest and highest of what a picture's camera is drawn from.

    Attributes:
        elevation: degrees above the horizon; two equal values: a regular orbit as in the NMR renderings, no jitter.
        roll: degrees of in-plane rotation.
        distance: from the camera to the origin, object units. Two different ends are drawn from evenly in strength of perspective, the inverse, and
            the lens zooms with it, so that objects stay as large as at `SHAPENET_DISTANCE`.
    """

    elevation: tuple[float, float] = (0.0, 40.0)
    roll: tuple[float, float] = (0.0, 0.0)
    distance: tuple[float, float] = (SHAPENET_DISTANCE, SHAPENET_DISTANCE)

    def validate(self) -> None:
        """Raises UserError naming the option that cannot be."""
        for option, unit in (("elevation", "in degrees"), ("roll", "in degrees"), ("distance", "in object units")):
            low, high = getattr(self, option)
            if not -np.inf < low <= high < np.inf:
                raise UserError(f"--{option} {low} {high}: give two numbers, the lower end first, {unit}")
        if not self.distance[0] > 0.9:
            raise UserError(f"--distance {self.distance[0]}: the camera would be inside the object; give 1 or more")
        if not -89 <= self.elevation[0] <= self.elevation[1] <= 89:
            raise UserError(f"--elevation {self.elevation}: must lie between -89 and 89 degrees")

    def draw(
        self, view: int, views: int, phase: float, radius: float, rng: np.random.Generator
    ) -> tuple[Float[np.ndarray, "3 4"], float]:
        """World-to-camera extrinsics of one of an object's `views`, and its focal length in picture widths.

        Args:
            phase: by which share of a view's sector all views are turned.
            radius: of the object around the origin, which must fit into the picture.
        """
        azimuth, elevation, roll = self.angles(view, views, phase, rng)
        distance, focal = self.lens(radius, rng)
        return look_at_origin(azimuth, elevation, distance, roll), focal

    def angles(self, view: int, views: int, phase: float, rng: np.random.Generator) -> tuple[float, float, float]:
        """Azimuth, elevation and roll of a view, degrees.

        Views share the circle evenly; each is drawn within its own sector, all turned by `phase` sectors.
        """
        low, high = self.elevation
        jitter, height, turn = rng.random(3)
        sector = view if low == high else view + phase + jitter
        azimuth = (360 / views * sector) % 360
        roll = self.roll[0] + turn * (self.roll[1] - self.roll[0])
        return azimuth, low + height * (high - low), roll

    def lens(self, radius: float, rng: np.random.Generator) -> tuple[float, float]:
        """Distance of a view's camera, and its focal length in picture widths; `radius` as in `draw`."""
        low, high = self.distance
        if low == high:
            return low, fitting_focal(radius, low)
        far, near = 1 / high, 1 / low
        drawn = 1 / (far + (near - far) * rng.random())
        return drawn, fitting_focal(radius, drawn, SHAPENET_FOCAL * drawn / SHAPENET_DISTANCE)


LEVEL = CameraRanges()
PHOTOS = CameraRanges(elevation=(-5.0, 65.0), roll=(-12.0, 12.0), distance=(1.1, 6.0))
PHOTOS_OF = {"airplane": CameraRanges(elevation=(-45.0, 65.0), roll=(-25.0, 25.0), distance=(1.1, 6.0))}
"""Of categories that are photographed in other ways."""


def photo_cameras(category: str) -> CameraRanges:
    """Cameras of photos of a category's objects."""
    return PHOTOS_OF.get(category, PHOTOS)
