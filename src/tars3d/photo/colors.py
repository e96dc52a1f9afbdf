"""Colours of a reconstruction by its own picture. `reconstruct_files` bakes them; part labels look at them for their borders."""

import numpy as np
import torch

from tars3d.appearance import SurfaceColors
from tars3d.data.pictures import Picture
from tars3d.errors import UserError
from tars3d.export import vertex_colors
from tars3d.methods.surface import at_points
from tars3d.photo.reconstruction import Reconstruction
from tars3d.photo.texture import PhotoColors


def photo_colors(picture: Picture, found: Reconstruction, symmetric: bool, device: torch.device) -> PhotoColors:
    """The picture on the surface that was reconstructed from it; the rest takes its mirrored side, where the object is
    `symmetric`, and else the colour field.

    Args:
        symmetric: whether the object mirrors at x = 0.
        device: of the reconstruction's fields.

    Raises:
        UserError: the reconstruction has no camera, or no surface.
    """
    if found.camera is None or not len(found.mesh.faces):
        raise UserError("photo_colors: needs a surface and its picture's camera; reconstruct with camera='search'")

    def field(points: np.ndarray) -> np.ndarray:
        return 255 * at_points(found.shape.color, points, device).clip(0, 1).astype(np.float64)

    return PhotoColors(picture, found.mesh, found.camera, field, mirror=symmetric)


def surface_colors(
    picture: Picture, found: Reconstruction, symmetric: bool, device: torch.device
) -> SurfaceColors | None:
    """Colours of the vertices: the picture's where its camera is known and to be trusted, else the colour field's; None where there are none."""
    if found.camera is not None and found.camera.trusted and len(found.mesh.faces):
        return photo_colors(picture, found, symmetric, device).at_vertices()
    return SurfaceColors.guessed(vertex_colors(found.mesh))
