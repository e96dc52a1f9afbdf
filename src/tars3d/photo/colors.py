"""Colours of a reconstruction by its own picture. `reconstruct_files` bakes them; part labels look at them for their borders."""

from collections.abc import Sequence

import numpy as np
import torch

from tars3d.appearance import SurfaceColors
from tars3d.data.pictures import Picture
from tars3d.errors import UserError
from tars3d.export import vertex_colors
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


def surface_colors(
    picture: Picture, found: Reconstruction, symmetric: bool, device: torch.device
) -> SurfaceColors | None:
    """Colours of the vertices: the picture's where its camera is known and to be trusted, else the colour field's; None where there are none."""
    if found.camera is not None and found.camera.trusted and len(found.mesh.faces):
        return photo_colors([picture], found, symmetric, device).at_vertices()
    return SurfaceColors.guessed(vertex_colors(found.mesh))
