"""Mitsuba behind one class: an object's scene is built once, then lit and photographed view by view.

Called by `tars3d.data.rendering.render` in its worker processes. Mitsuba is optional and imported at the first use.
"""

from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8

from tars3d.data.rendering.materials import ENVIRONMENT_SIZE, Material, box_uv
from tars3d.data.rendering.meshes import SourceMesh
from tars3d.errors import UserError, install_extra
from tars3d.geometry.mesh_formats import srgb_from_linear

PATH_DEPTH = 3


def import_mitsuba() -> Any:
    """Mitsuba in its `scalar_rgb` variant, held to one thread: parallelism is by object, in processes.

    Raises:
        UserError: mitsuba is not installed.
    """
    try:
        import drjit
        import mitsuba
    except ImportError as error:
        raise UserError(f"rendering needs mitsuba, which is not installed; {install_extra('render')}") from error
    if mitsuba.variant() != "scalar_rgb":
        mitsuba.set_variant("scalar_rgb")
    drjit.set_thread_count(1)
    return mitsuba


class ObjectScene:
    """One object with its materials under a light that changes; the ray-tracing tree is built once.

    Args:
        mesh: in the object frame.
        part: values 0..k-1, which of the k materials each face has.
        materials: k of them.
    """

    def __init__(self, mesh: SourceMesh, part: Int[np.ndarray, "faces"], materials: list[Material]):
        self.mitsuba = mi = import_mitsuba()
        scene: dict[str, Any] = {
            "type": "scene",
            "integrator": {"type": "path", "max_depth": PATH_DEPTH, "hide_emitters": True},
            "light": _environment(mi, np.ones((*ENVIRONMENT_SIZE, 3))),
        }
        corners = mesh.vertices[mesh.faces]
        for index, material in enumerate(materials):
            if (part == index).any():
                scene[f"part{index}"] = _part(mi, corners[part == index], material, f"part{index}")
        self.scene = mi.load_dict(scene)
        self.parameters = mi.traverse(self.scene)

    def render(
        self,
        extrinsics: Float[np.ndarray, "3 4"],
        focal: float,
        environment: Float[np.ndarray, "height width 3"],
        size: int,
        samples: int,
        seed: int,
    ) -> UInt8[np.ndarray, "size size 4"]:
        """One picture: sRGB with straight alpha, black where alpha is 0.

        `extrinsics` world-to-camera, `focal` in picture widths, `samples` rays a pixel.
        """
        mi = self.mitsuba
        # a second emitter lays the picture out as this version wants it: border columns differ
        self.parameters["light.data"] = mi.traverse(_environment(mi, environment))["data"]
        self.parameters.update()
        picture = mi.render(self.scene, sensor=_sensor(mi, extrinsics, focal, size, samples), seed=seed, spp=samples)
        return straight_srgb(np.asarray(picture))


def straight_srgb(linear: Float[np.ndarray, "height width 4"]) -> UInt8[np.ndarray, "height width 4"]:
    """Premultiplied linear RGBA to 8-bit sRGB with straight alpha."""
    alpha = np.clip(linear[..., 3:], 0, 1)
    rgb = srgb_from_linear(linear[..., :3] / np.maximum(alpha, 1e-6))
    return np.concatenate([np.where(alpha > 0, rgb, 0), np.rint(255 * alpha).astype(np.uint8)], axis=-1)


def _environment(mi: Any, light: np.ndarray) -> Any:
    return mi.load_dict({"type": "envmap", "bitmap": mi.Bitmap(light.astype(np.float32))})


def _sensor(mi: Any, extrinsics: np.ndarray, focal: float, size: int, samples: int) -> Any:
    rotation, translation = extrinsics[:, :3], extrinsics[:, 3]
    to_world = np.eye(4)
    to_world[:3, :3] = rotation.T * np.array([-1.0, -1.0, 1.0])  # Mitsuba's camera axes: x left, y up, z forward
    to_world[:3, 3] = -rotation.T @ translation
    return mi.load_dict(
        {
            "type": "perspective",
            "to_world": mi.ScalarTransform4f(to_world),
            "fov": float(2 * np.rad2deg(np.arctan(0.5 / focal))),
            "fov_axis": "x",
            "near_clip": 0.01,
            "far_clip": 100.0,
            "film": {
                "type": "hdrfilm",
                "width": size,
                "height": size,
                "pixel_format": "rgba",
                "component_format": "float32",
                "rfilter": {"type": "box"},
            },
            "sampler": {"type": "multijitter", "sample_count": samples},
        }
    )


def _part(mi: Any, corners: np.ndarray, material: Material, name: str) -> Any:
    """Faces that share a material, each with three vertices of its own: flat shading needs no winding."""
    properties = mi.Properties()
    properties["bsdf"] = mi.load_dict({"type": "twosided", "bsdf": _bsdf(mi, material)})
    mesh = mi.Mesh(name, 3 * len(corners), len(corners), has_vertex_texcoords=True, props=properties)
    parameters = mi.traverse(mesh)
    parameters["vertex_positions"] = corners.astype(np.float32).ravel()
    parameters["vertex_texcoords"] = box_uv(corners).astype(np.float32).ravel()
    parameters["faces"] = np.arange(3 * len(corners), dtype=np.uint32)
    parameters.update()
    return mesh


def _bsdf(mi: Any, material: Material) -> dict[str, Any]:
    if material.texture.shape[:2] == (1, 1):
        color: dict[str, Any] = {
            "type": "rgb",
            "value": [float(channel) for channel in material.texture[0, 0]],
        }
    else:
        color = {
            "type": "bitmap",
            "bitmap": mi.Bitmap(material.texture.astype(np.float32)),
            "raw": True,
            "wrap_mode": "repeat",
        }
    if material.kind == "diffuse":
        return {"type": "diffuse", "reflectance": color}
    if material.kind == "plastic":
        return {"type": "plastic", "diffuse_reflectance": color}
    return {
        "type": "roughconductor",
        "material": "none",
        "alpha": material.roughness,
        "specular_reflectance": color,
    }
