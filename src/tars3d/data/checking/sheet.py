"""The picture that `tars3d data check` draws: photos with the outlines of their masks, projected ground truth and keypoints. Called by `check`."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from tars3d.data.checking.truth_fit import Sighting
from tars3d.data.image_record import ImageRecord
from tars3d.data.pictures import Picture, read_picture
from tars3d.geometry.masks import mask_rim
from tars3d.geometry.rasterize import project
from tars3d.sheets import contact_sheet, write_picture

SHEET_PICTURES = 40
SHEET_COLUMNS = 5
SHEET_TILE = 240

Clouds = Mapping[str, np.ndarray | None]


def write_sheet(path: Path, looked_at: Sequence[tuple[ImageRecord, Sighting | None]], clouds: Clouds) -> Path:
    """Draw a sheet of overlays, the worst pictures first.

    Args:
        path: of the picture; becomes a .png.
        looked_at: records whose pictures can be read, each with how its ground truth is seen, or None.
        clouds: points of each object's ground truth, or None.

    Raises:
        UserError: it cannot be written.
    """
    if path.suffix.lower() != ".png":
        path = path.with_name(path.name + ".png")
    chosen = sorted(looked_at, key=lambda item: 2.0 if item[1] is None else item[1].fit)
    if len(chosen) > SHEET_PICTURES:
        # Half of the sheet shows the worst, the rest an even choice of the others: failures alone mislead.
        half = SHEET_PICTURES // 2
        even = np.linspace(half, len(chosen) - 1, SHEET_PICTURES - half).astype(int)
        chosen = chosen[:half] + [chosen[k] for k in even]
    tiles, captions = [], []
    for record, sighting in chosen:
        picture = read_picture(record.file, record.mask)
        tiles.append(overlay(picture, record, clouds[record.instance]))
        captions.append(record.name if sighting is None else f"{record.name}: {100 * sighting.inside:.0f}% inside")
    return write_picture(path, contact_sheet([tiles], [captions], columns=SHEET_COLUMNS, tile=SHEET_TILE))


def overlay(picture: Picture, record: ImageRecord, points: np.ndarray | None) -> UInt8[np.ndarray, "height width 3"]:
    """The picture, at most `SHEET_TILE` pixels a side, with its mask's outline, projected points by depth, and keypoints."""
    height, width = picture.mask.shape
    scale = SHEET_TILE / max(height, width)
    shape = (max(1, round(width * scale)), max(1, round(height * scale)))
    canvas = np.asarray(Image.fromarray(picture.rgb).resize(shape, Image.Resampling.BILINEAR)).copy()
    mask = np.asarray(Image.fromarray(picture.mask).resize(shape, Image.Resampling.NEAREST))
    if points is not None:
        pixels, depth = project(points, record.intrinsics, record.extrinsics, record.model == "perspective")
        order = np.argsort(-depth)  # near points are drawn over far ones
        share = (depth - depth.min()) / max(float(np.ptp(depth)), 1e-9)
        near, far = np.array([255.0, 214, 0]), np.array([30.0, 70, 255])
        colors = near + share[:, None] * (far - near)
        pixels = pixels * scale
        on_canvas = ((pixels >= 0) & (pixels < shape)).all(axis=1)
        for k in order[on_canvas[order]]:
            u, v = np.floor(pixels[k]).astype(int)
            canvas[v, u] = colors[k]
    canvas[mask_rim(mask)] = [255, 0, 200]
    for u, v, seen in (record.keypoints or {}).values():
        if seen and np.isfinite([u, v]).all():
            x, y = int(u * scale), int(v * scale)
            canvas[max(y - 2, 0) : max(y + 3, 0), max(x - 2, 0) : max(x + 3, 0)] = [0, 200, 80]
    return canvas
