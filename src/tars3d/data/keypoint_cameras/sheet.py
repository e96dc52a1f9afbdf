"""Pictures with the axes and keypoints of estimated cameras, to look at. Called by `data.keypoint_cameras.estimate`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw

from tars3d.data.image_record import ImageRecord
from tars3d.data.pictures import read_picture
from tars3d.geometry.rasterize import project
from tars3d.sheets import contact_sheet, write_picture

SIZE = 200
"""Longer side of a picture, pixels."""


def axes_overlay(
    record: ImageRecord, keypoints: dict[str, Any], shape: Float[np.ndarray, "keypoints 3"]
) -> UInt8[np.ndarray, "height width 3"]:
    """The masked picture with the object's axes (red to its right, green up, blue to the front), its keypoints as rings and
    the fitted shape's as dots."""
    picture = read_picture(record.file, record.mask)
    height, width = picture.mask.shape
    scale = SIZE / max(height, width)
    ground = np.where(picture.mask[..., None], picture.rgb // 2 + 110, 255).clip(0, 255).astype(np.uint8)
    image = Image.fromarray(ground).resize((round(width * scale), round(height * scale)), Image.Resampling.BILINEAR)
    draw = ImageDraw.Draw(image)

    def at(points: np.ndarray) -> list[tuple[float, float]]:
        pixels = project(points, record.intrinsics, record.extrinsics, record.model == "perspective")[0] * scale
        return [(float(u), float(v)) for u, v in pixels]

    for u, v, visible in keypoints.values():
        if visible:
            draw.ellipse([u * scale - 3, v * scale - 3, u * scale + 3, v * scale + 3], outline=(120, 60, 160))
    for u, v in at(shape):
        draw.ellipse([u - 1.5, v - 1.5, u + 1.5, v + 1.5], fill=(235, 150, 0))
    origin, *tips = at(np.array([[0, 0, 0], [0.45, 0, 0], [0, 0.45, 0], [0, 0, -0.45]]))
    for tip, color in zip(tips, [(220, 30, 30), (20, 150, 40), (30, 70, 255)], strict=True):
        draw.line([origin, tip], fill=color, width=3)
    return np.asarray(image)


def draw_sheet(
    path: Path,
    records: Sequence[ImageRecord],
    keypoints: Sequence[dict[str, Any]],
    shapes: Float[np.ndarray, "images keypoints 3"],
    errors: Float[np.ndarray, " images"],
    worst: float,
) -> Path:
    """Pictures from the best to the worst fit, evenly chosen, rejected ones included.

    Args:
        keypoints: of each picture, as in cameras.json.
        shapes: the fitted ones, world units.
        errors: in shares of the box side; pictures above `worst` are marked as rejected.
    """
    order = np.argsort(errors)
    chosen = order[np.linspace(0, len(order) - 1, min(40, len(order))).round().astype(int)]
    tiles = [axes_overlay(records[k], keypoints[k], shapes[k]) for k in chosen]
    words = [f"{records[k].name}: {100 * errors[k]:.1f}%{' rejected' if errors[k] > worst else ''}" for k in chosen]
    return write_picture(path, contact_sheet([tiles], [words], columns=8, tile=150), colors=128)
