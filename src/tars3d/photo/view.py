"""A picture as a model sees it: cropped around its mask, or as far out as its object seems to go on, and what the user should know of that.

`Reconstructor.framed` and `Reconstructor.view` are these functions with the model's configuration.
"""

from collections.abc import Callable

from tars3d.config import ModelConfig
from tars3d.data.framing import Crop, FramedPicture, Side, bbox_crop, cut_sides, input_crop
from tars3d.data.pictures import Picture
from tars3d.errors import UserError
from tars3d.photo.cut_off import Extent, touches

SMALL = 32
"""Pixels: an object that is smaller in its picture shows little."""
SMALLEST = 8
"""Pixels: of an object that is smaller, everything would be invented."""


def frame_picture(picture: Picture, config: ModelConfig, annotated: Crop | None = None) -> FramedPicture:
    """The picture cropped around its mask, as in training.

    Args:
        annotated: the square that a collection names for the picture; counts for models that were trained on such squares.

    Raises:
        UserError: nothing of the object is left at the model's picture size.
    """
    crop = input_crop(picture.mask, config.padding, annotated if config.framing == "annotated" else None)
    found = FramedPicture.of(picture.rgb, picture.mask, crop, config.picture_size)
    if not found.mask.any():
        raise UserError(
            f"{picture.name}: its object is too thin, or too scattered, to be seen at {config.picture_size} pixels; give a mask of one object"
        )
    return found


def view_picture(
    picture: Picture,
    config: ModelConfig,
    annotated: Crop | None,
    uncut: Callable[[tuple[Side, ...]], Extent | None] | None,
) -> tuple[FramedPicture, list[str]]:
    """As `frame_picture`; a picture that may cut its object off as far out as that seems to go on. And notes for the user.

    Args:
        uncut: finds how far the object goes on beyond these sides, None if it cannot tell; None frames every picture by what it shows.

    Raises:
        UserError: the object is too small, or as in `frame_picture`.
    """
    by_mask = annotated is None or config.framing != "annotated"
    sides = cut_sides(picture.mask) if by_mask else ()
    found = frame_picture(picture, config, annotated)
    longest = round(bbox_crop(picture.mask, 1.0).side)
    if longest < SMALLEST:
        raise UserError(
            f"{picture.name}: its object is {longest} pixels large, too few to tell a shape; use a larger picture"
        )
    notes = [f"the object is only {longest} pixels large, little of it can be seen"] if longest < SMALL else []
    if not sides:
        return found, notes
    extent = uncut(sides) if uncut is not None and longest >= SMALL else None
    if extent is None:
        return found, [*notes, f"{touches(sides)}: is it cut off?"]
    return extent.framed, [*notes, extent.sentence()]
