"""Mesh files of users, read and checked in one place: what lacks faces or names vertices that are not there is refused by its name.

`export`, `transfer.painted`, `data.meshes`, `data.import_pascal3d` and `geometry.templates` read with it.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import trimesh
from jaxtyping import Float

from tars3d.errors import UserError, reason_of
from tars3d.geometry.triangles import faces_fit


@dataclass(frozen=True, eq=False)
class MeshPart:
    """One mesh of a file, and where its scene puts it."""

    mesh: trimesh.Trimesh
    place: Float[np.ndarray, "4 4"]

    def placed(self) -> trimesh.Trimesh:
        """The mesh there, with its colours."""
        return self.mesh if np.array_equal(self.place, np.eye(4)) else self.mesh.copy().apply_transform(self.place)


def read_parts(path: str | os.PathLike) -> list[MeshPart]:
    """The meshes of a GLB, OBJ, PLY, STL or OFF, their vertices as they are in the file (none merged); at least one.

    Raises:
        UserError: the file is missing or cannot be read, holds no faces, or has faces of vertices that it lacks.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file; check the name")
    try:
        loaded: Any = trimesh.load(path, process=False)
        found = _parts(loaded)
    except Exception as error:  # trimesh's readers raise nearly anything on damaged files
        raise UserError(
            f"{path}: cannot be read as a mesh ({reason_of(error)}); export it again, as GLB, OBJ or PLY"
        ) from None
    parts = [part for part in found if isinstance(part.mesh, trimesh.Trimesh) and len(part.mesh.faces)]
    if not parts:
        raise UserError(f"{path}: holds no faces; export it as a mesh of triangles")
    if not all(faces_fit(part.mesh.faces, len(part.mesh.vertices)) for part in parts):
        raise UserError(f"{path}: has faces of vertices that it lacks; repair and export it again")
    return parts


def joined(parts: Sequence[MeshPart]) -> trimesh.Trimesh:
    """Parts as one mesh, in their order."""
    placed = [part.placed() for part in parts]
    if len(placed) == 1:
        return placed[0]
    whole = trimesh.util.concatenate(placed)
    assert isinstance(whole, trimesh.Trimesh)  # of meshes it is one
    return whole


def _parts(loaded: Any) -> list[MeshPart]:
    if not isinstance(loaded, trimesh.Scene):
        return [MeshPart(loaded, np.eye(4))]
    nodes = [loaded.graph[node] for node in loaded.graph.nodes_geometry]  # `dump` would lose the vertex colours of glTF
    return [MeshPart(loaded.geometry[name], np.asarray(place)) for place, name in nodes]
