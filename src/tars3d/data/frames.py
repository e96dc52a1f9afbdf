"""A picture as training takes it: cropped, resampled, measured, its camera following. One picture, one function.

Called by the two sources of training pictures, `data.bank` (in memory) and `data.stream` (from shards), which therefore show the
same pixels.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, UInt8

from tars3d.config import FramingMode
from tars3d.data.framing import Crop, apply_crop, crop_intrinsics, full_crop, input_crop
from tars3d.data.pictures import Picture
from tars3d.geometry.distance_transform import distance_transform


@dataclass(frozen=True)
class Framing:
    """How pictures are framed; see `config.ModelConfig` and `config.TrainingConfig`."""

    size: int
    """Side of the framed pictures."""
    framing: FramingMode
    """See `config.ModelConfig`."""
    padding: float
    """Of the bbox crop."""
    crop_jitter: float = 0.0
    """Each crop's side is scaled by a fixed factor in 1 ± this."""
    seed: int = 0
    """Of those factors."""


@dataclass(frozen=True, eq=False)
class Frame:
    """A framed picture."""

    rgb: UInt8[np.ndarray, "size size 3"]
    """On white."""
    mask: Bool[np.ndarray, "size size"]
    """Object pixels."""
    distance: Float[np.ndarray, "size size"] | None
    """To the silhouette's edge, pixels; None where it was not asked for."""
    intrinsics: Float[np.ndarray, "3 3"]
    """Of the framed picture."""


def frame_picture(
    picture: Picture,
    intrinsics: Float[np.ndarray, "3 3"],
    number: int,
    how: Framing,
    *,
    annotated: Crop | None = None,
    distance: bool = True,
) -> Frame:
    """Crop a picture, and measure its mask.

    Args:
        intrinsics: of the picture as it was taken.
        number: of the picture in its collection: its crop jitter is a function of (seed, number).
        annotated: the square that the collection names for the picture.
        distance: measure the distance to the silhouette, which takes as long as everything else together.
    """
    height, width = picture.mask.shape
    if how.framing == "full":
        crop = full_crop(height, width)
    else:
        crop = input_crop(picture.mask, how.padding, annotated if how.framing == "annotated" else None)
    if how.crop_jitter:
        factor = 1.0 + how.crop_jitter * (2 * np.random.default_rng([how.seed, number]).random() - 1)
        shift = crop.side * (1 - factor) / 2
        crop = Crop(crop.x + shift, crop.y + shift, crop.side * factor)
    rgb, mask = apply_crop(picture.rgb, picture.mask, crop, how.size)
    measured = distance_transform(mask).astype(np.float16) if distance else None
    return Frame(rgb, mask, measured, np.asarray(crop_intrinsics(intrinsics, crop, how.size)))
