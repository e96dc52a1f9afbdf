"""What can be measured where there is no ground truth: how well the silhouette of the reconstruction fits the mask.

Called by `evaluation` for collections without ground truth. A silhouette from the input view says nothing about depth: the sheet
shows each mesh from its side and from above as well, and in canonical colours, to look at.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import trimesh

from tars3d.correspondence import canonical_colors
from tars3d.data.framing import apply_crop, bbox_crop
from tars3d.data.image_record import ImageRecord
from tars3d.data.pictures import Picture, read_picture
from tars3d.geometry.masks import mask_iou
from tars3d.geometry.rasterize import silhouette
from tars3d.geometry.views import orbit_camera, render_view
from tars3d.photo.camera import PhotoCamera
from tars3d.progress import progress_bar
from tars3d.side_by_side import side_by_side

TILE = 160
VIEWS = ((90.0, 0.0), (90.0, 89.0), (30.0, 20.0))
"""Azimuth and elevation of the sheet's pictures: from the side, from above, and between."""


@dataclass(frozen=True, eq=False)
class Answer:
    """What is measured of a picture.

    Attributes:
        mesh: object frame.
        canonical: canonical positions of its vertices, where they are known.
        camera: as found from the picture alone, where it was.
    """

    mesh: trimesh.Trimesh
    canonical: np.ndarray | None = None
    camera: PhotoCamera | None = None


def measure_silhouettes(
    records: Sequence[ImageRecord],
    predict: Callable[[ImageRecord, Picture], Answer],
    rows: int,
    device: torch.device | str = "cpu",
    resolution: int = 0,
) -> tuple[dict[str, Any], list[dict[str, Any]], list[list[np.ndarray]]]:
    """Mask IoU from each picture's annotated camera, and where all have one from the camera that was found from the picture alone.

    The first counts what is lost by the annotation as well, which here is an estimate; the second cannot see an error that the found
    camera makes up for.

    Args:
        predict: a picture to its answer.
        rows: of the sheet, spread over the records.
        device: where `predict` computes; on the CPU several pictures are measured at a time.
        resolution: of its meshes.

    Returns:
        a summary, a row for each picture, and tiles of the sheet.
    """
    found, tiles = [], []
    shown = set(np.linspace(0, len(records) - 1, min(rows, len(records))).round().astype(int).tolist())

    def measured(numbered: tuple[int, ImageRecord]) -> tuple[dict[str, Any], list[list[np.ndarray]]]:
        number, record = numbered
        picture = read_picture(record.file, record.mask)
        answer = predict(record, picture)
        mesh, camera = answer.mesh, answer.camera
        seen = silhouette(
            mesh, record.intrinsics, record.extrinsics, record.model == "perspective", *picture.mask.shape
        )
        row = {"name": record.name, "mask_iou": mask_iou(seen, picture.mask), "empty": not len(mesh.faces)}
        if camera is not None:
            own = silhouette(mesh, camera.intrinsics, camera.extrinsics, camera.perspective, *picture.mask.shape)
            row["mask_iou_camera_found"] = mask_iou(own, picture.mask)
        return row, [_tiles(picture, seen, mesh, answer.canonical)] if number in shown else []

    with progress_bar() as bar:
        each = side_by_side(measured, list(enumerate(records)), device, resolution=resolution)
        for future in bar.track(each, description="evaluating", total=len(records)):
            row, drawn = future.result()
            found.append(row)
            tiles.extend(drawn)
    summary: dict[str, Any] = _statistics([row["mask_iou"] for row in found])
    own_cameras = [row["mask_iou_camera_found"] for row in found if "mask_iou_camera_found" in row]
    if own_cameras and len(own_cameras) == len(found):
        summary["camera_found"] = _statistics(own_cameras)
    return summary | {"count": len(found), "empty": sum(row["empty"] for row in found)}, found, tiles


def _statistics(values: Sequence[float]) -> dict[str, float]:
    return {
        "mask_iou": float(np.mean(values)),
        "mask_iou_median": float(np.median(values)),
        "mask_iou_worst_tenth": float(np.quantile(values, 0.1)),
    }


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
