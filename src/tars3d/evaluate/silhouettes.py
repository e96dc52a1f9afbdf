"""What can be measured where there is no ground truth: how well the silhouette of the reconstruction fits the mask.

Called by `evaluation` for collections without ground truth. A silhouette from the input view says nothing about depth: the sheet
shows each mesh from its side and from above as well, and in canonical colours, to look at.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import trimesh

from tars3d.correspondence import canonical_colors
from tars3d.data.collection import ImageRecord
from tars3d.data.framing import apply_crop, bbox_crop
from tars3d.data.pictures import Picture, read_picture
from tars3d.evaluate.metrics import mask_iou
from tars3d.geometry.rasterize import orbit_camera, render_view, silhouette
from tars3d.progress import progress_bar

TILE = 160
VIEWS = ((90.0, 0.0), (90.0, 89.0), (30.0, 20.0))
"""Azimuth and elevation of the sheet's pictures: from the side, from above, and between."""

Located = tuple[trimesh.Trimesh, np.ndarray | None]
"""A mesh in the object frame, and canonical positions of its vertices where they are known."""


def measure_silhouettes(
    records: Sequence[ImageRecord], predict: Callable[[ImageRecord, Picture], Located], rows: int
) -> tuple[dict[str, Any], list[dict[str, Any]], list[list[np.ndarray]]]:
    """Mask IoU from each picture's own camera.

    Args:
        predict: a picture to its mesh.
        rows: of the sheet, spread over the records.

    Returns:
        a summary, a row for each picture, and tiles of the sheet.
    """
    found, tiles = [], []
    shown = set(np.linspace(0, len(records) - 1, min(rows, len(records))).round().astype(int).tolist())
    with progress_bar() as bar:
        for number, record in enumerate(bar.track(records, description="evaluating")):
            picture = read_picture(record.file, record.mask)
            mesh, canonical = predict(record, picture)
            camera = (record.intrinsics, record.extrinsics, record.model == "perspective")
            seen = silhouette(mesh, *camera, *picture.mask.shape)
            found.append({"name": record.name, "mask_iou": mask_iou(seen, picture.mask), "empty": not len(mesh.faces)})
            if number in shown:
                tiles.append(_tiles(picture, seen, mesh, canonical))
    values = np.array([row["mask_iou"] for row in found])
    summary = {
        "mask_iou": float(values.mean()),
        "mask_iou_median": float(np.median(values)),
        "mask_iou_worst_tenth": float(np.quantile(values, 0.1)),
        "count": len(found),
        "empty": sum(row["empty"] for row in found),
    }
    return summary, found, tiles


def _tiles(picture: Picture, seen: np.ndarray, mesh: trimesh.Trimesh, canonical: np.ndarray | None) -> list[np.ndarray]:
    """The mask over the silhouette (grey: both, red: mask alone, blue: silhouette alone), then the mesh, plain and in canonical colours."""
    overlay = np.full((*seen.shape, 3), 255, np.uint8)
    overlay[picture.mask & seen], overlay[picture.mask & ~seen] = (150, 150, 150), (220, 60, 60)
    overlay[seen & ~picture.mask] = (70, 110, 230)
    crop = bbox_crop(picture.mask, 1.3)
    tiles = [apply_crop(overlay, np.ones_like(seen), crop, TILE)[0]]
    cameras = [orbit_camera(azimuth, elevation, TILE) for azimuth, elevation in VIEWS]
    plain = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    tiles += [render_view(plain, k, rt, True, TILE, TILE) for k, rt in cameras]
    if canonical is not None:
        painted = canonical_colors(canonical) / 255.0
        tiles += [render_view(plain, k, rt, True, TILE, TILE, vertex_colors=painted) for k, rt in cameras]
    return tiles
