"""Photos whose cameras are in transforms.json, the file of NeRF tools, become a collection: what COLMAP found, by way of nerfstudio or instant-ngp.

Called by `tars3d data import-transforms`. Each object is a folder with its photos and its own transforms.json, in a world of its own,
from which `capture_frame` brings it to the objects' frame.
"""

import json
import math
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from tars3d.arguments import Background
from tars3d.data.image_record import ImageRecord
from tars3d.data.importers.capture_frame import Outline, Shot, object_frame
from tars3d.data.importers.common import Import, placed, refuse_other_collection
from tars3d.data.importers.files import need_file, need_folder, numbers, picture_size
from tars3d.data.importers.options import TransformsOptions
from tars3d.data.importers.own_photos import SUFFIXES, check_test, read_rows, split_of, with_mask
from tars3d.data.pictures import read_picture
from tars3d.errors import UserError
from tars3d.progress import tracked

COLUMNS = ("object", "photo")
LAYOUT = "a JSON of a NeRF tool, with 'frames', each with file_path and a 4x4 transform_matrix"
LENSES = ("PINHOLE", "SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV", "FULL_OPENCV")
"""What COLMAP calls the cameras that are a pinhole, bent a little; fisheyes and panoramas are none."""
UNDISTORT = "colmap image_undistorter"
BENT = 0.02
"""Share of the way from its middle to its corner by which a lens may bend a photo: objects are in the middle, and seen at 128 pixels."""


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
    lines = Counter(known)
    for number, name in enumerate(known, start=2):
        if not name or "/" in name or "\\" in name or lines[name] > 1:
            raise UserError(f"{fronts}: line {number}: '{name}' must be the folder of an object, one line for each")
    check_test(fronts, "object", known, options.test)
    objects = [read_capture(captures / name) for name in known]
    turned = [
        _front(fronts, number, row, shots)
        for number, (row, shots) in enumerate(zip(rows, objects, strict=True), start=2)
    ]
    names = [[f"{name}_{shot.photo.stem}" for shot in shots] for name, shots in zip(known, objects, strict=True)]
    titles = [title for several in names for title in several]
    if twice := _twice(titles):
        raise UserError(
            f"{fronts}: photos of two objects would both be called {twice}; rename the folder of one object"
        )
    roots = {"captures": captures}
    refuse_other_collection(out, roots, titles)
    side = split_of(out, options.test)
    result, made = Import(out, options.category, roots), 0
    everything = list(zip(known, objects, names, turned, strict=True))
    for name, shots, called, (front, azimuth) in tracked(everything, "reading photos", True):
        seen = [_outline(shot, title, out, options.background) for shot, title in zip(shots, called, strict=True)]
        made += sum(guessed for _, _, guessed in seen)
        turn, middle, length = object_frame(name, shots, [outline for outline, _, _ in seen], front, azimuth)
        for shot, title, (_, mask, _) in zip(shots, called, seen, strict=True):
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
    except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError) as error:
        raise UserError(f"{file}: cannot be read ({error!r}); expected {LAYOUT}") from error
    if len(shots) < 2:
        raise UserError(f"{file}: has {len(shots)} photos; an object takes 2 or more, from several sides")
    if twice := _twice(shot.photo.stem for shot in shots):
        first, second, *_ = (shot.photo.relative_to(folder) for shot in shots if shot.photo.stem == twice)
        cure = "remove one of its frames" if first == second else "rename one, as pictures are called by that name"
        raise UserError(f"{file}: names {first} and {second}; {cure}")
    return shots


def _twice(names: Iterable[str]) -> str | None:
    """The first name that comes more than once."""
    return next((name for name, count in Counter(names).items() if count > 1), None)


def _shot(file: Path, tree: dict[str, Any], frame: dict[str, Any]) -> Shot:
    """A frame, what it lacks taken from the head of the file."""
    photo = _inside(file, str(frame["file_path"]))
    where = f"{file}: {photo.name}"
    model = "fisheye" if frame.get("is_fisheye") else str(frame.get("camera_model", "PINHOLE"))
    if model not in LENSES:
        raise UserError(f"{where}: its camera_model is {model}; make pinhole photos of it first ({UNDISTORT})")
    pose = numbers(where, frame, "transform_matrix", (4, 4), LAYOUT)
    scale = float(np.cbrt(np.linalg.det(pose[:3, :3])))
    if not (scale > 0 and np.allclose(pose[:3, :3] @ pose[:3, :3].T, scale**2 * np.eye(3), atol=1e-3 * scale**2)):
        raise UserError(f"{where}: its transform_matrix is no camera's place and turn; find the cameras again")
    rotation = np.diag([1.0, -1, -1]) @ pose[:3, :3].T / scale  # from OpenGL's axes, camera-to-world
    size = picture_size(photo, "PNG, JPEG or HEIC")
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
            f"{where}: its lens bends the corners by {100 * abs(bent):.0f}%; undistort the photos first ({UNDISTORT})"
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


def _outline(shot: Shot, title: str, out: Path, background: Background) -> tuple[Outline, Path | None, bool]:
    """Where a photo shows the object, the mask's file (as `with_mask` gives it), and whether that had to be found."""
    if shot.mask is not None:
        picture, mask = read_picture(shot.photo, shot.mask), shot.mask
    else:
        picture, mask = with_mask(shot.photo, None, out, background, title)
    return Outline.of_mask(picture.mask), mask, picture.guessed
