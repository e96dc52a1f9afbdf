"""Image textures for meshes: unwrap with xatlas, and bake colours of surface points into a picture.

Called by `tars3d reconstruct` with `--texture baked` or `photo`, and by `transfer texture` with `baked`. xatlas is optional: extra
`texture`.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import trimesh
from jaxtyping import Float, Int, UInt8
from PIL import Image
from scipy.ndimage import distance_transform_edt

from tars3d.errors import UserError, install_extra
from tars3d.export import export_mesh
from tars3d.geometry.rasterize import rasterize

PADDING = 4
"""Texels between charts."""

AT_ONCE = 100_000
"""Texels that are matched together."""

Painter = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Faces [n] and barycentric weights [n, 3] to sRGB values of 0 to 255 [n, 3]."""


@dataclass(frozen=True)
class Unwrapped:
    """A mesh cut open along seams.

    Attributes:
        origin: vertex of the mesh that each new one is a copy of.
        faces: of new vertices, in the order of the mesh's faces.
        uv: texture coordinates of the new vertices, u to the right, v down, both from 0 to 1 (as in glTF).
    """

    origin: Int[np.ndarray, " new"]
    faces: Int[np.ndarray, "faces 3"]
    uv: Float[np.ndarray, "new 2"]


def unwrap(mesh: trimesh.Trimesh, size: int) -> Unwrapped:
    """Texture coordinates for a picture of `size` texels a side.

    Raises:
        UserError: xatlas is not installed.
    """
    xatlas = _xatlas("an image texture")
    atlas = xatlas.Atlas()
    atlas.add_mesh(np.asarray(mesh.vertices, np.float32), np.asarray(mesh.faces, np.uint32))
    charts, pack = xatlas.ChartOptions(), xatlas.PackOptions()
    charts.max_cost = 8.0  # larger charts: fewer seams, and several times faster on the fine meshes of an isosurface
    pack.resolution, pack.padding, pack.bilinear = size, PADDING, True
    atlas.generate(charts, pack)
    origin, faces, uv = atlas[0]
    return Unwrapped(origin.astype(np.int64), faces.astype(np.int64), uv.astype(np.float64))


def bake(unwrapped: Unwrapped, size: int, colors: Painter) -> UInt8[np.ndarray, "size size 3"]:
    """The picture of a texture: `colors` is asked once for every texel that lies in a face.

    Texels outside the charts take the nearest colour inside, so that no background bleeds in at the seams.
    """
    texels = unwrapped.uv * size
    face, weights, _ = rasterize(texels, np.zeros(len(texels)), unwrapped.faces, size, size)
    inside = face >= 0
    if not inside.any():
        raise UserError(f"--texture-size {size}: too small for this mesh; choose a larger one")
    picture = np.zeros((size, size, 3), np.uint8)
    picture[inside] = np.round(colors(face[inside], weights[inside]))
    rows, columns = np.asarray(distance_transform_edt(~inside, return_distances=False, return_indices=True))
    return picture[rows, columns]


def in_pieces(colors: Painter) -> Painter:
    """The same colours, asked for `AT_ONCE` points at a time: what that takes does not grow with the picture."""

    def piecewise(face: np.ndarray, weights: np.ndarray) -> np.ndarray:
        starts = range(0, max(1, len(face)), AT_ONCE)
        return np.concatenate([colors(face[i : i + AT_ONCE], weights[i : i + AT_ONCE]) for i in starts])

    return piecewise


def check_texture(texture: str, size: int) -> None:
    """Refuse, before any work, an image texture of a senseless size, and one without xatlas. Colours of the vertices need neither.

    Args:
        texture: what --texture says: vertex, baked or photo.
    """
    if texture == "vertex":
        return
    if not 64 <= size <= 8192:
        raise UserError(f"--texture-size {size}: choose a number from 64 to 8192")
    _xatlas(f"--texture {texture}")


def _xatlas(asked: str) -> Any:
    """The module, for what was asked."""
    try:
        import xatlas  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise UserError(f"{asked}: needs xatlas; give it with {install_extra('texture')}") from None
    return xatlas


def write_baked(
    path: Path,
    mesh: trimesh.Trimesh,
    canonical: Float[np.ndarray, "vertices channels"] | None,
    space: str | None,
    colors: Painter,
    size: int,
) -> list[Path]:
    """Write a mesh as a GLB with an image texture; its canonical map, if it has one, follows the vertices that seams repeat.

    Raises:
        UserError: xatlas is not installed, or the place cannot be written.
    """
    unwrapped = unwrap(mesh, size)
    opened = trimesh.Trimesh(
        mesh.vertices[unwrapped.origin],
        unwrapped.faces,
        vertex_normals=mesh.vertex_normals[unwrapped.origin],  # of the whole surface: no edge shows at a seam
        process=False,
    )
    picture = png_bytes(bake(unwrapped, size, colors))
    texture = (unwrapped.uv, picture)
    canonical = None if canonical is None else canonical[unwrapped.origin]
    return export_mesh(opened, canonical, path, "glb", space=space, texture=texture)


def png_bytes(picture: UInt8[np.ndarray, "height width 3"]) -> bytes:
    """The picture as a PNG file."""
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "PNG", optimize=True)
    return stream.getvalue()
