"""Meshes drawn for people: smooth-shaded, in a soft light, from the camera of a picture or from all around.

Called by whatever shows a mesh: reports, sheets, overlays, the pictures of a training's log. Nothing here is differentiable.
"""

import numpy as np
import trimesh
from jaxtyping import Float, UInt8

from tars3d.geometry.camera import pinhole
from tars3d.geometry.rasterize import project, rasterize

ELEVATION = 20.0
"""Of the cameras of `orbit_views`, degrees."""
ORBIT = 3.0
"""Distance of the cameras of `orbit_camera`, in sides of the cube that they frame."""


def render_view(
    mesh: trimesh.Trimesh,
    intrinsics: Float[np.ndarray, "3 3"],
    extrinsics: Float[np.ndarray, "3 4"],
    perspective: bool,
    height: int,
    width: int,
    *,
    vertex_colors: Float[np.ndarray, "vertices 3"] | None = None,
    light: bool = True,
    supersample: int = 2,
) -> UInt8[np.ndarray, "height width 3"]:
    """Draws a mesh on white, smooth-shaded, two-sided, with a soft light that travels with the camera.

    Args:
        intrinsics, extrinsics, perspective: one camera, world-to-camera, pixel centres at +0.5.
        vertex_colors: RGB in [0, 1]; without them the mesh's own vertex colours, or grey where it has none.
        light: False paints the plain colours.
        supersample: samples per pixel side.
    """
    colors = _colors(mesh) if vertex_colors is None else np.asarray(vertex_colors, dtype=np.float64)
    scaled = np.diag([supersample, supersample, 1.0]) @ np.asarray(intrinsics, dtype=np.float64)
    rows, columns = height * supersample, width * supersample
    pixels, depth = project(mesh.vertices, scaled, extrinsics, perspective)
    face, weights, _ = rasterize(pixels, depth, mesh.faces, rows, columns, perspective=perspective)

    picture = np.ones((rows, columns, 3))
    hit = face >= 0
    weight = weights[hit]
    shade = np.einsum("nkc,nk->nc", colors[mesh.faces[face[hit]]], weight)
    if light:
        rotation = np.asarray(extrinsics, dtype=np.float64)[:, :3]
        normals = np.einsum("nkc,nk->nc", _corner_normals(mesh)[face[hit]], weight) @ rotation.T
        normals = _unit(normals)
        # Towards the viewer: scanned meshes mix their windings.
        normals *= np.where(normals[:, 2:] > 0, -1.0, 1.0)
        key_light = np.array([-0.4, -0.7, -0.6]) / np.linalg.norm([-0.4, -0.7, -0.6])
        diffuse = np.maximum(normals @ key_light, 0.0)
        sky = 0.5 - 0.5 * normals[:, 1]
        shade = shade * (0.32 + 0.16 * sky + 0.52 * diffuse)[:, None] * 1.1
    picture[hit] = shade
    # Slices added up are several times faster than a mean over the short axes.
    parts = [picture[i::supersample, j::supersample] for i in range(supersample) for j in range(supersample)]
    picture = sum(parts[1:], parts[0]) / len(parts)
    return (np.clip(picture, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)


def _colors(mesh: trimesh.Trimesh) -> np.ndarray:
    if mesh.visual is not None and mesh.visual.kind == "vertex":
        return np.asarray(mesh.visual.vertex_colors, dtype=np.float64)[:, :3] / 255.0  # type: ignore[union-attr]
    return np.full((len(mesh.vertices), 3), 0.78)


def _corner_normals(mesh: trimesh.Trimesh) -> np.ndarray:
    """A normal for each corner of each face: the vertex normal, but the face's own where they part by more
    than 30 degrees, so that a box keeps its edges."""
    vertices, faces = np.asarray(mesh.vertices), np.asarray(mesh.faces)
    corners = vertices[faces]
    # Their length is twice the area: the weight wanted in the sum at a vertex.
    face_normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    at_vertex = np.stack(
        [np.bincount(faces.ravel(), np.repeat(face_normals[:, k], 3), len(vertices)) for k in range(3)],
        axis=1,
    )
    smooth, flat = _unit(at_vertex)[faces], _unit(face_normals)
    crease = np.einsum("nkc,nc->nk", smooth, flat) < np.cos(np.pi / 6)
    crease &= np.einsum("nc,nc->n", flat, flat)[:, None] > 0.5  # a face without area has no normal of its own
    return np.where(crease[..., None], flat[:, None], smooth)


def orbit_camera(
    azimuth: float, elevation: float, size: int, *, extent: float = 1.0
) -> tuple[Float[np.ndarray, "3 3"], Float[np.ndarray, "3 4"]]:
    """A perspective camera (intrinsics, extrinsics) that looks at the origin and frames a cube of side
    `extent` around it from any azimuth. Angles in degrees; the camera's centre lies in direction (sin az cos
    el, sin el, -cos az cos el)."""
    az, el = np.radians([azimuth, elevation])
    direction = np.array([np.sin(az) * np.cos(el), np.sin(el), -np.cos(az) * np.cos(el)])
    forward = -direction
    down = np.array([0.0, -1.0, 0.0])
    if abs(forward[1]) > 0.9999:  # no horizon from straight above or below: any steady choice will do
        down = np.array([0.0, 0.0, np.sign(forward[1])])
    right = np.cross(down, forward)
    right /= np.linalg.norm(right)
    rotation = np.stack([right, np.cross(forward, right), forward])
    centre = ORBIT * extent * direction

    turn = np.radians(np.arange(0, 360, 5))  # the cube's corners, at every azimuth
    circle = np.sqrt(0.5) * np.c_[np.cos(turn), np.sin(turn)]
    cube = extent * np.concatenate([np.insert(circle, 1, y, axis=1) for y in (-0.5, 0.5)])
    seen = (cube - centre) @ rotation.T
    focal = 0.49 * size / np.abs(seen[:, :2] / seen[:, 2:]).max()
    return pinhole(focal, (size / 2, size / 2)), np.c_[rotation, -rotation @ centre]


def orbit_views(
    mesh: trimesh.Trimesh,
    *,
    count: int,
    size: int,
    vertex_colors: Float[np.ndarray, "vertices 3"] | None = None,
    extent: float = 1.0,
) -> list[UInt8[np.ndarray, "size size 3"]]:
    """Square pictures of a mesh in the object frame (Y up, unit cube) from `count` sides: azimuths 30, 120,
    210, 300 for four. `extent` is the side of the cube to frame."""
    cameras = [orbit_camera(30.0 + 360.0 * k / count, ELEVATION, size, extent=extent) for k in range(count)]
    return [render_view(mesh, k, rt, True, size, size, vertex_colors=vertex_colors) for k, rt in cameras]


def _unit(a: np.ndarray) -> np.ndarray:
    return a / np.maximum(np.sqrt(np.einsum("...k,...k->...", a, a)), 1e-30)[..., None]
