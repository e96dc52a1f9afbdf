"""Colours of a reconstruction by its own pictures: `reconstruct` gives them to its vertices, `reconstruct_files` bakes them."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from trimesh.visual import ColorVisuals

from tars3d.data.pictures import Picture
from tars3d.errors import UserError
from tars3d.methods.surface import at_points
from tars3d.photo.reconstruction import Reconstruction
from tars3d.photo.texture import PhotoColors


def photo_colors(
    pictures: Sequence[Picture], found: Reconstruction, symmetric: bool, device: torch.device
) -> PhotoColors:
    """The pictures on the surface that was reconstructed from them; the rest takes its mirrored side, where the object is
    `symmetric`, and else the colour field. Of several pictures, those count whose cameras are to be trusted, if any are.

    Args:
        symmetric: whether the object mirrors at x = 0.
        device: of the reconstruction's fields.

    Raises:
        UserError: the reconstruction has no cameras, or no surface.
    """
    if not found.cameras or not len(found.mesh.faces):
        raise UserError("photo_colors: needs a surface and its picture's camera; reconstruct with camera='search'")

    def field(points: np.ndarray) -> np.ndarray:
        return 255 * at_points(found.shape.color, points, device).clip(0, 1).astype(np.float64)

    pairs = list(zip(pictures, found.cameras, strict=True))
    trusted = [pair for pair in pairs if pair[1].trusted] or pairs
    shown, cameras = zip(*trusted, strict=True)
    return PhotoColors(shown, found.mesh, cameras, field, mirror=symmetric)


def in_photo_colors(
    pictures: Sequence[Picture], found: Reconstruction, symmetric: bool, device: torch.device
) -> Reconstruction:
    """The reconstruction with its pictures' colours at the vertices; as it is where no camera is to be trusted.

    Arguments as of `photo_colors`.
    """
    if not len(found.mesh.faces) or not any(camera.trusted for camera in found.cameras):
        return found
    colors = photo_colors(pictures, found, symmetric, device).at_vertices()
    mesh = found.mesh.copy()
    mesh.visual = ColorVisuals(mesh, vertex_colors=colors.rgb.round().astype(np.uint8))
    return replace(found, mesh=mesh, colors=colors)
