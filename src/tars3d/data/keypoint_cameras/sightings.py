"""What a collection of keypoints and masks knows before it has cameras, and how it is written when it has them.

Called by `data.keypoint_cameras.estimate`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from scipy.spatial import ConvexHull

from tars3d.data.collection import parse_roots, write_index
from tars3d.data.image_record import ImageRecord, existing_file, parse_keypoints
from tars3d.data.pictures import read_picture
from tars3d.errors import UserError
from tars3d.geometry.masks import mask_box

FEWEST = 5
"""Visible keypoints that a picture needs."""
SHOWN = 0.8
"""Length in the picture, as a share of the true one, from which on an axis is measured there."""


@dataclass(frozen=True, eq=False)
class Sightings:
    """What a collection knows before it has cameras."""

    entries: dict[str, dict[str, Any]]
    pictures: tuple[tuple[Path, Path | None], ...]
    names: tuple[str, ...]
    """Of the keypoints."""
    pixels: Float[np.ndarray, "images keypoints 2"]
    visible: Float[np.ndarray, "images keypoints"]
    middle: Float[np.ndarray, "images 2"]
    """Of the mask's bounding box, pixels."""
    side: Float[np.ndarray, " images"]
    """Its longer side."""
    outlines: tuple[Float[np.ndarray, "_ 2"], ...]
    """Corners of each mask's convex hull, in box sides from the middle of the box."""


def all_entries(file: Path, index: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The entries of cameras.json, those that are set aside among them.

    Raises:
        UserError: one is none.
    """
    aside = index.get("rejected", {})
    if not isinstance(aside, dict):
        raise UserError(f'{file}: "rejected" must map names to entries; mend or remove it')
    entries = {**index["images"], **aside}
    for name, entry in entries.items():
        if not isinstance(entry, dict):
            raise UserError(f"{file}: image {name}: is not an object; give it file, instance and keypoints")
    return entries


def read_sightings(root: Path, index: dict[str, Any], replace_cameras: bool) -> tuple[Sightings, list[str]]:
    """The pictures with enough keypoints, and the names of the others.

    Args:
        index: what the collection's cameras.json holds.
        replace_cameras: take pictures that have cameras already.

    Raises:
        UserError: keypoints are missing or too few, cameras are there already, a file is wrong.
    """
    file = root / "cameras.json"
    roots = parse_roots(file, index)
    entries = all_entries(file, index)
    if not replace_cameras and (there := [name for name, entry in entries.items() if "camera" in entry]):
        raise UserError(f"{file}: image {there[0]} has a camera already; overwrite all cameras with --replace-cameras")
    keypoints = {}
    for name, entry in entries.items():
        found = parse_keypoints(f"{file}: image {name}", entry.get("keypoints"))
        if not found:
            raise UserError(
                f"{file}: image {name} has no keypoints to find a camera from; add them or remove the entry"
            )
        keypoints[name] = found
    names = tuple(dict.fromkeys(key for found in keypoints.values() for key in found))
    chosen = [name for name, found in keypoints.items() if sum(seen for *_, seen in found.values()) >= FEWEST]
    if len(chosen) < 8:
        raise UserError(f"{file}: only {len(chosen)} pictures have {FEWEST} visible keypoints; cameras need 8 or more")
    pixels, visible = np.zeros((len(chosen), len(names), 2)), np.zeros((len(chosen), len(names)))
    middles, sides, pictures, outlines = [], [], [], []
    for row, name in enumerate(chosen):
        for key, (u, v, seen) in keypoints[name].items():
            pixels[row, names.index(key)], visible[row, names.index(key)] = (u, v), float(seen)
        entry, where = entries[name], f"{file}: image {name}"
        picture_file = existing_file(root, where, "file", entry.get("file"), roots)
        mask_file = existing_file(root, where, "mask", entry["mask"], roots) if entry.get("mask") else None
        mask = read_picture(picture_file, mask_file).mask
        low, high = mask_box(mask)
        middles.append((low + high) / 2)
        sides.append(float((high - low).max()))
        pictures.append((picture_file, mask_file))
        outlines.append((_corners(mask) - middles[-1]) / sides[-1])
    kept = {name: entries[name] for name in chosen}
    found = Sightings(
        kept, tuple(pictures), names, pixels, visible, np.array(middles), np.array(sides), tuple(outlines)
    )
    return found, [name for name in entries if name not in kept]


def _corners(mask: Bool[np.ndarray, "height width"]) -> Float[np.ndarray, "corners 2"]:
    """Corners of the convex hull of a mask's pixels."""
    rows = np.flatnonzero(mask.any(axis=1))
    left, right = mask[rows].argmax(axis=1), mask.shape[1] - mask[rows, ::-1].argmax(axis=1)
    ends = np.concatenate([np.c_[x, y] for x in (left, right) for y in (rows, rows + 1)]).astype(float)
    return ends[ConvexHull(ends).vertices]


def write_cameras(
    root: Path,
    index: dict[str, Any],
    splits: dict[str, list[str]] | None,
    records: list[ImageRecord],
    rejected: list[str],
) -> None:
    """Cameras into the entries; rejected pictures aside under "rejected", out of the way of training and of the splits.

    There an entry remembers its object's split, into which the object returns when a picture of it is accepted.

    Args:
        index, splits: what cameras.json and splits.json hold.
        records: of the accepted pictures, with cameras.
        rejected: names of the others.

    Raises:
        UserError: no picture is left.
    """
    file = root / "cameras.json"
    if not records:
        raise UserError(f"{file}: no picture fits the mean shape; check the keypoints' names and order")
    entries = all_entries(file, index)
    home = {instance: side for side, members in (splits or {}).items() for instance in members}
    images = {r.name: {**entries[r.name], "instance": r.instance, "camera": r.camera_json()} for r in records}
    back = {entry["instance"]: str(entry.pop("split")) for entry in images.values() if "split" in entry}
    aside = {name: {key: value for key, value in entries[name].items() if key != "camera"} for name in rejected}
    for name, entry in aside.items():
        if side := home.get(str(entry.get("instance", name))):
            entry["split"] = side
    changed = None
    if splits is not None:
        there = {entry["instance"] for entry in images.values()}
        changed = {side: [member for member in members if member in there] for side, members in splits.items()}
        for instance, side in back.items():
            if instance not in home:
                changed.setdefault(side, []).append(instance)
    category, roots = str(index.get("category", "object")), parse_roots(file, index)
    write_index(root, category, images, changed if changed != splits else None, roots, aside)
