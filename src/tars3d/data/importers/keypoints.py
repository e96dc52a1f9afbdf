"""Keypoints from a table become a collection without cameras, for `tars3d data cameras` to complete.

Called by `tars3d data import-keypoints`. A row is a keypoint: mask or photo (a file's name), keypoint (a number or a name), x, y (pixels of the
mask, counted from 0), visible (0 or 1), and optionally a group (species, product line) by which to split.
"""

import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tars3d.atomic import atomic_path
from tars3d.data.collection import SIDES, read_index, write_index
from tars3d.data.importers.common import refuse_other_collection
from tars3d.data.importers.files import need_file, need_folder, read_lines
from tars3d.data.importers.options import KeypointOptions
from tars3d.data.importers.own_photos import check_test, find_photo, read_rows, split_of, with_mask
from tars3d.data.keypoint_cameras.sightings import all_entries
from tars3d.data.pictures import read_picture
from tars3d.errors import UserError

COLUMNS = ("mask", "keypoint", "x", "y", "visible")
GREY = 90
"""Of silhouettes that stand in for photos: the encoder then sees the mask, dark on white."""


def import_keypoints(table: Path, out: Path, options: KeypointOptions) -> dict[str, int]:
    """Write the collection; photos are read in place, silhouettes are drawn where there are none.

    Args:
        table: CSV with the columns mask (or photo), keypoint, x, y, visible.
        out: folder of the collection.

    Returns:
        counts of pictures by split.

    Raises:
        UserError: a file, column, number or group is wrong.
    """
    if options.masks is None and options.images is None:
        raise UserError(f"{table}: neither photos nor masks are given; give --masks DIR, --images DIR, or both")
    labels, test = {} if options.names is None else _names(options.names), options.test
    keypoints, groups = _read_table(table, labels, options.group)
    known = set(groups.values()) - {""}
    if test and options.group is None:
        raise UserError(f"--test {test[0]}: names groups; give --group COLUMN of {table}, too")
    check_test(table, "group", known, test)
    _refuse_double_stems(table, keypoints)
    roots = {}
    if options.masks is not None:
        roots["masks"] = need_folder(options.masks, "masks as PNG").resolve()
    if options.images is not None:
        roots["images"] = need_folder(options.images, "photos named like the masks").resolve()
    refuse_other_collection(out, roots, [Path(mask).stem for mask in keypoints])
    side = split_of(out, [Path(mask).stem for mask in keypoints if groups.get(mask) in test])
    entries, splits = {}, {split: [] for split in SIDES}
    for mask, points in keypoints.items():
        stem = Path(mask).stem
        entry: dict[str, Any] = {"instance": stem, "keypoints": points}
        file = _mask(roots["masks"], mask, table) if "masks" in roots else None
        if "images" not in roots:
            assert file is not None
            entry["file"] = _silhouette(file, out / "images" / f"{stem}.png").relative_to(out).as_posix()
        else:
            photo = find_photo(roots["images"], mask)
            entry["file"] = f"{{images}}/{photo.name}"
            if file is None:
                file = with_mask(photo, None, out, options.background)[1]
                if file is not None:
                    entry["mask"] = file.relative_to(out).as_posix()
            else:
                entry["mask"] = f"{{masks}}/{file.name}"
        entries[stem] = entry
        splits[side(stem)].append(stem)
    out.mkdir(parents=True, exist_ok=True)
    aside = _kept(out, entries)
    for name, entry in aside.items():
        if name in splits["test"]:
            entry["split"] = "test"
        elif test and entry.get("split") == "test":  # only the named groups are for the test
            entry["split"] = "train"
    chosen = {name: entry for name, entry in entries.items() if name not in aside}
    splits = {split: [name for name in members if name in chosen] for split, members in splits.items()}
    write_index(out, options.category, chosen, splits if test or (out / "splits.json").exists() else None, roots, aside)
    return {split: len(members) for split, members in splits.items()}


def _kept(out: Path, entries: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """What `data cameras` found in an earlier import of the same pictures and keypoints: cameras go into `entries`, those of them that it set
    aside are returned."""
    file, aside = out / "cameras.json", {}
    if not file.exists():
        return aside
    index = read_index(out)
    for name, old in all_entries(file, index).items():
        entry = entries.get(name)
        if entry is None or (old.get("file"), old.get("keypoints")) != (entry["file"], entry["keypoints"]):
            continue
        if name not in index["images"]:
            aside[name] = entry | ({"split": old["split"]} if "split" in old else {})
        elif "camera" in old:
            entry["camera"] = old["camera"]
    return aside


def _refuse_double_stems(table: Path, files: Iterable[str]) -> None:
    """Entries of a collection are called by their pictures' stems: two of one stem would overwrite each other."""
    seen: dict[str, str] = {}
    for file in files:
        other = seen.setdefault(Path(file).stem, file)
        if other != file:
            raise UserError(f"{table}: names {other} and {file}; rename one, names without endings must be unique")


def _mask(folder: Path, name: str, table: Path) -> Path:
    """The mask of that name, or NAME.png where the name is a photo's."""
    file = folder / name if (folder / name).is_file() else folder / f"{Path(name).stem}.png"
    return need_file(file, f"the mask that {table.name} names")


def _names(file: Path) -> dict[str, str]:
    """Names by number, of lines such as "3. Crown", or "Crown" in their order; where numbers come again, the last counts."""
    labels: dict[str, str] = {}
    for line in read_lines(file, "a keypoint's name a line"):
        numbered = re.match(r"(\d+)[.:)]?\s+(\S.*)", line)
        if numbered:
            labels[numbered[1]] = numbered[2]
        elif not line.endswith(":"):
            labels[str(len(labels))] = line
    return labels


def _read_table(
    table: Path, labels: dict[str, str], group: str | None
) -> tuple[dict[str, dict[str, list[float]]], dict[str, str]]:
    rows = read_rows(table, [*COLUMNS, *([group] if group else [])], {"mask": "photo"})
    keypoints: dict[str, dict[str, list[float]]] = {}
    groups: dict[str, str] = {}
    for number, row in enumerate(rows, start=2):
        mask, key = row["mask"], row["keypoint"]
        if not mask or "/" in mask or "\\" in mask:
            raise UserError(f"{table}: line {number}: '{mask}' is not the name of a mask; give a file's name")
        name = labels.get(key, key)
        if labels and key not in labels:
            raise UserError(f"{table}: line {number}: keypoint {key} has no name; there are {', '.join(labels)}")
        try:
            x, y, visible = float(row["x"]), float(row["y"]), float(row["visible"])
        except (TypeError, ValueError):
            x = y = visible = math.nan
        if not all(math.isfinite(value) for value in (x, y, visible)):
            raise UserError(f"{table}: line {number}: x, y and visible must be numbers; mend the line")
        if name in keypoints.setdefault(mask, {}):
            raise UserError(f"{table}: line {number}: {mask} has keypoint {name} twice; remove one")
        keypoints[mask][name] = [x + 0.5, y + 0.5, int(visible > 0)]  # a pixel's centre
        if group:
            groups[mask] = row[group]
    return keypoints, groups


def _silhouette(mask: Path, file: Path) -> Path:
    seen = read_picture(mask, mask).mask
    rgba = np.dstack([np.full((*seen.shape, 3), GREY, np.uint8), seen.astype(np.uint8) * np.uint8(255)])
    with atomic_path(file) as path:
        Image.fromarray(rgba).save(path, format="PNG", optimize=True)
    return file
