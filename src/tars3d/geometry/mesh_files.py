"""Mesh files of users, read and checked in one place: what lacks faces or names vertices that are not there is refused by its name.

`export`, `transfer.painted`, `data.rendering.meshes`, `data.importers.pascal3d` and `geometry.templates` read with it.
"""

import io
import json
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import trimesh
from jaxtyping import Float
from trimesh.resolvers import FilePathResolver

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
    """The meshes of a GLB, glTF, OBJ, PLY, STL or OFF, their vertices as they are in the file (none merged); at least one.

    Raises:
        UserError: the file is missing or cannot be read, holds no faces, or has faces of vertices that it lacks.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file; check the name")
    try:
        found = _parts(_loaded(path))
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


def _loaded(path: Path) -> Any:
    """What trimesh makes of a file; glTF, in either form, as `_with_materials` says."""
    kind = path.suffix.lower().removeprefix(".")
    if kind not in ("glb", "gltf"):
        return trimesh.load(path, process=False)
    data = path.read_bytes()
    start, end = (20, 20 + int.from_bytes(data[12:16], "little")) if kind == "glb" else (0, len(data))
    tree = json.loads(data[start:end])
    if _with_materials(tree):
        text = json.dumps(tree).encode()
        text += b" " * (-len(text) % 4)
        rest = data[end:]
        sizes = struct.pack("<II4s", start + len(text) + len(rest), len(text), b"JSON")
        data = (data[:8] + sizes if kind == "glb" else b"") + text + rest
    return trimesh.load(io.BytesIO(data), file_type=kind, resolver=FilePathResolver(str(path)), process=False)


def _with_materials(tree: dict[str, Any]) -> bool:
    """Give glTF's usual material to vertex colours that have none; False, and nothing changed, where all have one, or trimesh wrote the file.

    Without, trimesh would take linear light as sRGB, and the low bytes of 16-bit numbers. Into its own files it writes sRGB.
    """
    primitives = [primitive for mesh in tree.get("meshes", []) for primitive in mesh["primitives"]]
    bare = [
        primitive for primitive in primitives if "COLOR_0" in primitive["attributes"] and "material" not in primitive
    ]
    if not bare or "mikedh/trimesh" in tree["asset"].get("generator", ""):
        return False
    tree.setdefault("materials", []).append({})
    for primitive in bare:
        primitive["material"] = len(tree["materials"]) - 1
    return True
