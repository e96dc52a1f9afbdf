"""Photos and a table of viewpoints become a collection: a turntable, or a walk around each object with tape and compass.

Called by `tars3d data import-photos`. A row is a photo: photo (a file's name), object (which thing it shows), azimuth and elevation
(degrees; 0 is the front, 90 the object's right at +X), distance (of the camera, in units of the object's longest side), focal
(pixels of that photo), and optionally roll (degrees).
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from tars3d.arguments import Aim
from tars3d.data.image_record import ImageRecord
from tars3d.data.importers.common import Import, refuse_other_collection
from tars3d.data.importers.files import need_folder
from tars3d.data.importers.options import PhotoOptions
from tars3d.data.importers.own_photos import check_test, find_photo, read_rows, split_of, with_mask
from tars3d.errors import UserError
from tars3d.geometry.camera import look_at_origin, pinhole
from tars3d.geometry.masks import mask_box
from tars3d.progress import tracked

COLUMNS = ("photo", "object", "azimuth", "elevation", "distance", "focal")


def import_photos(photos: Path, table: Path, out: Path, options: PhotoOptions) -> tuple[Import, int]:
    """Write the collection; photos are read in place.

    Args:
        photos: folder of the photos.
        table: CSV with the columns photo, object, azimuth, elevation, distance, focal, and maybe roll.
        out: folder of the collection.

    Returns:
        the collection, and how many masks were found and written.

    Raises:
        UserError: a file, column, number or name is wrong.
    """
    photos = need_folder(photos, "photos, PNG, JPEG or HEIC").resolve()
    rows = read_rows(table, COLUMNS)
    roots = {"photos": photos}
    if options.masks is not None:
        roots["masks"] = need_folder(options.masks, "a mask NAME.png for each photo").resolve()
    known = {row["object"] for row in rows} - {""}
    check_test(table, "object", known, options.test)
    shots = _shots(rows, table, photos)
    refuse_other_collection(out, roots, [shot.photo.stem for shot in shots])
    side = split_of(out, options.test)
    # The folder may be named through a link: its files and the collection's must be told apart by their true places.
    result, made = Import(out.resolve(), options.category, roots), 0
    for shot in tracked(shots, "reading photos", True):
        picture, mask = with_mask(shot.photo, roots.get("masks"), result.out, options.background)
        made += picture.guessed
        intrinsics, extrinsics = _camera(picture.mask, shot.viewpoint, shot.roll, options.aim)
        record = ImageRecord(shot.photo.stem, shot.photo, mask, shot.instance, "perspective", intrinsics, extrinsics)
        result.add(record, side(shot.instance))
    return result.write(), made


@dataclass(frozen=True)
class _Shot:
    """A row of the table: the photo, what it shows, and from where."""

    photo: Path
    instance: str
    viewpoint: dict[str, float]
    roll: float


def _shots(rows: list[dict[str, str]], table: Path, photos: Path) -> list[_Shot]:
    """All rows, looked at before any photo is read.

    Raises:
        UserError: a number or a name is wrong, or a photo is missing or comes twice.
    """
    found: dict[str, _Shot] = {}
    for number, row in enumerate(rows, start=2):
        where = f"{table}: line {number}"
        viewpoint = {key: _number(where, row, key) for key in COLUMNS[2:]}
        if viewpoint["distance"] <= 0.5 or viewpoint["focal"] <= 1:
            raise UserError(
                f"{where}: distance {row['distance']} must be over 0.5 (object lengths) and focal {row['focal']} over 1 (pixels); mend the line"
            )
        photo, instance = find_photo(photos, row["photo"]), row["object"]
        if not instance or "/" in instance or "\\" in instance:
            raise UserError(f"{where}: '{instance}' names no object; give a name without slashes")
        if photo.stem in found:
            raise UserError(f"{where}: the photo {photo.stem} comes twice; remove one")
        found[photo.stem] = _Shot(photo, instance, viewpoint, _number(where, row, "roll", 0.0))
    return list(found.values())


def _number(where: str, row: dict[str, str], key: str, default: float = math.nan) -> float:
    try:
        value = float(row[key]) if row.get(key) else default
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UserError(f"{where}: {key} '{row.get(key)}' is no number; mend the line")
    return value


def _camera(
    mask: np.ndarray, viewpoint: dict[str, float], roll: float, aim: Aim
) -> tuple[Float[np.ndarray, "3 3"], Float[np.ndarray, "3 4"]]:
    height, width = mask.shape
    intrinsics = pinhole(viewpoint["focal"], (width / 2, height / 2))
    extrinsics = look_at_origin(viewpoint["azimuth"], viewpoint["elevation"], viewpoint["distance"], roll)
    if aim == "mask":
        # The camera turns where it stands, until it sees the origin in the middle of the mask's box.
        ray = np.linalg.solve(intrinsics, np.append(mask_box(mask).mean(axis=0), 1))
        extrinsics = Rotation.align_vectors([ray], [[0.0, 0, 1]])[0].as_matrix() @ extrinsics
    return intrinsics, extrinsics
