"""Meshes as files that open upright and in the right colours elsewhere: GLB, OBJ, PLY; the canonical map
goes with them.

Called by `tars3d reconstruct` and `transfer`, and by users through `result.mesh`.
"""

import json
import os
import re
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import trimesh
from jaxtyping import Float, Float32, UInt8

from tars3d import __version__
from tars3d.atomic import atomic_path
from tars3d.errors import UserError

FORMATS = ("glb", "obj", "ply")


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
        canonical: [V, 3 + k], canonical position and point features of each vertex. In a PLY they are the
        vertex properties
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
    if len(mesh.faces) == 0:
        raise UserError(f"{path}: the mesh is empty, no surface was found; try another picture or model")
    if canonical is not None and (canonical.ndim != 2 or len(canonical) != len(mesh.vertices)):
        raise ValueError(f"canonical: shape {canonical.shape} does not match {len(mesh.vertices)} vertices")

    if texture is not None and format != "glb":
        raise UserError(f"{path}: an image texture is only written into GLB; choose --format glb")
    colors = None if texture is not None else vertex_colors(mesh)
    with atomic_path(path) as temporary:
        if format == "glb":
            temporary.write_bytes(_glb(mesh, colors, path.stem, space, texture))
        elif format == "obj":
            temporary.write_text(_obj(mesh, colors, path.stem, space))
        else:
            temporary.write_bytes(_ply(mesh, colors, canonical, space))
    written = [path]
    beside = canonical_path(path)
    if canonical is not None and format != "ply":
        with atomic_path(beside) as temporary:
            np.savez_compressed(temporary, canonical=np.asarray(canonical, dtype=np.float32))
        written.append(beside)
    elif format != "ply":
        beside.unlink(missing_ok=True)  # an older mesh's map must not pass for this one's
    return written


def vertex_colors(mesh: trimesh.Trimesh) -> UInt8[np.ndarray, "vertices 3"] | None:
    """sRGB colours of the vertices, or None where the mesh carries none."""
    visual: Any = mesh.visual
    if visual is None or visual.kind is None:
        return None
    if visual.kind == "texture":
        if visual.uv is None:  # one material all over
            return np.tile(np.uint8(visual.material.main_color[:3]), (len(mesh.vertices), 1))
        visual = visual.to_color()
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
    missing = f"{path}: carries no canonical coordinates; reconstruct it again with tars3d"
    if path.suffix.lower() != ".ply":
        beside = path if path.suffix == ".npz" else canonical_path(path)
        if not beside.is_file():
            raise UserError(f"{missing} (looked for {beside.name})")
        try:
            with np.load(beside, allow_pickle=False) as stored:
                return np.asarray(stored["canonical"], dtype=np.float32)
        except (ValueError, EOFError, KeyError, AttributeError, TypeError, OSError, zipfile.BadZipFile) as error:
            raise UserError(f"{beside}: cannot be read ({error}); reconstruct it again with tars3d") from None
    try:
        raw = trimesh.load(path, process=False).metadata["_ply_raw"]["vertex"]["data"]
    except (ValueError, KeyError, IndexError, AttributeError, TypeError):
        raise UserError(f"{path}: cannot be read as PLY; reconstruct it again with tars3d") from None
    names = raw.dtype.names or ()
    if not {"cx", "cy", "cz"} <= set(names):
        raise UserError(missing)
    features = [name for name in (f"f{k}" for k in range(len(names))) if name in names]
    columns = [np.asarray(raw[name], np.float32).ravel() for name in ("cx", "cy", "cz", *features)]
    return np.stack(columns, axis=1)


def read_mesh(path: str | os.PathLike) -> trimesh.Trimesh:
    """A mesh file with its vertices as they are (none merged) and its vertex colours, if any, as sRGB bytes.

    Raises:
        UserError: the file is missing, cannot be read, or holds no faces.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file; check the name")
    try:
        loaded = trimesh.load(path, process=False)
        parts = list(loaded.geometry.values()) if isinstance(loaded, trimesh.Scene) else [loaded]
        mesh = loaded.to_mesh() if isinstance(loaded, trimesh.Scene) else loaded
    except Exception as error:  # trimesh's readers raise nearly anything on damaged files
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise UserError(f"{path}: cannot be read as a mesh ({reason}); give a GLB, OBJ or PLY") from None
    if not isinstance(mesh, trimesh.Trimesh) or len(mesh.faces) == 0:
        raise UserError(f"{path}: holds no faces; give a GLB, OBJ or PLY of a mesh")
    # Where a glTF mesh has a material, trimesh puts its vertex colours aside, as linear light.
    linear = [getattr(getattr(part, "visual", None), "vertex_attributes", {}) for part in parts]
    if len(parts) == 1 and "color" in linear[0]:
        values = np.asarray(linear[0]["color"])[:, :3]
        top = np.iinfo(values.dtype).max if np.issubdtype(values.dtype, np.integer) else 1
        colors = srgb_from_linear(values / top)
    else:
        colors = vertex_colors(mesh)
    return trimesh.Trimesh(
        mesh.vertices, mesh.faces, vertex_normals=mesh.vertex_normals, vertex_colors=colors, process=False
    )


def linear_from_srgb(colors: UInt8[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """Linear light in 0 to 1 from sRGB bytes (IEC 61966-2-1)."""
    value = colors / 255.0
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def srgb_from_linear(light: Float[np.ndarray, "*shape"]) -> UInt8[np.ndarray, "*shape"]:
    """sRGB bytes of linear light in 0 to 1, the inverse of `linear_from_srgb`."""
    value = np.where(light <= 0.0031308, light * 12.92, 1.055 * np.maximum(light, 0) ** (1 / 2.4) - 0.055)
    return np.round(np.clip(value, 0, 1) * 255).astype(np.uint8)


def _glb(
    mesh: trimesh.Trimesh,
    colors: np.ndarray | None,
    name: str,
    space: str | None,
    texture: tuple[np.ndarray, bytes] | None,
) -> bytes:
    """glTF 2.0 in its binary form, written directly.

    trimesh would store sRGB bytes as COLOR_0, which glTF defines as linear light: viewers would show them
    washed out.
    """
    positions = np.asarray(mesh.vertices, dtype="<f4")
    arrays: dict[str, np.ndarray] = {"POSITION": positions, "NORMAL": _unit_normals(mesh).astype("<f4")}
    png = b""
    if texture is not None:
        uv, png = texture
        arrays["TEXCOORD_0"] = np.asarray(uv, dtype="<f4")
    if colors is not None:
        arrays["COLOR_0"] = linear_from_srgb(colors).astype("<f4")  # bytes would merge the dark tones
    arrays["indices"] = np.asarray(mesh.faces, dtype="<u4").ravel()

    views, accessors, offset = [], [], 0
    for key, array in arrays.items():
        is_index = key == "indices"
        target = 34963 if is_index else 34962  # element and vertex buffers, by their OpenGL numbers
        views.append({"buffer": 0, "byteOffset": offset, "byteLength": array.nbytes, "target": target})
        accessor: dict[str, Any] = {"bufferView": len(accessors), "count": len(array)}
        accessor["componentType"] = 5125 if is_index else 5126  # unsigned int, float
        accessor["type"] = "SCALAR" if is_index else f"VEC{array.shape[1]}"
        if key == "POSITION":
            accessor |= {"min": positions.min(0).tolist(), "max": positions.max(0).tolist()}
        accessors.append(accessor)
        offset += array.nbytes  # every row is a multiple of 4 bytes, so nothing needs padding

    attributes = {key: index for index, key in enumerate(arrays) if key != "indices"}
    primitive = {"attributes": attributes, "indices": len(arrays) - 1, "material": 0}
    surface: dict[str, Any] = {"metallicFactor": 0.0, "roughnessFactor": 0.9}
    if png:
        surface["baseColorTexture"] = {"index": 0}
    extras = {"name": name, "frame": "Y up, right-handed, front towards -Z"}
    if space is not None:
        extras["map"] = f"canonical space {space}"
    tree: dict[str, Any] = {
        "asset": {
            "version": "2.0",
            "generator": f"tars3d {__version__}",
            "extras": extras,
        },
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "name": name}],
        "meshes": [{"name": name, "primitives": [primitive]}],
        "materials": [
            {"name": "texture" if png else "vertex colours", "doubleSided": True, "pbrMetallicRoughness": surface}
        ],
        "buffers": [{"byteLength": offset}],
        "bufferViews": views,
        "accessors": accessors,
    }
    if png:
        views.append({"buffer": 0, "byteOffset": offset, "byteLength": len(png)})
        tree["images"] = [{"bufferView": len(views) - 1, "mimeType": "image/png"}]
        tree["samplers"] = [{"magFilter": 9729, "minFilter": 9987, "wrapS": 33071, "wrapT": 33071}]  # linear, clamped
        tree["textures"] = [{"source": 0, "sampler": 0}]
        png += b"\0" * (-len(png) % 4)
        tree["buffers"] = [{"byteLength": offset + len(png)}]
    text = json.dumps(tree, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    binary = b"".join(array.tobytes() for array in arrays.values()) + png
    total = 12 + 8 + len(text) + 8 + len(binary)
    header = struct.pack("<4sII", b"glTF", 2, total) + struct.pack("<I4s", len(text), b"JSON")
    return header + text + struct.pack("<I4s", len(binary), b"BIN\0") + binary


def _unit_normals(mesh: trimesh.Trimesh) -> np.ndarray:
    """Smooth normals of length 1; vertices of no face point up, as viewers reject zero normals."""
    normals = np.asarray(mesh.vertex_normals, dtype=np.float64)
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    return np.where(length > 1e-8, normals / np.maximum(length, 1e-8), [0.0, 1.0, 0.0])


def _obj(mesh: trimesh.Trimesh, colors: np.ndarray | None, name: str, space: str | None) -> str:
    vertices = np.asarray(mesh.vertices)
    if colors is not None:
        # Not part of the OBJ standard, but what Blender, MeshLab and trimesh read as vertex colours.
        vertices = np.concatenate([vertices, colors / 255.0], axis=1)
    faces = np.asarray(mesh.faces) + 1
    lines = [f"# tars3d {__version__}", *([f"# canonical space {space}"] if space else [])]
    lines += [f"o {'_'.join(name.split())}"]
    lines += ["v " + " ".join(f"{value:.6f}" for value in row) for row in vertices.tolist()]
    lines += ["vn {:.4f} {:.4f} {:.4f}".format(*row) for row in _unit_normals(mesh).tolist()]
    lines += ["f {0}//{0} {1}//{1} {2}//{2}".format(*row) for row in faces.tolist()]
    return "\n".join(lines) + "\n"


def _ply(mesh: trimesh.Trimesh, colors: np.ndarray | None, canonical: np.ndarray | None, space: str | None) -> bytes:
    fields = [(key, "<f4") for key in ("x", "y", "z", "nx", "ny", "nz")]
    columns = [*np.asarray(mesh.vertices).T, *_unit_normals(mesh).T]
    if colors is not None:
        fields += [(key, "u1") for key in ("red", "green", "blue")]
        columns += list(colors.T)
    if canonical is not None:
        names = ["cx", "cy", "cz", *(f"f{k}" for k in range(canonical.shape[1] - 3))]
        fields += [(key, "<f4") for key in names]
        columns += list(canonical.T)
    vertices = np.empty(len(mesh.vertices), dtype=fields)
    for (key, _), column in zip(fields, columns, strict=True):
        vertices[key] = column
    faces = np.empty(len(mesh.faces), dtype=[("count", "u1"), ("index", "<i4", (3,))])
    faces["count"], faces["index"] = 3, mesh.faces
    kinds = {"<f4": "float", "u1": "uchar"}
    header = ["ply", "format binary_little_endian 1.0", f"comment tars3d {__version__}, Y up"]
    header += [f"comment canonical space {space}"] if space else []
    header += [f"element vertex {len(vertices)}", *(f"property {kinds[kind]} {key}" for key, kind in fields)]
    header += [f"element face {len(faces)}", "property list uchar int vertex_indices", "end_header"]
    return "\n".join(header).encode() + b"\n" + vertices.tobytes() + faces.tobytes()
