"""The pieces of a mesh that do not touch."""

from dataclasses import dataclass

import numpy as np
import trimesh
from jaxtyping import Float, Int
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components


@dataclass(frozen=True)
class Piece:
    """A part of a closed mesh that touches no other.

    Attributes:
        area: of its surface.
        radius: of a long round rod of as much surface and volume.
    """

    vertices: Float[np.ndarray, "vertices 3"]
    area: float
    radius: float

    @property
    def length(self) -> float:
        """Longest side of its box."""
        return float(np.ptp(self.vertices, axis=0).max())


def pieces_of(mesh: trimesh.Trimesh) -> list[Piece]:
    """The pieces of a closed mesh, from the largest area to the smallest."""
    if not len(mesh.faces):
        return []
    vertices, faces = np.asarray(mesh.vertices), np.asarray(mesh.faces)
    of_face = _piece_of_face(mesh)
    area = np.bincount(of_face, mesh.area_faces)
    volume = np.bincount(of_face, np.linalg.det(vertices[faces]) / 6)
    # a rod's volume is half its radius times its side; its ends count little
    return [
        Piece(vertices[np.unique(faces[of_face == piece])], float(area[piece]), float(2 * abs(volume[piece]) / area[piece]))
        for piece in np.argsort(-area)
    ]  # fmt: skip


def without_specks(mesh: trimesh.Trimesh, share: float = 0.01) -> trimesh.Trimesh:
    """The mesh without the pieces whose area is less than `share` of that of the largest; itself where there are none."""
    if not len(mesh.faces):
        return mesh
    piece = _piece_of_face(mesh)
    area = np.bincount(piece, mesh.area_faces)
    kept = area[piece] >= share * area.max()
    if kept.all():
        return mesh
    found = mesh.copy()
    found.update_faces(kept)
    found.remove_unreferenced_vertices()
    return found


def _piece_of_face(mesh: trimesh.Trimesh) -> Int[np.ndarray, "faces"]:
    """The number of the piece that each face is part of, from 0 and without gaps."""
    faces = np.asarray(mesh.faces)
    ends = (faces.ravel(), np.roll(faces, 1, axis=1).ravel())
    joined = coo_matrix((np.ones(faces.size, bool), ends), shape=2 * (len(mesh.vertices),))
    found = connected_components(joined, directed=False)[1][faces[:, 0]]
    return np.unique(found, return_inverse=True)[1]
