"""Meshes as files that open upright and in the right colours elsewhere: GLB, OBJ, PLY; the canonical map
goes with them.

Called by `tars3d reconstruct` and `transfer`, and by users through `result.mesh`.
"""

import os
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import trimesh
from jaxtyping import Float, Float32, UInt8

from tars3d.atomic import atomic_path
from tars3d.errors import UserError
from tars3d.geometry.mesh_files import joined, read_parts
from tars3d.geometry.mesh_formats import (
    glb_bytes,
    gltf_light,
    image_texture,
    linear_from_srgb,
    material_colors,
    obj_text,
    ply_bytes,
    srgb_from_linear,
)

FORMATS = ("glb", "obj", "ply")
MAP_BESIDE = (".glb", ".gltf", ".obj")
"""Endings of meshes whose canonical map is a file of its own: all meshes of one name share it."""


def export_mesh(
    mesh: trimesh.Trimesh,
    canonical: Float[np.ndarray, "vertices channels"] | None,
    path: str | os.PathLike,
    format: str | None = None,
    *,
    space: str | None = None,
    texture: tuple[Float[np.ndarray, "vertices 2"], bytes] | None = None,
) -> list[Path]:
    """Write a mesh with its vertex colours, smooth normals and canonical coordinates; return the files
    written.

    The object frame (Y up, right-handed, front towards -Z) is written as it is. It is also glTF's frame, so
    browsers and Blender show a GLB upright; glTF's own front is +Z, so viewers open on the object's back
    until turned.

    Args:
        mesh: in the object frame; `mesh.visual.vertex_colors` (sRGB bytes) are kept if there are any.
        canonical: [V, 3 + k], canonical position and point features of each vertex. In a PLY they are the vertex properties
            cx cy cz f0 f1 ..., otherwise they go to NAME.canonical.npz beside the mesh.
        path: where to write; parent folders are made, and the file appears whole or not at all.
        format: glb, obj or ply; by default the ending of `path`.
        space: which canonical space it is (`Reconstructor.space`), noted in the file.
        texture: of a GLB, instead of vertex colours: uv of each vertex (v down, 0 to 1) and a PNG file's bytes.

    Raises:
        UserError: unknown format, a mesh without faces, or a place that cannot be written.
        ValueError: `canonical` does not match the vertices.
    """
    path = Path(path)
    format = (format or path.suffix.lstrip(".")).lower()
    if format not in FORMATS:
        raise UserError(f"{path}: '{format}' is not a format that can be written; choose one of {', '.join(FORMATS)}")
    ending = path.suffix.lower().lstrip(".")
    if ending in ("gltf", *FORMATS) and ending != format:
        raise UserError(f"{path}: is named as {ending} but would be written as {format}; give it the ending .{format}")
    if len(mesh.faces) == 0:
        raise UserError(f"{path}: the mesh is empty, no surface was found; try another picture or model")
    if canonical is not None and (canonical.ndim != 2 or len(canonical) != len(mesh.vertices)):
        raise ValueError(f"canonical: shape {canonical.shape} does not match {len(mesh.vertices)} vertices")

    if texture is not None and format != "glb":
        raise UserError(f"{path}: an image texture is only written into GLB; choose --format glb")
    beside = canonical_path(path)
    kept = None if canonical is None or format == "ply" else _kept_map(path, beside)
    if kept is not None and not np.array_equal(kept, np.asarray(canonical, np.float32)):
        raise _other_map(path)
    colors = None if texture is not None else vertex_colors(mesh)
    with atomic_path(path) as temporary:
        if format == "glb":
            temporary.write_bytes(glb_bytes(mesh, colors, path.stem, space, texture))
        elif format == "obj":
            temporary.write_text(obj_text(mesh, colors, path.stem, space), encoding="utf-8", errors="replace")
        else:
            temporary.write_bytes(ply_bytes(mesh, colors, canonical, space))
    written = [path]
    if canonical is not None and format != "ply":
        with atomic_path(beside) as temporary:
            np.savez_compressed(temporary, canonical=np.asarray(canonical, dtype=np.float32))
        written.append(beside)
    elif format != "ply" and _sharing(path) is None:
        beside.unlink(missing_ok=True)  # an older mesh's map must not pass for this one's
    return written


def vertex_colors(mesh: trimesh.Trimesh) -> UInt8[np.ndarray, "vertices 3"] | None:
    """sRGB colours of the vertices, or None where the mesh carries none."""
    visual: Any = mesh.visual
    if visual is None or visual.kind is None:
        return None
    if visual.kind == "texture":
        light = gltf_light(mesh)
        if image_texture(visual) is None:
            return material_colors(mesh) if light is None else srgb_from_linear(light)
        colors = np.asarray(visual.to_color().vertex_colors)[:, :3].astype(np.uint8)
        return colors if light is None else srgb_from_linear(linear_from_srgb(colors) * light)
    return np.asarray(visual.vertex_colors)[:, :3].astype(np.uint8)


def canonical_space(path: str | os.PathLike) -> str | None:
    """The canonical space that `export_mesh` noted in a mesh file; None where it notes none, as after Blender."""
    with open(path, "rb") as file:
        head = file.read(1 << 16)
    if found := re.search(rb"canonical space ([A-Za-z0-9_.-]+:[0-9a-f]{8})", head):
        return found[1].decode("ascii")
    return None


def canonical_path(path: str | os.PathLike) -> Path:
    """Where the canonical coordinates of a GLB or OBJ lie."""
    return Path(path).with_suffix(".canonical.npz")


def _kept_map(path: Path, beside: Path) -> np.ndarray | None:
    """The map of another format's mesh of the same name, which is not to be replaced; None where there is none that can be read."""
    if _sharing(path) is None or not beside.is_file():
        return None
    try:
        return load_canonical(beside)
    except UserError:
        return None


def _sharing(path: Path) -> Path | None:
    """The mesh of the same name in another format, whose map the map beside it may be; `read_reconstruction` compares numbers of vertices."""
    others = (path.with_suffix(ending) for ending in MAP_BESIDE if ending != path.suffix.lower())
    return next((other for other in others if other.is_file()), None)


def _other_map(path: Path) -> UserError:
    return UserError(
        f"{_sharing(path)}: shares {canonical_path(path).name} with {path.name} but has other vertices; delete it, or choose another --out"
    )


def check_baked(path: Path) -> None:
    """Refuse, before any work, to bake a texture where tars3d wrote an OBJ of this name: seams repeat vertices, and the map beside is the OBJ's.

    Raises:
        UserError: names the OBJ.
    """
    other = _sharing(path)
    if other is not None and other.suffix == ".obj" and canonical_path(path).is_file() and canonical_space(other):
        raise _other_map(path)


def load_canonical(path: str | os.PathLike) -> Float32[np.ndarray, "vertices channels"]:
    """Canonical coordinates and point features of a mesh file that `export_mesh` wrote.

    Rows follow the vertices of the file; read it with `trimesh.load(path, process=False)`, so that none are
    merged.

    Raises:
        UserError: the file is missing or carries no canonical coordinates.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file; check the name")
    beside = path if path.suffix == ".npz" else canonical_path(path)
    is_ply = path.suffix.lower() == ".ply"
    canonical = _ply_canonical(path) if is_ply else None
    if canonical is not None:
        return canonical
    if is_ply or not beside.is_file():
        raise UserError(
            f"{path}: carries no canonical coordinates{'' if is_ply else f' (looked for {beside.name})'}; reconstruct it again with "
            "tars3d and a model that has a canonical space, or, for a source of transfers, name the mesh that tars3d wrote with --reconstruction, or the picture with --source-image"
        )
    try:
        with np.load(beside, allow_pickle=False) as stored:
            canonical = np.asarray(stored["canonical"], dtype=np.float32)
    except (ValueError, EOFError, KeyError, AttributeError, TypeError, OSError, zipfile.BadZipFile) as error:
        raise UserError(f"{beside}: cannot be read ({error}); reconstruct it again with tars3d") from None
    if canonical.ndim != 2 or canonical.shape[1] < 3:
        raise UserError(
            f"{beside}: holds {list(canonical.shape)} where a row of 3 or more is due to each vertex; reconstruct it again with tars3d"
        )
    return canonical


def _ply_canonical(path: Path) -> Float32[np.ndarray, "vertices channels"] | None:
    """The properties cx cy cz f0 f1 ... of a PLY's vertices; None where it has none."""
    try:
        raw: Any = trimesh.load(path, process=False).metadata["_ply_raw"]["vertex"]["data"]
        names = tuple(raw) if isinstance(raw, dict) else raw.dtype.names or ()  # a dict from an ASCII file
        if not {"cx", "cy", "cz"} <= set(names):
            return None
        features = [name for name in (f"f{k}" for k in range(len(names))) if name in names]
        columns = [np.asarray(raw[name], np.float32).ravel() for name in ("cx", "cy", "cz", *features)]
        return np.stack(columns, axis=1)
    except (ValueError, KeyError, IndexError, AttributeError, TypeError):
        raise UserError(f"{path}: cannot be read as PLY; reconstruct it again with tars3d") from None


def read_mesh(path: str | os.PathLike) -> trimesh.Trimesh:
    """A mesh file with its vertices as they are (none merged) and its vertex colours, if any, as sRGB bytes.

    Raises:
        UserError: the file is missing, cannot be read, holds no faces, or is damaged.
    """
    parts = read_parts(path)
    mesh = joined(parts)
    colors = vertex_colors(parts[0].mesh if len(parts) == 1 else mesh)  # a placed one loses those of glTF
    return trimesh.Trimesh(
        mesh.vertices, mesh.faces, vertex_normals=mesh.vertex_normals, vertex_colors=colors, process=False
    )
