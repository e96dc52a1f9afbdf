"""One entry of a collection's cameras.json: a picture and its camera, parsed with every number checked.

Called by `data.collection`, which describes the format. Whoever handles a picture of a collection handles an `ImageRecord`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from jaxtyping import Float

from tars3d.data.framing import Crop
from tars3d.data.ground_truth import Surface
from tars3d.errors import UserError
from tars3d.geometry.camera import pinhole

ROTATION_TOLERANCE = 1e-3
LARGEST_CROP = 20_000
"""Side, pixels: a crop is an array of its own."""

Roots = Mapping[str, Path]
"""Folders outside the collection whose files its entries may name as {NAME}/path: data sets that are read in place."""


@dataclass(frozen=True)
class ImageRecord:
    """One picture of one instance and the camera that took it (OpenCV axes, pixel centres at +0.5)."""

    name: str
    file: Path
    mask: Path | None
    """None: the mask is the picture's alpha."""
    instance: str
    model: str
    """perspective: u = fx x / z + cx; orthographic: u = s x + cx, s and cx placed alike in `intrinsics`."""
    intrinsics: Float[np.ndarray, "3 3"]
    extrinsics: Float[np.ndarray, "3 4"]
    """World-to-camera [R|t], object units."""
    keypoints: dict[str, tuple[float, float, bool]] | None = None
    """u, v in pixels and whether it is visible."""
    surface: Surface | None = None
    """Ground truth in a file of its own, where it is not ground_truth/INSTANCE."""
    crop: Crop | None = None
    """The square that the loader of a published data set takes of the picture; for framing `annotated` (`config.ModelConfig`)."""
    collection: Path | None = None
    """The folder of the collection that it was read from. Collections that are mixed may use one name for different objects."""

    @property
    def mirrors(self) -> bool:
        """Whether the camera mirrors (determinant -1), as those of some published loaders do."""
        return bool(np.linalg.det(self.extrinsics[:, :3]) < 0)

    @property
    def pose_looks_away(self) -> bool:
        """Whether the object's origin lies behind the camera."""
        return bool(self.extrinsics[2, 3] <= 0)

    def camera_json(self) -> dict[str, Any]:
        """The camera as an entry of cameras.json holds it."""
        camera: dict[str, Any] = {"model": self.model}
        if self.model == "orthographic":
            camera["scale"] = float(self.intrinsics[0, 0])
            camera["principal_point"] = self.intrinsics[:2, 2].tolist()
        else:
            camera["intrinsics"] = self.intrinsics.tolist()
        camera["extrinsics"] = self.extrinsics.tolist()
        if self.mirrors:
            camera["mirrors"] = True
        return camera

    def to_json(self, root: Path, roots: Roots | None = None) -> dict[str, Any]:
        """This record's entry of cameras.json; its files must lie under `root` or under one of `roots`."""
        roots = roots or {}
        entry: dict[str, Any] = {
            "file": _named(self.file, root, roots),
            "instance": self.instance,
            "camera": self.camera_json(),
        }
        if self.mask is not None:
            entry["mask"] = _named(self.mask, root, roots)
        if self.keypoints is not None:
            entry["keypoints"] = {name: [u, v, int(visible)] for name, (u, v, visible) in self.keypoints.items()}
        if self.crop is not None:
            entry["crop"] = crop_json(self.crop)
        if self.surface is not None:
            entry["ground_truth"] = {
                "file": _named(self.surface.file, root, roots),
                "transform": self.surface.transform.tolist(),
                "normals": self.surface.normals,
            }
        return entry


def by_object(records: Iterable[ImageRecord]) -> dict[str, list[ImageRecord]]:
    """Pictures by the name of their object, in the order of the first ones."""
    found: dict[str, list[ImageRecord]] = {}
    for record in records:
        found.setdefault(record.instance, []).append(record)
    return found


def parse_record(root: Path, file: Path, name: str, entry: Any, roots: Roots | None = None) -> ImageRecord:
    """The record of image `name` from its entry in `file`, the cameras.json of the collection in `root`.

    Raises:
        UserError: a picture is missing, or the entry lacks something, is not finite or is no camera.
    """
    where = f"{file}: image {name}"
    roots = roots or {}
    if not isinstance(entry, dict):
        raise UserError(f"{where}: is not an object; give it file, instance and camera")
    instance = entry.get("instance")
    if not isinstance(instance, str) or not instance or "/" in instance or "\\" in instance:
        raise UserError(f"{where}: needs an 'instance', the name of the object it shows, without slashes")
    model, intrinsics, extrinsics = parse_camera(where, entry.get("camera"))
    return ImageRecord(
        name=name,
        file=existing_file(root, where, "file", entry.get("file"), roots),
        mask=None if entry.get("mask") is None else existing_file(root, where, "mask", entry["mask"], roots),
        instance=instance,
        model=model,
        intrinsics=intrinsics,
        extrinsics=extrinsics,
        keypoints=parse_keypoints(where, entry.get("keypoints")),
        surface=_surface(root, where, entry.get("ground_truth"), roots),
        crop=parse_crop(where, entry),
        collection=root,
    )


def existing_file(root: Path, where: str, key: str, value: Any, roots: Roots) -> Path:
    """The file that an entry names, `path` in the collection or `{NAME}/path` under one of its roots.

    Raises:
        UserError: it leaves its folder, or is missing.
    """
    if not isinstance(value, str) or not value:
        raise UserError(f"{where}: has no '{key}'; give the path of the picture, relative to the collection")
    relative, base = PurePosixPath(value), root
    head = relative.parts[0] if relative.parts else ""
    if head.startswith("{") and head.endswith("}"):
        if head[1:-1] not in roots:
            raise UserError(f"{where}: '{key}' is under {head}, which \"roots\" does not name; add the folder there")
        base, relative = roots[head[1:-1]], PurePosixPath(*relative.parts[1:])
    if relative.is_absolute() or ".." in relative.parts:
        raise UserError(f"{where}: '{key}' {value} leaves the collection; give a path inside it")
    path = base / relative
    if not path.is_file():
        cure = "add it or remove the entry" if base is root else f'was the data set moved? mend "roots" in {root.name}'
        raise UserError(f"{path}: is missing, cameras.json names it; {cure}")
    return path


def _named(path: Path, root: Path, roots: Roots) -> str:
    if path.is_relative_to(root):
        return path.relative_to(root).as_posix()
    for name, base in roots.items():
        if path.is_relative_to(base):
            return f"{{{name}}}/{path.relative_to(base).as_posix()}"
    raise ValueError(f"{path} lies neither in {root} nor under one of the roots {', '.join(roots)}")


def _surface(root: Path, where: str, value: Any, roots: Roots) -> Surface | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise UserError(f"{where}: 'ground_truth' is not an object; give it file and transform")
    file = existing_file(root, where, "ground_truth", value.get("file"), roots)
    transform = np.eye(3, 4)
    if "transform" in value:
        transform = _numbers(f"{where}: ground_truth", value, "transform", (3, 4))
    return Surface(file, transform, bool(value.get("normals", True)))


def crop_json(crop: Crop) -> list[float]:
    """A crop as an entry of cameras.json holds it."""
    return [float(crop.x), float(crop.y), float(crop.side)]


def parse_crop(where: str, entry: dict[str, Any]) -> Crop | None:
    """The crop of an entry, if it names one.

    Raises:
        UserError: it is no square; the message begins with `where`.
    """
    if entry.get("crop") is None:
        return None
    x, y, side = _numbers(where, entry, "crop", (3,)).tolist()
    if side <= 0:
        raise UserError(f"{where}: 'crop' must be left edge, upper edge and side in pixels, the side positive")
    if side > LARGEST_CROP:
        raise UserError(
            f"{where}: 'crop' has a side of {side:g} pixels; give that of the picture, {LARGEST_CROP} at most"
        )
    return Crop(x, y, side)


def parse_camera(where: str, camera: Any) -> tuple[str, Float[np.ndarray, "3 3"], Float[np.ndarray, "3 4"]]:
    """Model, intrinsics and world-to-camera extrinsics of an entry's camera.

    Raises:
        UserError: it lacks something, is not finite or is no camera; the message begins with `where`.
    """
    if not isinstance(camera, dict):
        raise UserError(
            f"{where}: has no 'camera'; give model, intrinsics and extrinsics, or find them by keypoints with `tars3d data cameras`"
        )
    model = camera.get("model")
    if model == "perspective":
        intrinsics = _numbers(where, camera, "intrinsics", (3, 3))
    elif model == "orthographic":
        scale = float(_numbers(where, camera, "scale", ()))
        center = _numbers(where, camera, "principal_point", (2,))
        intrinsics = pinhole(scale, center)
    else:
        raise UserError(f"{where}: unknown camera model {model!r}; use perspective or orthographic")
    if not np.allclose(intrinsics[2], [0, 0, 1]):
        raise UserError(f"{where}: the last row of intrinsics must be 0 0 1; are they transposed?")
    if not (intrinsics[0, 0] > 1e-9 and intrinsics[1, 1] > 1e-9 and abs(np.linalg.det(intrinsics)) > 1e-9):
        raise UserError(f"{where}: intrinsics are singular or mirrored; focal length or scale must be positive")
    extrinsics = _numbers(where, camera, "extrinsics", (3, 4))
    rotation = extrinsics[:, :3]
    if np.abs(rotation @ rotation.T - np.eye(3)).max() > ROTATION_TOLERANCE:
        raise UserError(f"{where}: the rotation is not orthonormal; move any scale to the intrinsics")
    if np.linalg.det(rotation) < 0 and camera.get("mirrors") is not True:
        raise UserError(f"{where}: the rotation mirrors (determinant -1); flip one axis back")
    return model, intrinsics, extrinsics


def _numbers(where: str, camera: dict[str, Any], key: str, shape: tuple[int, ...]) -> np.ndarray:
    if key not in camera:
        raise UserError(f"{where}: its camera lacks '{key}'; add it")
    try:
        array = np.asarray(camera[key], dtype=np.float64)
    except (TypeError, ValueError):
        raise UserError(f"{where}: '{key}' is not an array of numbers; it must have the shape {shape}") from None
    if array.shape != shape:
        raise UserError(f"{where}: '{key}' has the shape {array.shape}; it must have {shape}")
    if not np.isfinite(array).all():
        raise UserError(f"{where}: '{key}' holds NaN or infinity; estimate this camera again or remove the picture")
    return array


def parse_keypoints(where: str, keypoints: Any) -> dict[str, tuple[float, float, bool]] | None:
    if keypoints is None:
        return None
    if not isinstance(keypoints, dict):
        raise UserError(f"{where}: 'keypoints' must map names to [u, v, visible]")
    result: dict[str, tuple[float, float, bool]] = {}
    for key in keypoints:
        u, v, visible = _numbers(f"{where}: keypoint", keypoints, key, (3,))
        result[key] = (float(u), float(v), bool(visible))
    return result
