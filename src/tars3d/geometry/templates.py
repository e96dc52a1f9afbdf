"""Template meshes for the systems that deform one: the subdivided icosahedron, its mirror pairs, and the checks a user's mesh must pass.

`methods.softras` and `methods.cmr` call it.
"""

import os
from dataclasses import dataclass

import numpy as np
import trimesh
from jaxtyping import Float, Int
from scipy.spatial import KDTree

from tars3d.errors import UserError
from tars3d.geometry.mesh_files import joined, read_parts

_RAYS_AT_ONCE = 64
_TOLERANCE = 1e-6
"""Of mirror images, in units of the mesh."""


@dataclass(frozen=True, eq=False)
class Template:
    """A closed mesh, faces outward."""

    vertices: Float[np.ndarray, "vertices 3"]
    faces: Int[np.ndarray, "faces 3"]


@dataclass(frozen=True, eq=False)
class MirrorPairs:
    """How a mesh that is symmetric about x = 0 follows from half of its vertices.

    Attributes:
        half: the vertices that are free: those on the plane, and those at positive x.
        source: for every vertex, the entry of `half` that it takes its position from.
        sign: what that position is multiplied by: x by 1, -1 (mirrored), or 0 (on the plane).
    """

    half: Int[np.ndarray, " half"]
    source: Int[np.ndarray, " vertices"]
    sign: Float[np.ndarray, "vertices 3"]


def icosphere(subdivisions: int = 3) -> Template:
    """The unit icosahedron, its faces cut into four `subdivisions` times: 10 · 4^n + 2 vertices, 20 · 4^n faces.

    Exactly symmetric about all three coordinate planes: coordinates that rounding leaves beside 0 are 0.

    Raises:
        UserError: more than 6 subdivisions, or fewer than 0.
    """
    if not 0 <= subdivisions <= 6:
        raise UserError(f"template: {subdivisions} subdivisions of an icosahedron; choose a number from 0 to 6")
    mesh = trimesh.creation.icosphere(subdivisions=subdivisions)
    vertices = np.round(np.asarray(mesh.vertices), 9) + 0.0  # -0.0 becomes 0.0
    return Template(vertices, np.asarray(mesh.faces, dtype=np.int64))


def mirror_pairs(vertices: Float[np.ndarray, "vertices 3"]) -> MirrorPairs:
    """Pairs each vertex with its mirror image at x = 0.

    Raises:
        UserError: a vertex has none.
    """
    distance, partner = KDTree(vertices).query(vertices * [-1.0, 1.0, 1.0])
    if (distance > _TOLERANCE).any():
        raise UserError(
            f"template: {(distance > _TOLERANCE).sum()} of {len(vertices)} vertices have no mirror image at x = 0; "
            "give a template that is symmetric left to right"
        )
    x = vertices[:, 0]
    free = x > -_TOLERANCE
    number = np.cumsum(free) - 1
    source = np.where(free, number, number[partner])
    sign = np.ones_like(vertices)
    sign[:, 0] = np.where(np.abs(x) <= _TOLERANCE, 0.0, np.sign(x))
    return MirrorPairs(np.flatnonzero(free), source, sign)


def check_template(vertices: np.ndarray, faces: np.ndarray, name: str) -> None:
    """Refuse a mesh that the losses on meshes make no sense for.

    Raises:
        UserError: it has no faces, a vertex is not finite, a face is degenerate, or the surface is not closed.
    """
    if not len(faces):
        raise UserError(f"{name}: holds no faces; give a closed triangle mesh")
    if not np.isfinite(vertices).all():
        raise UserError(f"{name}: a vertex is not finite; export the mesh again")
    corners = vertices[faces]
    edges = np.roll(corners, -1, axis=1) - corners
    area = np.linalg.norm(np.cross(edges[:, 0], edges[:, 1]), axis=1)
    thin = area <= 1e-9 * np.maximum((edges**2).sum(axis=(1, 2)), 1e-30)
    if thin.any():
        raise UserError(
            f"{name}: {thin.sum()} of {len(faces)} faces are degenerate (no area), first face {np.flatnonzero(thin)[0]}; "
            "merge doubled vertices and delete faces without area"
        )
    directed = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    _, counts = np.unique(np.sort(directed, axis=1), axis=0, return_counts=True)
    if (counts != 2).any():
        raise UserError(
            f"{name}: the mesh is not closed: {(counts != 2).sum()} of {len(counts)} edges do not have two faces; fill its holes"
        )
    if len(np.unique(directed, axis=0)) != len(directed):
        raise UserError(f"{name}: neighbouring faces are wound in opposite directions; make its normals consistent")


def load_template(path: str | os.PathLike) -> Template:
    """A user's template mesh (PLY, OBJ, GLB, STL, OFF), checked; vertices at the same place are one.

    Raises:
        UserError: it cannot be read, a face is of vertices that are not there, or see `check_template`.
    """
    mesh = joined(read_parts(path))
    vertices, inverse = np.unique(np.asarray(mesh.vertices, dtype=np.float64), axis=0, return_inverse=True)
    faces = np.asarray(inverse).reshape(-1)[np.asarray(mesh.faces, dtype=np.int64)]
    check_template(vertices, faces, str(path))
    return Template(vertices, faces)


def pushed_onto(
    directions: Float[np.ndarray, "vertices 3"], surface: Template, name: str
) -> Float[np.ndarray, "vertices 3"]:
    """For each direction the furthest point at which the ray from the origin meets the surface.

    CMR's published code makes its first mean shape of a sphere in this way.

    Raises:
        UserError: a ray meets nothing: the origin is not inside.
    """
    corners = surface.vertices[surface.faces]
    first, second = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    unit = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    reach = np.full(len(unit), -np.inf)
    for start in range(0, len(unit), _RAYS_AT_ONCE):  # Möller and Trumbore's intersection, all faces at once
        ray = unit[start : start + _RAYS_AT_ONCE, None]
        p = np.cross(ray, second[None])
        determinant = (first * p).sum(-1)
        inverse = 1 / np.where(np.abs(determinant) < 1e-15, np.inf, determinant)
        s = -corners[:, 0]
        u = (s * p).sum(-1) * inverse
        q = np.cross(s, first)
        v = (ray * q).sum(-1) * inverse
        t = (second * q).sum(-1) * inverse
        hit = (u >= -1e-9) & (v >= -1e-9) & (u + v <= 1 + 1e-9) & (t > 0) & (np.abs(determinant) >= 1e-15)
        reach[start : start + _RAYS_AT_ONCE] = np.where(hit, t, -np.inf).max(1)
    if not np.isfinite(reach).all():
        raise UserError(
            f"{name}: {(~np.isfinite(reach)).sum()} of {len(unit)} rays from the origin meet no surface; centre the mesh at the origin"
        )
    return unit * reach[:, None]
