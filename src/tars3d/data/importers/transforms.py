"""Photos whose cameras are in transforms.json, the file of NeRF tools, become a collection: what COLMAP found, by way of nerfstudio or instant-ngp.

Called by `tars3d data import-transforms`. Each object is a folder with its photos and its own transforms.json, in a world of its own. Here its
photos' outlines tell where the object is and how large, its cameras which way is up, and one named photo which way it faces.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from tars3d.arguments import Background
from tars3d.data.image_record import ImageRecord
from tars3d.data.importers.common import Import, placed, refuse_other_collection
from tars3d.data.importers.files import need_file, need_folder, numbers, picture_size
from tars3d.data.importers.options import TransformsOptions
from tars3d.data.importers.own_photos import SUFFIXES, read_rows, split_of, with_mask
from tars3d.data.pictures import Picture, read_picture
from tars3d.errors import UserError
from tars3d.geometry.masks import mask_box
from tars3d.progress import tracked

COLUMNS = ("object", "photo")
LAYOUT = "a JSON of a NeRF tool, with 'frames', each with file_path and a 4x4 transform_matrix"
CELLS = 64
"""Along each axis, in which the outlines' common part is looked for."""
BENT = 0.02
"""Share of the way from its middle to its corner by which a lens may bend a photo: objects are in the middle, and seen at 128 pixels."""
LEVEL = 0.05
"""How far the cameras' own horizontals must spread, for up to follow from them; a share, squared: about 13 degrees all around."""


@dataclass(frozen=True)
class Shot:
    """A photo of a capture, and the camera that took it: OpenCV axes, world-to-camera, in the capture's world."""

    photo: Path
    mask: Path | None
    intrinsics: Float[np.ndarray, "3 3"]
    rotation: Float[np.ndarray, "3 3"]
    translation: Float[np.ndarray, "3"]

    @property
    def place(self) -> Float[np.ndarray, "3"]:
        """Of the camera, in the world."""
        return -self.rotation.T @ self.translation


def import_transforms(captures: Path, fronts: Path, out: Path, options: TransformsOptions) -> tuple[Import, int]:
    """Write the collection; photos are read in place.

    Args:
        captures: folder of a folder for each object, with its transforms.json.
        fronts: CSV with the columns object (its folder), photo (one that sees the object from the front), and maybe azimuth (degrees, where
            that photo is from elsewhere: 90 stands at +X, the object's own right).
        out: folder of the collection.

    Returns:
        the collection, and how many masks were found and written.

    Raises:
        UserError: a file, camera or name is wrong, or outlines and cameras of an object do not agree.
    """
    captures, out = need_folder(captures, "a folder for each object").resolve(), out.resolve()
    rows = read_rows(fronts, COLUMNS)
    known = [row["object"] for row in rows]
    for number, name in enumerate(known, start=2):
        if not name or "/" in name or "\\" in name or known.count(name) > 1:
            raise UserError(f"{fronts}: line {number}: '{name}' must be the folder of an object, one line for each")
    if unknown := sorted(set(options.test) - set(known)):
        raise UserError(f"{fronts}: no object is called {unknown[0]}; choose from {', '.join(sorted(known))}")
    objects = [read_capture(captures / name) for name in known]
    turned = [
        _front(fronts, number, row, shots)
        for number, (row, shots) in enumerate(zip(rows, objects, strict=True), start=2)
    ]
    names = [[f"{name}_{shot.photo.stem}" for shot in shots] for name, shots in zip(known, objects, strict=True)]
    roots = {"captures": captures}
    refuse_other_collection(out, roots, [each for several in names for each in several])
    side = split_of(out, options.test)
    result, made = Import(out, options.category, roots), 0
    everything = list(zip(known, objects, names, turned, strict=True))
    for name, shots, titles, (front, azimuth) in tracked(everything, "reading photos", True):
        seen = [_picture(shot, title, out, options.background) for shot, title in zip(shots, titles, strict=True)]
        made += sum(picture.guessed for picture, _ in seen)
        turn, middle, length = object_frame(name, shots, [picture.mask for picture, _ in seen], front, azimuth)
        for shot, title, (_, mask) in zip(shots, titles, seen, strict=True):
            extrinsics, _ = placed(shot.rotation, shot.translation, turn, middle, length)
            record = ImageRecord(title, shot.photo, mask, name, "perspective", shot.intrinsics, extrinsics)
            result.add(record, side(name))
    return result.write(), made


def read_capture(folder: Path) -> list[Shot]:
    """The photos and cameras of an object's transforms.json.

    Raises:
        UserError: it is missing or no such file, a photo is missing, or a camera is none, or of a lens that bends.
    """
    file = need_file(folder / "transforms.json", LAYOUT)
    try:
        tree = json.loads(file.read_text(encoding="utf-8"))
        frames = list(tree["frames"])
        shots = [_shot(file, tree, {**tree, **frame}) for frame in frames]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file}: cannot be read ({error!r}); expected {LAYOUT}") from error
    if len(shots) < 2:
        raise UserError(f"{file}: has {len(shots)} photos; an object takes 2 or more, from several sides")
    stems = [shot.photo.stem for shot in shots]
    if twice := next((stem for stem in stems if stems.count(stem) > 1), None):
        raise UserError(f"{file}: the photo {twice} comes twice; remove one")
    return shots


def _shot(file: Path, tree: dict[str, Any], frame: dict[str, Any]) -> Shot:
    """A frame, what it lacks taken from the head of the file."""
    photo = _inside(file, str(frame["file_path"]))
    where = f"{file}: {photo.name}"
    if "fisheye" in str(frame.get("camera_model", "")).lower() or frame.get("is_fisheye"):
        raise UserError(f"{where}: is of a fisheye lens; undistort the photos first")
    pose = numbers(where, frame, "transform_matrix", (4, 4), LAYOUT)
    scale = float(np.cbrt(np.linalg.det(pose[:3, :3])))
    if not (scale > 0 and np.allclose(pose[:3, :3] @ pose[:3, :3].T, scale**2 * np.eye(3), atol=1e-3 * scale**2)):
        raise UserError(f"{where}: its transform_matrix is no camera's place and turn; find the cameras again")
    rotation = np.diag([1.0, -1, -1]) @ pose[:3, :3].T / scale  # from OpenGL's axes, camera-to-world
    size = picture_size(photo, "PNG or JPEG")
    if {"w", "h"} <= frame.keys() and size != (frame["w"], frame["h"]):
        raise UserError(
            f"{where}: is {size[0]}x{size[1]} pixels, but its camera was found for {frame['w']}x{frame['h']}; give the photos that the cameras were found for"
        )
    if frame.get("fl_x") is not None:
        focal = float(frame["fl_x"]), float(frame.get("fl_y", frame["fl_x"]))
    elif "camera_angle_x" in frame:
        focal = (size[0] / 2 / math.tan(float(frame["camera_angle_x"]) / 2),) * 2
    else:
        raise UserError(f"{where}: has neither fl_x nor camera_angle_x; add the focal length in pixels")
    middle = float(frame.get("cx", size[0] / 2)), float(frame.get("cy", size[1] / 2))
    intrinsics = np.array([[focal[0], 0, middle[0]], [0, focal[1], middle[1]], [0, 0, 1.0]])
    if not (np.isfinite(intrinsics).all() and min(focal) > 1):
        raise UserError(f"{where}: has a focal length of {focal[0]:g}; give it in pixels")
    corner = math.hypot(size[0] / 2 / focal[0], size[1] / 2 / focal[1])
    bent = sum(float(frame.get(key, 0)) * corner ** (2 * power) for power, key in enumerate(("k1", "k2", "k3"), 1))
    if abs(bent) > BENT:
        raise UserError(
            f"{where}: its lens bends the corners by {100 * abs(bent):.0f}%; undistort the photos first (colmap image_undistorter)"
        )
    mask = _inside(file, str(frame["mask_path"])) if frame.get("mask_path") else None
    return Shot(photo, mask, intrinsics, rotation, -rotation @ pose[:3, 3])


def _inside(file: Path, name: str) -> Path:
    """A file that a transforms.json names, beside or below it, with or without its ending."""
    folder = file.parent
    for found in (folder / name, *(folder / f"{name}{suffix}" for suffix in SUFFIXES)):
        if found.is_file() and found.resolve().is_relative_to(folder.resolve()):
            return found
    raise UserError(f"{folder / name}: is named in {file.name} and is missing; put it beside or below {file.name}")


def _front(table: Path, number: int, row: dict[str, str], shots: list[Shot]) -> tuple[int, float]:
    """Which photo a line of the table names, and from where it was taken, degrees."""
    where = f"{table}: line {number}"
    found = next((index for index, shot in enumerate(shots) if shot.photo.stem == Path(row["photo"]).stem), None)
    if found is None:
        raise UserError(
            f"{where}: {row['object']}/transforms.json has no photo '{row['photo']}'; name one of its photos"
        )
    try:
        azimuth = float(row.get("azimuth") or 0)
    except ValueError:
        azimuth = math.nan
    if not math.isfinite(azimuth):
        raise UserError(f"{where}: azimuth '{row.get('azimuth')}' is no number; mend the line")
    return found, azimuth


def _picture(shot: Shot, title: str, out: Path, background: Background) -> tuple[Picture, Path | None]:
    """A photo with its mask, and the mask's file, as `with_mask` gives them."""
    if shot.mask is not None:
        return read_picture(shot.photo, shot.mask), shot.mask
    return with_mask(shot.photo, None, out, background, title)


def object_frame(
    name: str, shots: list[Shot], masks: list[Bool[np.ndarray, "height width"]], front: int, azimuth: float
) -> tuple[Float[np.ndarray, "3 3"], Float[np.ndarray, "3"], float]:
    """The axes of the object in a capture's world (rows X, Y, Z), the middle of its bounding box, and its longest side, world units.

    Up is across all cameras' horizontals, as photos are held about level. The box is that of what lies inside (nearly) all
    outlines, which is the object's, or a little larger where few photos see it.

    Args:
        front: index of the shot that sees the object from `azimuth` (degrees; 0 is its front).

    Raises:
        UserError: the cameras do not tell up, or outlines and cameras do not agree.
    """
    levels = np.stack([shot.rotation[0] for shot in shots])
    spread, axes = np.linalg.eigh(levels.T @ levels / len(shots))
    if spread[1] < LEVEL:
        raise UserError(
            f"{name}: all photos are from about the same side, which way is up cannot be told; add other sides"
        )
    up = axes[:, 0] * np.sign(-np.stack([shot.rotation[1] for shot in shots]).mean(axis=0) @ axes[:, 0])
    centres = [mask_box(mask).mean(axis=0) for mask in masks]
    rays = [
        shot.rotation.T @ np.linalg.solve(shot.intrinsics, [*c, 1.0]) for shot, c in zip(shots, centres, strict=True)
    ]
    across = [np.eye(3) - np.outer(ray, ray) / (ray @ ray) for ray in rays]
    middle = np.linalg.solve(sum(across), sum(a @ shot.place for a, shot in zip(across, shots, strict=True)))

    towards = shots[front].place - middle
    towards -= (towards @ up) * up
    if not np.linalg.norm(towards) > 1e-6:
        raise UserError(f"{name}: the photo {shots[front].photo.name} is from straight above; name one from a side")
    back = -towards / np.linalg.norm(towards)
    turn = np.stack([np.cross(up, back), up, back])  # that photo's azimuth is 0 here
    angle = math.radians(azimuth)
    turn = np.array([[math.cos(angle), 0, -math.sin(angle)], [0, 1, 0], [math.sin(angle), 0, math.cos(angle)]]) @ turn

    reach = [
        (shot.rotation @ middle + shot.translation)[2] * np.ptp(mask_box(mask), axis=0).max() / shot.intrinsics[0, 0]
        for shot, mask in zip(shots, masks, strict=True)
    ]
    low, high = np.full((2, 3), float(np.median(reach))) * [[-1.0], [1.0]]
    for _ in range(3):  # each time in the box that the last found, with a margin
        margin = 0.1 * (high - low)
        low, high = low - margin, high + margin
        ticks = [np.linspace(a, b, CELLS) for a, b in zip(low, high, strict=True)]
        points = np.stack(np.meshgrid(*ticks, indexing="ij"), axis=-1).reshape(-1, 3)
        votes = sum(_covered(points @ turn + middle, shot, mask) for shot, mask in zip(shots, masks, strict=True))
        inside = points[votes >= len(shots) - len(shots) // 10]
        if len(inside) < 8:
            raise UserError(
                f"{name}: nothing lies inside the outlines of all its photos; look at its masks and cameras"
            )
        low, high = inside.min(axis=0), inside.max(axis=0)
    return turn, middle + (low + high) / 2 @ turn, float((high - low).max())


def _covered(
    points: Float[np.ndarray, "points 3"], shot: Shot, mask: Bool[np.ndarray, "height width"]
) -> Bool[np.ndarray, "points"]:
    """Which points of the world lie on the object in a photo, or outside a photo that may cut the object off."""
    seen = points @ shot.rotation.T + shot.translation
    u, v = ((seen / np.maximum(seen[:, 2:], 1e-9)) @ shot.intrinsics.T)[:, :2].T
    height, width = mask.shape
    known = (seen[:, 2] > 0) & (u >= 0) & (u < width) & (v >= 0) & (v < height)
    found = np.full(len(points), bool(mask[[0, -1]].any() or mask[:, [0, -1]].any()))  # it may go on there
    found[known] = mask[v[known].astype(int), u[known].astype(int)]
    return found
