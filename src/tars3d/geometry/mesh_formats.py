"""A mesh in the bytes of a file: GLB, OBJ, PLY. `export` puts them on disk; colours are sRGB bytes here and linear light in glTF."""

import json
import struct
from typing import Any

import numpy as np
import trimesh
from jaxtyping import Float, UInt8
from trimesh.visual.color import to_rgba
from trimesh.visual.material import SimpleMaterial, color_image

from tars3d import __version__


def linear_from_srgb(colors: UInt8[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """Linear light in 0 to 1 from sRGB bytes (IEC 61966-2-1)."""
    value = colors / 255.0
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def srgb_from_linear(light: Float[np.ndarray, "*shape"]) -> UInt8[np.ndarray, "*shape"]:
    """sRGB bytes of linear light in 0 to 1, the inverse of `linear_from_srgb`."""
    value = np.where(light <= 0.0031308, light * 12.92, 1.055 * np.maximum(light, 0) ** (1 / 2.4) - 0.055)
    return np.round(np.clip(value, 0, 1) * 255).astype(np.uint8)


def gltf_light(part: Any) -> Float[np.ndarray, "vertices 3"] | None:
    """Linear light of 0 to 1 at the vertices of what trimesh read from glTF with a material: its colour (baseColorFactor) times their own (COLOR_0).

    glTF multiplies the image texture by it, where there is one. None: the material has no colour and the vertices have none, or there is no
    material, as in what trimesh wrote (`geometry.mesh_files`).
    """
    visual = getattr(part, "visual", None)
    factor = getattr(getattr(visual, "material", None), "baseColorFactor", None)
    own = getattr(visual, "vertex_attributes", {}).get("color")
    if factor is None and own is None:
        return None
    light = np.ones((len(part.vertices), 3))
    for values in (np.asarray(given)[..., :3] for given in (factor, own) if given is not None):
        light *= values / (np.iinfo(values.dtype).max if np.issubdtype(values.dtype, np.integer) else 1)
    return light


def image_texture(visual: Any) -> Any:
    """The picture that trimesh read for a mesh with UVs; None where there is none, also where trimesh puts a grey one of its own."""
    picture = getattr(visual.material, "baseColorTexture", None) or getattr(visual.material, "image", None)
    return None if visual.uv is None or picture == color_image() else picture


def material_colors(part: Any) -> UInt8[np.ndarray, "vertices 3"] | None:
    """sRGB bytes at the vertices of what trimesh read from OBJ with a material: their own colours, else the material's (Kd); None for a material of glTF."""
    material, own = part.visual.material, part.vertex_attributes.get("color")
    if own is not None:
        return to_rgba(own)[:, :3]
    if not isinstance(material, SimpleMaterial) or material.image is not None:
        return None
    return np.tile(material.main_color[:3], (len(part.vertices), 1))


def glb_bytes(
    mesh: trimesh.Trimesh,
    colors: np.ndarray | None,
    name: str,
    space: str | None,
    texture: tuple[np.ndarray, bytes] | None,
) -> bytes:
    """glTF 2.0 in its binary form, written directly.

    trimesh would store sRGB bytes as COLOR_0, which glTF defines as linear light: viewers would show them
    washed out.

    Args:
        mesh: object frame.
        colors: of the vertices, sRGB bytes.
        name: of the node.
        space: which canonical space it is, noted in the file.
        texture: uv of each vertex (v down, 0 to 1) and a PNG file's bytes.
    """
    positions = np.asarray(mesh.vertices, dtype="<f4")
    arrays: dict[str, np.ndarray] = {"POSITION": positions, "NORMAL": unit_normals(mesh).astype("<f4")}
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


def unit_normals(mesh: trimesh.Trimesh) -> np.ndarray:
    """Smooth normals of length 1; vertices of no face point up, as viewers reject zero normals."""
    normals = np.asarray(mesh.vertex_normals, dtype=np.float64)
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    return np.where(length > 1e-8, normals / np.maximum(length, 1e-8), [0.0, 1.0, 0.0])


def obj_text(mesh: trimesh.Trimesh, colors: np.ndarray | None, name: str, space: str | None) -> str:
    """Wavefront OBJ with normals; colours behind the positions. Arguments as those of `glb_bytes`."""
    vertices = np.asarray(mesh.vertices)
    if colors is not None:
        # Not part of the OBJ standard, but what Blender, MeshLab and trimesh read as vertex colours.
        vertices = np.concatenate([vertices, colors / 255.0], axis=1)
    faces = np.asarray(mesh.faces) + 1
    lines = [f"# tars3d {__version__}", *([f"# canonical space {space}"] if space else [])]
    lines += [f"o {'_'.join(name.split())}"]
    lines += ["v " + " ".join(f"{value:.6f}" for value in row) for row in vertices.tolist()]
    lines += ["vn {:.4f} {:.4f} {:.4f}".format(*row) for row in unit_normals(mesh).tolist()]
    lines += ["f {0}//{0} {1}//{1} {2}//{2}".format(*row) for row in faces.tolist()]
    return "\n".join(lines) + "\n"


def ply_bytes(
    mesh: trimesh.Trimesh, colors: np.ndarray | None, canonical: np.ndarray | None, space: str | None
) -> bytes:
    """Binary PLY with normals, colours, and canonical coordinates as properties cx cy cz f0 f1 ... Arguments as those of `glb_bytes`."""
    fields = [(key, "<f4") for key in ("x", "y", "z", "nx", "ny", "nz")]
    columns = [*np.asarray(mesh.vertices).T, *unit_normals(mesh).T]
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
