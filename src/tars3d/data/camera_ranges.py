"""Where pictures are taken from: `tars3d data render --photos` and `tars3d bench correspondence [--photos]` draw their cameras from these ranges.

Those of photos are about what cameras fitted to Pix3D's masks have (`benchmarks/pix3d_overlap.py` prints it), and a little wider. Nothing was
measured for airplanes: they fly, so they are seen from below as well, and they bank.
"""

from dataclasses import dataclass

from tars3d.geometry.camera import SHAPENET_DISTANCE


@dataclass(frozen=True)
class CameraRanges:
    """Lowest and highest of what a picture's camera is drawn from; see `render.RenderSettings`."""

    elevation: tuple[float, float]
    """Degrees above the horizon."""
    roll: tuple[float, float]
    """Degrees of in-plane rotation."""
    distance: float | tuple[float, float]
    """From the camera to the object's middle, lengths of the object."""


LEVEL = CameraRanges(elevation=(0.0, 40.0), roll=(0.0, 0.0), distance=SHAPENET_DISTANCE)
PHOTOS = CameraRanges(elevation=(-5.0, 65.0), roll=(-12.0, 12.0), distance=(1.1, 6.0))
PHOTOS_OF = {"airplane": CameraRanges(elevation=(-45.0, 65.0), roll=(-25.0, 25.0), distance=(1.1, 6.0))}
"""Of categories that are photographed in other ways."""


def photo_cameras(category: str) -> CameraRanges:
    """Cameras of photos of a category's objects."""
    return PHOTOS_OF.get(category, PHOTOS)
