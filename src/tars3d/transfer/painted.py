"""Meshes as users bring them back from Blender or MeshLab: surface points with the colours that were painted on.

Vertex colours, face colours, an image texture with UVs, or the colours of materials. Called by `transfer.session` and `transfer.labels`.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import trimesh
from jaxtyping import Float, Int, UInt8

from tars3d.data.pictures import channels
from tars3d.errors import UserError
from tars3d.geometry.mesh_files import read_parts
from tars3d.geometry.mesh_formats import gltf_light, image_texture, linear_from_srgb, material_colors, srgb_from_linear
from tars3d.geometry.rasterize import project, rasterize
from tars3d.geometry.triangles import sample_faces
from tars3d.geometry.views import orbit_camera
from tars3d.texture import Painter


@dataclass(frozen=True)
class PaintedMesh:
    """A mesh file: one mesh of all its parts, vertices as they are in the file.

    Attributes:
        painters: for each part its number of faces and what colours them, None where it carries no colours.
    """

    path: Path
    mesh: trimesh.Trimesh
    painters: tuple[tuple[int, Painter | None], ...]

    def colors(
        self, face: Int[np.ndarray, " points"], weights: Float[np.ndarray, "points 3"]
    ) -> UInt8[np.ndarray, "points 3"]:
        """The colours of surface points.

        Raises:
            UserError: the file carries no colours.
        """
        colors = np.zeros((len(face), 3))
        start = 0
        for count, painter in self.painters:
            here = (face >= start) & (face < start + count)
            if here.any():
                if painter is None:
                    raise UserError(f"{self.path}: has faces without colours; {_cure(self.path)}")
                colors[here] = painter(face[here] - start, weights[here])
            start += count
        return np.round(colors).astype(np.uint8)

    def view(
        self, azimuth: float, elevation: float, size: int, *, extent: float = 1.0
    ) -> UInt8[np.ndarray, "size size 3"]:
        """The mesh in its own colours, without light, on white; camera as of `views.orbit_camera`, edges smoothed.

        Raises:
            UserError: the file carries no colours.
        """
        fine = 2 * size
        intrinsics, extrinsics = orbit_camera(azimuth, elevation, fine, extent=extent)
        pixels, depth = project(self.mesh.vertices, intrinsics, extrinsics, True)
        face, weights, _ = rasterize(pixels, depth, self.mesh.faces, fine, fine, perspective=True)
        picture = np.full((fine, fine, 3), 255.0)
        picture[face >= 0] = self.colors(face[face >= 0], weights[face >= 0])
        return picture.reshape(size, 2, size, 2, 3).mean(axis=(1, 3)).round().astype(np.uint8)

    def sample(self, count: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """`count` points spread over the surface: positions [n, 3], faces [n], barycentric weights [n, 3]."""
        triangles = np.asarray(self.mesh.triangles)
        face, weights = sample_faces(triangles, count, np.random.default_rng(seed))
        return np.einsum("nk,nkc->nc", weights, triangles[face]), face, weights


def read_painted(path: Path) -> PaintedMesh:
    """Read a GLB, OBJ or PLY with its colours.

    Raises:
        UserError: the file is missing, cannot be read, holds no faces, or is damaged.
    """
    parts = read_parts(path)
    starts = np.cumsum([0, *(len(part.mesh.vertices) for part in parts)])
    vertices = np.concatenate([trimesh.transform_points(part.mesh.vertices, part.place) for part in parts])
    # corners in the order of the file, as painters know them, even where a scene mirrors a part
    faces = np.concatenate([part.mesh.faces + start for part, start in zip(parts, starts[:-1], strict=True)])
    mesh = trimesh.Trimesh(vertices, faces, process=False)
    if not np.isfinite(vertices).all():
        raise UserError(f"{path}: has vertices that are NaN or infinite; repair and export it again")
    if not mesh.area:
        raise UserError(f"{path}: its faces have no area; repair and export it again")
    lost = bool(_lost_files(path))
    painters = [_painter(part.mesh, f"{path}: its image texture", lost) for part in parts]
    if path.suffix.lower() in (".glb", ".gltf") and any(painters):
        painters = [painter or _white for painter in painters]  # what glTF says of a part without colours
    return PaintedMesh(path, mesh, tuple(zip((len(part.mesh.faces) for part in parts), painters, strict=True)))


def _lost_files(path: Path) -> list[str]:
    """The files of materials and of their pictures that an OBJ names and that are not there."""
    named = _named(path, "mtllib")[:1] if path.suffix.lower() == ".obj" else []  # trimesh reads the first
    named += [picture for library in named for picture in _named(path.parent / library, "map_Kd")]
    return [name for name in named if not (path.parent / name).is_file()]


def _named(path: Path, key: str) -> list[str]:
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    return [name.strip() for name in re.findall(rf"^\s*{key}\s(.+)$", text, re.MULTILINE | re.IGNORECASE)]


def _cure(path: Path) -> str:
    if lost := _lost_files(path):
        return f"they are in {lost[0]}, which is missing: put it beside the mesh, or export both again"
    return "paint vertex colours, an image texture or materials, and export them"


def _white(face: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return np.full((len(face), 3), 255.0)


def _painter(part: trimesh.Trimesh, name: str, lost: bool) -> Painter | None:
    """What colours a part; `lost`: its material does not say, as its files are not there."""
    visual: Any = part.visual
    faces = np.asarray(part.faces)
    if visual is None or visual.kind is None:
        return None
    if visual.kind == "face":
        face_colors = np.asarray(visual.face_colors, dtype=np.float64)[:, :3]
        return lambda face, weights: face_colors[face]
    if visual.kind == "texture":
        image, light = image_texture(visual), gltf_light(part)
        if image is not None:
            return _textured(
                channels(image, name)[0], np.asarray(visual.uv)[faces], None if light is None else light[faces]
            )
        colors = material_colors(part) if light is None else srgb_from_linear(light)
        if colors is None or (lost and "color" not in part.vertex_attributes):
            return None
    else:
        colors = visual.vertex_colors
    corners = np.asarray(colors, dtype=np.float64)[:, :3][faces]
    return lambda face, weights: np.einsum("nk,nkc->nc", weights, corners[face])


def _textured(
    picture: UInt8[np.ndarray, "height width 3"],
    uv: Float[np.ndarray, "faces 3 2"],
    light: Float[np.ndarray, "faces 3 3"] | None,
) -> Painter:
    """Colours of an image texture, times `light` (linear) as in glTF; both at the corners of each face."""
    pixels = picture.astype(np.float64)

    def paint(face: np.ndarray, weights: np.ndarray) -> np.ndarray:
        colors = bilinear(pixels, np.einsum("nk,nkc->nc", weights, uv[face]))
        if light is None:
            return colors
        return srgb_from_linear(
            linear_from_srgb(colors.round().astype(np.uint8)) * np.einsum("nk,nkc->nc", weights, light[face])
        )

    return paint


def bilinear(
    pixels: Float[np.ndarray, "height width 3"], uv: Float[np.ndarray, "points 2"]
) -> Float[np.ndarray, "points 3"]:
    """The image at texture coordinates: u to the right, v up, both from 0 to 1, repeating beyond."""
    height, width = pixels.shape[:2]
    x = uv[:, 0] * width - 0.5
    y = (1 - uv[:, 1]) * height - 0.5
    left, top = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
    right_share, low_share = (x - left)[:, None], (y - top)[:, None]
    rows, columns = (top % height, (top + 1) % height), (left % width, (left + 1) % width)
    upper = pixels[rows[0], columns[0]] * (1 - right_share) + pixels[rows[0], columns[1]] * right_share
    lower = pixels[rows[1], columns[0]] * (1 - right_share) + pixels[rows[1], columns[1]] * right_share
    return upper * (1 - low_share) + lower * low_share
