"""Files of a layout that others have published or users have written, read safely: each error names the file and what was expected of it.

Called by the importers and `own_photos`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from PIL import ExifTags

from tars3d.data.pictures import open_image
from tars3d.errors import UserError, reason_of

TURNING = range(2, 9)
"""EXIF orientations by which a picture is turned or mirrored when it is read; 1 is upright, others say nothing."""


def need_folder(folder: Path, layout: str) -> Path:
    """`folder`, if it is one.

    Raises:
        UserError: it is missing; `layout` says what was expected.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; expected {layout}")
    return folder


def need_file(file: Path, layout: str) -> Path:
    """`file`, if there is one.

    Raises:
        UserError: it is missing; `layout` says what was expected.
    """
    if not file.is_file():
        raise UserError(f"{file}: is missing; expected {layout}")
    return file


def read_lines(file: Path, layout: str) -> list[str]:
    """The lines of a text file, without empty ones and without space around them.

    Raises:
        UserError: it is missing, or no text in UTF-8.
    """
    try:
        lines = need_file(file, layout).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: cannot be read as text ({error}); save it as UTF-8, expected {layout}") from error
    return [line.strip() for line in lines if line.strip()]


def read_list(file: Path, layout: str) -> list[str]:
    """The lines of a list of names; a list may not be empty or name anything twice.

    Raises:
        UserError: it is missing, unreadable, empty, or repeats a line.
    """
    names = read_lines(file, layout)
    if not names:
        raise UserError(f"{file}: the list is empty; expected {layout}")
    if len(set(names)) < len(names):
        double = next(name for number, name in enumerate(names) if name in names[:number])
        raise UserError(f"{file}: names '{double}' twice; remove one")
    return names


def read_mat(file: Path, key: str, layout: str) -> Any:
    """Variable `key` of a MATLAB file: structs become objects with attributes, arrays of one element that element.

    Raises:
        UserError: the file is missing, cut off, or lacks the variable.
    """
    import scipy.io

    try:
        content = scipy.io.loadmat(str(need_file(file, layout)), struct_as_record=False, squeeze_me=True)
    except UserError:
        raise
    except Exception as error:  # scipy's reader raises nearly anything on damaged files
        reason = reason_of(error)
        raise UserError(f"{file}: is no MATLAB file that can be read ({reason}); expected {layout}") from error
    if key not in content:
        raise UserError(f"{file}: has no variable '{key}'; expected {layout}")
    return content[key]


def numbers(where: str, holder: Any, name: str, shape: tuple[int, ...], layout: str) -> np.ndarray:
    """Attribute or entry `name` of a struct as finite float64 of `shape`; sizes of 1 are dropped from both.

    Raises:
        UserError: it is missing, no numbers, of another shape or not finite.
    """
    value = holder.get(name) if isinstance(holder, Mapping) else getattr(holder, name, None)
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        array = np.array(np.nan)
    wanted = tuple(size for size in shape if size != 1)
    if value is None or np.squeeze(array).shape != wanted or not np.isfinite(array).all():
        raise UserError(f"{where}: needs finite numbers of the shape {shape} in '{name}'; expected {layout}")
    return array.reshape(shape)


def picture_size(file: Path, layout: str) -> tuple[int, int]:
    """Width and height of a picture that is shown as it is stored.

    `data.pictures` turns a picture as its EXIF tag says. Of published annotations nobody can know whether they refer to the pixels as
    stored or as shown.

    Raises:
        UserError: it is missing, no picture, or turned by its EXIF tag.
    """
    try:
        with open_image(need_file(file, layout)) as image:
            size, orientation = image.size, image.getexif().get(ExifTags.Base.Orientation, 1)
    except UserError:
        raise
    except Exception as error:  # Pillow's readers raise nearly anything on damaged files and tags
        raise UserError(f"{file}: is not a picture that can be read; copy it again, expected {layout}") from error
    if orientation in TURNING:
        raise UserError(
            f"{file}: its EXIF orientation {orientation} turns the picture, its annotations may refer to it turned or not; "
            "store the pixels as annotated and strip the tag"
        )
    return size


def check_box(where: str, box: Float[np.ndarray, "4"], width: int, height: int) -> None:
    """Refuse a box x1, y1, x2, y2 (pixels) that is turned, empty or does not touch the picture.

    Boxes may reach a little outside: published ones do where objects are cut off.

    Raises:
        UserError: in words.
    """
    x1, y1, x2, y2 = box
    if x2 <= x1 or y2 <= y1:
        raise UserError(f"{where}: the box {box.tolist()} is empty; it must be x1, y1, x2, y2")
    slack = 0.1 * max(width, height)
    if x1 < -slack or y1 < -slack or x2 > width + slack or y2 > height + slack:
        raise UserError(
            f"{where}: the box {box.tolist()} lies outside the picture of {width}x{height}; is it another picture's?"
        )
