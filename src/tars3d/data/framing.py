"""Square crops around the object, and what they do to the pixels and to the camera: one affine map for both.

Called by the training data sets, the evaluation and `reconstruct`, so that all of them show the network the
same framing.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from PIL import Image

from tars3d.geometry.masks import mask_box

WHITE = 255
CUT = 0.05
"""An object that touches a side of its picture along less than this share of its own extent there is whole: a foot on the floor."""

Side = Literal["left", "right", "top", "bottom"]
"""Of a picture."""


@dataclass(frozen=True)
class Crop:
    """A square of a picture in continuous pixel coordinates (the first pixel spans 0 to 1); it may reach
    outside.
    """

    x: float
    """Left edge."""
    y: float
    """Upper edge."""
    side: float
    """Length of a side, in pixels of the uncropped picture."""


@dataclass(frozen=True)
class FramedPicture:
    """What a model sees of a picture.

    Attributes:
        rgb: the crop, resampled, with the object on white.
        mask: the object in it.
        crop: what of the picture it shows.
        uncropped: width and height of the whole picture, pixels.
        seen: pixels of which the picture says whether the object is there: all, but those beyond a side at which it cuts the object off.
    """

    rgb: UInt8[np.ndarray, "size size 3"]
    mask: Bool[np.ndarray, "size size"]
    crop: Crop
    uncropped: tuple[int, int]
    seen: Bool[np.ndarray, "size size"]

    @classmethod
    def of(
        cls,
        rgb: UInt8[np.ndarray, "height width 3"],
        mask: Bool[np.ndarray, "height width"],
        crop: Crop,
        size: int,
        *,
        cut: Collection[Side] = (),
    ) -> "FramedPicture":
        """`crop` of a picture, `size` pixels a side; `cut` names the sides at which the object goes on outside the picture."""
        height, width = mask.shape
        middles = (np.arange(size) + 0.5) * crop.side / size
        u, v = crop.x + middles[None, :], crop.y + middles[:, None]
        beyond = {"left": u < 0, "right": u > width, "top": v < 0, "bottom": v > height}
        seen = np.ones((size, size), bool)
        for side in cut:
            seen &= ~beyond[side]
        return cls(*apply_crop(rgb, mask, crop, size), crop, (width, height), seen)

    def pixels(self, *, with_mask: bool) -> UInt8[np.ndarray, "size size channels"]:
        """The framed picture, for models that take the mask with it as a fourth channel."""
        return np.dstack([self.rgb, WHITE * self.mask.astype(np.uint8)]) if with_mask else self.rgb


def edge_pixels(mask: Bool[np.ndarray, "height width"]) -> dict[Side, int]:
    """How many pixels of the object lie at each edge of its picture."""
    return {
        "left": int(mask[:, 0].sum()),
        "right": int(mask[:, -1].sum()),
        "top": int(mask[0].sum()),
        "bottom": int(mask[-1].sum()),
    }


def cut_sides(mask: Bool[np.ndarray, "height width"]) -> tuple[Side, ...]:
    """Sides at which a picture may cut its object off, as the object touches them at more than a point.

    None where it touches all four: such a picture was trimmed to its object.
    """
    touching = edge_pixels(mask)
    if all(touching.values()):
        return ()
    height, width = int(mask.any(axis=1).sum()), int(mask.any(axis=0).sum())
    along: dict[Side, int] = {"left": height, "right": height, "top": width, "bottom": width}
    return tuple(side for side, count in touching.items() if count and count >= CUT * along[side])


def bbox_crop(
    mask: Bool[np.ndarray, "height width"], padding: float, beyond: Mapping[Side, float] | None = None
) -> Crop:
    """The square centred on the bounding box of the mask, `padding` times as long as the box's longer side.

    Args:
        beyond: how far the object goes on beyond a side of the picture, in terms of the box's own width or height.

    Raises:
        ValueError: the mask is empty.
    """
    (left, top), (right, bottom) = mask_box(mask).tolist()
    more = {"left": 0.0, "right": 0.0, "top": 0.0, "bottom": 0.0} | dict(beyond or {})
    width, height = right - left, bottom - top
    left, right = left - more["left"] * width, right + more["right"] * width
    top, bottom = top - more["top"] * height, bottom + more["bottom"] * height
    side = padding * max(right - left, bottom - top)
    return Crop((left + right - side) / 2, (top + bottom - side) / 2, side)


def input_crop(mask: Bool[np.ndarray, "height width"], padding: float, annotated: Crop | None = None) -> Crop:
    """The annotated square where there is one, else that around the mask (`bbox_crop`)."""
    return bbox_crop(mask, padding) if annotated is None else annotated


def share_inside(mask: Bool[np.ndarray, "height width"], crop: Crop) -> float:
    """How much of an object a crop shows, 0 to 1."""
    rows, columns = np.nonzero(mask)
    inside = (columns + 0.5 > crop.x) & (columns + 0.5 < crop.x + crop.side)
    return float((inside & (rows + 0.5 > crop.y) & (rows + 0.5 < crop.y + crop.side)).mean()) if len(rows) else 0.0


def full_crop(height: int, width: int) -> Crop:
    """The smallest centred square that holds the whole picture."""
    side = float(max(height, width))
    return Crop((width - side) / 2, (height - side) / 2, side)


def apply_crop(
    rgb: UInt8[np.ndarray, "height width 3"],
    mask: Bool[np.ndarray, "height width"],
    crop: Crop,
    size: int,
) -> tuple[UInt8[np.ndarray, "size size 3"], Bool[np.ndarray, "size size"]]:
    """Cut out `crop` and resample it to `size` pixels a side, with the object on white.

    Colours are put on white before an antialiased bicubic resampling. As resampling is linear and white is
    constant, this equals resampling premultiplied colours with their coverage and putting the result on
    white (docs/paper-vs-code.md, Q19): no ground colour bleeds into the object's edge. The mask is resampled alike
    and true where the object covers at least half a pixel. What lies outside the picture is background.
    """
    height, width = mask.shape
    scale = crop.side / size
    margin = math.ceil(2 * max(scale, 1.0)) + 1  # the reach of the bicubic kernel
    left, top = math.floor(crop.x) - margin, math.floor(crop.y) - margin
    right, bottom = math.ceil(crop.x + crop.side) + margin, math.ceil(crop.y + crop.side) + margin
    # Only the needed window is copied, so a crop of a 40-megapixel photo costs what the crop costs.
    window = np.full((bottom - top, right - left, 4), WHITE, dtype=np.uint8)
    window[..., 3] = 0
    x0, x1 = max(left, 0), min(right, width)
    y0, y1 = max(top, 0), min(bottom, height)
    if x0 < x1 and y0 < y1:
        inside = mask[y0:y1, x0:x1]
        target = window[y0 - top : y1 - top, x0 - left : x1 - left]
        target[..., :3] = np.where(inside[..., None], rgb[y0:y1, x0:x1], np.uint8(WHITE))
        target[..., 3] = inside * np.uint8(255)
    box = (crop.x - left, crop.y - top, crop.x - left + crop.side, crop.y - top + crop.side)
    # RGBX: four plain channels in one pass; Pillow must not take the fourth for alpha, the colours are
    # composited already.
    image = Image.frombuffer("RGBX", (window.shape[1], window.shape[0]), window, "raw", "RGBX", 0, 1)
    small = np.asarray(image.resize((size, size), Image.Resampling.BICUBIC, box=box))
    return np.ascontiguousarray(small[..., :3]), small[..., 3] >= 128


def crop_intrinsics(intrinsics: np.ndarray | torch.Tensor, crop: Crop, size: int):
    """The intrinsics [..., 3, 3] of the cropped and resized picture: u' = (u - x) * size / side, and
    likewise v'.

    Exact, for perspective and orthographic cameras alike, with pixel centres at +0.5. Returns what it was
    given: numpy array or tensor, of the same dtype.
    """
    scale = size / crop.side
    affine = [[scale, 0.0, -crop.x * scale], [0.0, scale, -crop.y * scale], [0.0, 0.0, 1.0]]
    if isinstance(intrinsics, torch.Tensor):
        return intrinsics.new_tensor(affine) @ intrinsics
    intrinsics = np.asarray(intrinsics)
    dtype = intrinsics.dtype if np.issubdtype(intrinsics.dtype, np.floating) else np.float64
    return (np.array(affine) @ intrinsics).astype(dtype)


def uncropped(intrinsics: Float[np.ndarray, "3 3"], crop: Crop, size: int) -> Float[np.ndarray, "3 3"]:
    """The inverse of `crop_intrinsics`: in pixels of the picture that `crop` was cut from and scaled to `size`."""
    scale = crop.side / size
    return np.array([[scale, 0, crop.x], [0, scale, crop.y], [0, 0, 1.0]]) @ intrinsics
