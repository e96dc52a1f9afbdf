"""What importers of people's own photos share: a table read safely, a photo found by its name, a mask found or made.

Called by `data.importers.photos`, `data.importers.transforms` and `data.importers.keypoints`.
"""

import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from tars3d.arguments import Background
from tars3d.data.collection import PICTURE_SUFFIXES, read_splits
from tars3d.data.importers.files import need_file
from tars3d.data.pictures import Picture, read_picture
from tars3d.errors import UserError
from tars3d.sheets import write_picture

SUFFIXES = (*PICTURE_SUFFIXES, *(suffix.upper() for suffix in PICTURE_SUFFIXES))


def read_rows(table: Path, columns: Sequence[str], aliases: Mapping[str, str] | None = None) -> list[dict[str, str]]:
    """The rows of a CSV file that has (at least) these columns, without space around values; "" where a row ends too early.

    Args:
        aliases: for a column the name that it may have instead.

    Raises:
        UserError: it is missing, no CSV, empty, or lacks a column.
    """
    try:
        with need_file(table, f"a CSV with {', '.join(columns)}").open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, restval="")
            reader.fieldnames = header = [column.strip() for column in reader.fieldnames or []]
            rows = [{column: row[column].strip() for column in header} for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{table}: cannot be read as CSV ({error}); save it as UTF-8 with commas") from error
    for column, alias in (aliases or {}).items():
        if column not in header and alias in header:
            rows = [{**row, column: row[alias]} for row in rows]
            header = [*header, column]
    if lacking := [column for column in columns if column not in header]:
        hint = "; it seems to have semicolons, save it with commas" if len(header) == 1 and ";" in header[0] else ""
        raise UserError(f"{table}: has no column '{lacking[0]}'; expected {', '.join(columns)}{hint}")
    if not rows:
        raise UserError(f"{table}: has no rows; expected {', '.join(columns)}")
    return rows


def check_test(table: Path, kind: str, known: Iterable[str], test: Sequence[str]) -> None:
    """Refuse names for the test split that are not among the objects (or groups: the `kind`) of a table."""
    if unknown := sorted(set(test) - set(known)):
        raise UserError(f"{table}: no {kind} is called {unknown[0]}; choose from {', '.join(sorted(set(known)))}")


def split_of(out: Path, test: Sequence[str]) -> Callable[[str], str]:
    """Where objects go: those named for the test, and only those where any is; else where the collection in `out` has them, or to training.

    Raises:
        UserError: its splits.json is damaged.
    """
    sides = (read_splits(out) or {}).items()
    found = {name: side for side, names in sides for name in names if side == "val" or not test}
    found |= dict.fromkeys(test, "test")
    return lambda name: found.get(name, "train")


def find_photo(folder: Path, name: str) -> Path:
    """The photo called `name`, or of the same stem with another ending.

    Raises:
        UserError: there is none, or the name leaves the folder.
    """
    if not name or "/" in name or "\\" in name:
        raise UserError(f"{folder}: '{name}' is not the name of a photo in it; give a file's name")
    stem = Path(name).stem
    for file in (folder / name, *(folder / f"{stem}{suffix}" for suffix in SUFFIXES)):
        if file.is_file():
            return file
    raise UserError(f"{folder / stem}.jpg: the photo is missing; add it, .png, .jpg or .heic")


def with_mask(
    photo: Path, masks: Path | None, out: Path, background: Background, name: str | None = None
) -> tuple[Picture, Path | None]:
    """A photo with its mask, and the mask's file: None where it is the photo's alpha channel.

    A mask that had to be found is written to OUT/masks/NAME.png, where it can be looked at and mended; one that is there already is kept.

    Args:
        masks: folder of NAME.png, as large as the photos; None: alpha channel, or else found from the background.
        name: of the picture in the collection; None: its file's.

    Raises:
        UserError: photo or mask cannot be used, or the mask cannot be found.
    """
    name = name or photo.stem
    if masks is not None:
        file = need_file(masks / f"{name}.png", f"the mask of {photo.name}, as large as the photo")
        return read_picture(photo, file), file
    file = out / "masks" / f"{name}.png"
    if file.is_file():
        return read_picture(photo, file), file
    picture = read_picture(photo, background=background)
    if not picture.guessed:
        return picture, None
    return picture, write_picture(file, picture.mask.astype(np.uint8) * np.uint8(255))
