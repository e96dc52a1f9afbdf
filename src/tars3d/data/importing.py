"""What the importers of published data sets share: lists and .mat files read safely, pictures measured, the collection written.

Called by `data.import_shapenet`, `import_pascal3d`, `import_cub` and `import_pix3d`. A data set is read in place: the collection
names its files under roots (`collection.write_index`), and only masks that are no picture files yet are written.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float
from PIL import ExifTags, Image

from tars3d.atomic import atomic_path
from tars3d.data.collection import write_index
from tars3d.data.framing import Crop
from tars3d.data.ground_truth import Surface, load_cloud
from tars3d.data.image_record import ImageRecord
from tars3d.errors import UserError, reason_of

Units = Literal["object", "crop"]
"""What is 1 long: the object's longest side, or half the side of the published square crop (as in the paper)."""

SPLITS = ("train", "val", "test")
DEPTH = 2.5
"""Of the object's centre before an orthographic camera, as published; it does not move the picture."""
TURNING = range(2, 9)
"""EXIF orientations by which a picture is turned or mirrored when it is read; 1 is upright, others say nothing."""

FROM_Z_UP = np.array([[-1.0, 0, 0], [0, 0, 1], [0, 1, 0]])
"""From axes with Z up and the front to -Y (Pascal3D+ models, CUB's mean bird) to the object frame; a proper rotation."""


@dataclass
class Import:
    """A collection in the making."""

    out: Path
    category: str
    roots: dict[str, Path]
    images: dict[str, dict[str, Any]] = field(default_factory=dict)
    splits: dict[str, list[str]] = field(default_factory=lambda: {split: [] for split in SPLITS})
    skipped: dict[str, int] = field(default_factory=dict)
    """Why items were left out, and how many."""

    def add(self, record: ImageRecord, split: str) -> None:
        """Enter a picture; its object joins `split`."""
        self.images[record.name] = record.to_json(self.out, self.roots)
        if not self.splits[split] or self.splits[split][-1] != record.instance:
            self.splits[split].append(record.instance)

    def skip(self, reason: str) -> None:
        """Count an item that is left out."""
        self.skipped[reason] = self.skipped.get(reason, 0) + 1

    def write(self) -> "Import":
        """Write the index; refuse an import that found nothing.

        Raises:
            UserError: no picture is left.
        """
        if not self.images:
            reasons = "; ".join(f"{count} {reason}" for reason, count in self.skipped.items())
            raise UserError(f"{self.out}: nothing to import{f' ({reasons})' if reasons else ''}; check --category")
        splits = {split: list(dict.fromkeys(names)) for split, names in self.splits.items()}
        self.out.mkdir(parents=True, exist_ok=True)
        write_index(self.out, self.category, self.images, splits, self.roots)
        return self

    def summary(self) -> str:
        """What was imported and what was not, in words."""
        counts = ", ".join(f"{len(set(names))} {split}" for split, names in self.splits.items())
        lines = [f"{len(self.images)} pictures; objects: {counts}"]
        lines += [f"left out: {count} {reason}" for reason, count in self.skipped.items()]
        return "\n".join(lines)


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
        with Image.open(need_file(file, layout)) as image:
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


def square_crop(box: Float[np.ndarray, "4"], tall: bool) -> Crop:
    """The published crop about a box x1, y1, x2, y2: 1.2 times its longer side, or 3 times its height, in whole pixels."""
    width, height = box[2:] - box[:2]
    side = max(1, int(3 * height if tall else 1.2 * max(width, height)))
    x, y = (box[:2] + box[2:] - side) / 2
    return Crop(float(x), float(y), float(side))


def middle_of(crop: Crop) -> Float[np.ndarray, "2"]:
    """The middle of a crop, pixels."""
    return np.array([crop.x, crop.y]) + crop.side / 2


def write_mask(file: Path, mask: Bool[np.ndarray, "height width"], where: str) -> Path:
    """Write a mask as a 1-bit PNG.

    Raises:
        UserError: it is empty.
    """
    if not mask.any():
        raise UserError(f"{where}: the mask is empty; leave the picture out of the list")
    with atomic_path(file) as path:
        Image.fromarray(mask).save(path, format="PNG", bits=1)
    return file


def pinhole(focal: float, centre: Sequence[float] | np.ndarray) -> Float[np.ndarray, "3 3"]:
    """Intrinsics from focal length (or orthographic scale) and principal point, in pixels."""
    return np.array([[focal, 0, centre[0]], [0, focal, centre[1]], [0, 0, 1]], dtype=np.float64)


def weaken(
    intrinsics: Float[np.ndarray, "3 3"], extrinsics: Float[np.ndarray, "3 4"]
) -> tuple[Float[np.ndarray, "3 3"], Float[np.ndarray, "3 4"]]:
    """The orthographic camera nearest to a perspective one, about the object's origin.

    The line of sight to the origin becomes the viewing direction: an object off the picture's middle is seen from the side.
    """
    from scipy.spatial.transform import Rotation

    rotation, centre = extrinsics[:, :3], extrinsics[:, 3]
    pixel = intrinsics @ (centre / centre[2])
    sight = centre / np.linalg.norm(centre)
    axis = np.cross(sight, [0.0, 0, 1])
    angle = np.arctan2(np.linalg.norm(axis), sight[2])
    turn = Rotation.from_rotvec(axis / max(np.linalg.norm(axis), 1e-12) * angle).as_matrix()
    scale = intrinsics[0, 0] / centre[2]
    return pinhole(scale, pixel[:2]), np.c_[turn @ rotation, [0.0, 0, DEPTH]]


class Models:
    """The bounding boxes of a data set's 3D models, each read once."""

    def __init__(self) -> None:
        self._boxes: dict[Path, tuple[np.ndarray, float]] = {}

    def box(self, file: Path, layout: str) -> tuple[Float[np.ndarray, "3"], float]:
        """Middle of a model's bounding box and its longest side, in the model's own coordinates.

        Raises:
            UserError: the model is missing or damaged.
        """
        if file not in self._boxes:
            points = np.asarray(load_cloud(need_file(file, layout))[0], dtype=np.float64)
            low, high = points.min(axis=0), points.max(axis=0)
            if not (high - low).max() > 0:
                raise UserError(f"{file}: the model has no extent; copy it again")
            self._boxes[file] = (low + high) / 2, float((high - low).max())
        return self._boxes[file]


def placed(
    rotation: Float[np.ndarray, "3 3"],
    translation: Float[np.ndarray, "3"],
    turn: Float[np.ndarray, "3 3"],
    middle: Float[np.ndarray, "3"],
    side: float,
) -> tuple[Float[np.ndarray, "3 4"], Float[np.ndarray, "3 4"]]:
    """Extrinsics of the object frame, and the transform to it, from a camera of model coordinates.

    Args:
        rotation, translation: x_camera = R p + t, OpenCV axes, model units.
        turn: model axes to the object frame's.
        middle: what becomes the origin, model units.
        side: what becomes 1, model units.
    """
    extrinsics = np.c_[rotation @ turn.T, (rotation @ middle + translation) / side]
    return extrinsics, np.c_[turn, -(turn @ middle)] / side


def as_crop_units(
    intrinsics: Float[np.ndarray, "3 3"], extrinsics: Float[np.ndarray, "3 4"], transform: np.ndarray, crop_side: float
) -> tuple[Float[np.ndarray, "3 3"], Float[np.ndarray, "3 4"], Float[np.ndarray, "3 4"]]:
    """An orthographic camera and its object, rescaled so that half the crop is 1 (and the crop spans -1 to 1)."""
    factor = intrinsics[0, 0] / (crop_side / 2)
    return pinhole(crop_side / 2, intrinsics[:2, 2]), extrinsics, transform * factor


def tracked(items: Iterable[Any], words: str, progress: bool) -> Iterable[Any]:
    """`items` under a progress bar."""
    from rich.progress import track

    return track(list(items), words, disable=not progress, transient=True)


def surface(file: Path, transform: np.ndarray, normals: bool = True) -> Surface:
    """Ground truth in a data set's own file."""
    return Surface(file, np.asarray(transform, dtype=np.float64), normals)
