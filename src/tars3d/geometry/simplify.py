"""A mesh of fewer faces and about the same surface: flat places need few. `trained_model` calls it."""

from typing import Any

import numpy as np
import trimesh
from jaxtyping import Float, Int
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

APART = 0.02
"""How far towards the middle of its faces a vertex is moved that lies where another one does, so that programs which merge vertices leave them two."""


def simplified(mesh: trimesh.Trimesh, faces: int) -> trimesh.Trimesh:
    """The mesh with at most so many faces, without colours; itself where it has no more.

    Edges are collapsed where that moves the surface least, by quadric error metrics (Garland and Heckbert, SIGGRAPH 1997). A closed mesh stays closed.
    """
    if len(mesh.faces) <= faces:
        return mesh
    from fast_simplification import simplify  # not at every start

    points: Any = np.asarray(mesh.vertices, np.float32)
    vertices, fewer, *_ = simplify(points, np.asarray(mesh.faces, np.int32), target_count=faces)
    # What was a sliver may be two faces back to back now, with nothing between them.
    _, first, times = np.unique(np.sort(fewer, axis=1), axis=0, return_inverse=True, return_counts=True)
    found = trimesh.Trimesh(*_split(vertices, fewer[times[first.ravel()] == 1]), process=False)
    found.remove_unreferenced_vertices()
    found.vertices = _pulled_apart(np.asarray(found.vertices), np.asarray(found.faces))
    return found


def _split(
    vertices: Float[np.ndarray, "vertices 3"], faces: Int[np.ndarray, "faces 3"]
) -> tuple[Float[np.ndarray, "more 3"], Int[np.ndarray, "faces 3"]]:
    """The surface without edges where it touches itself, which have four faces: one end of them becomes two corners at one place, one of each of
    the sheets that meet there."""
    while len(crowded := _crowded(faces)):
        corner = crowded[0, 0]
        around = np.flatnonzero((faces == corner).any(axis=1))
        # Faces at the corner that share another edge there, which is not crowded, are of one sheet.
        others = faces[around][faces[around] != corner].reshape(-1, 2)
        aside = ~np.isin(others, crowded[(crowded == corner).any(axis=1)])
        row = np.arange(len(around)).repeat(2)[aside.ravel()]
        shares = coo_matrix((np.ones(len(row), bool), (row, others[aside])), shape=(len(around), len(vertices))).tocsr()
        sheets, sheet = connected_components(shares @ shares.T, directed=False)
        if sheets < 2:
            break
        numbers = np.r_[corner, len(vertices) + np.arange(sheets - 1)]
        faces[around] = np.where(faces[around] == corner, numbers[sheet][:, None], faces[around])
        vertices = np.concatenate([vertices, vertices[[corner] * (sheets - 1)]])
    return vertices, faces


def _pulled_apart(
    vertices: Float[np.ndarray, "vertices 3"], faces: Int[np.ndarray, "faces 3"]
) -> Float[np.ndarray, "vertices 3"]:
    """The vertices, of which those at one place are moved a little into their own faces."""
    _, place, times = np.unique(vertices, axis=0, return_inverse=True, return_counts=True)
    middle = np.zeros_like(vertices)
    np.add.at(middle, faces, vertices[faces].mean(axis=1, keepdims=True))
    middle /= np.bincount(faces.ravel(), minlength=len(vertices))[:, None]
    return np.where(times[place.ravel()][:, None] > 1, vertices + APART * (middle - vertices), vertices)


def _crowded(faces: Int[np.ndarray, "faces 3"]) -> Int[np.ndarray, "edges 2"]:
    """The edges that more than two faces share."""
    edges = np.sort(faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
    found, times = np.unique(edges, axis=0, return_counts=True)
    return found[times > 2]
