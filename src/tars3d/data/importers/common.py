"""What the importers of published data sets share: crops, cameras and models in the package's frames, and the collection written.

Called by the importers beside it. A data set is read in place: the collection names its files under roots (`collection.write_index`), and only
masks that are no picture files yet are written.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Bool, Float
from PIL import Image

from tars3d.atomic import atomic_path
from tars3d.data.collection import SIDES, parse_roots, read_index, write_index
from tars3d.data.framing import Crop
from tars3d.data.ground_truth import load_cloud
from tars3d.data.image_record import ImageRecord
from tars3d.data.importers.files import need_file
from tars3d.data.importers.options import Pascal3dOptions, Pix3dOptions
from tars3d.errors import UserError
from tars3d.geometry.camera import pinhole
from tars3d.geometry.silhouette_fit import CenteredCamera

CadOptions = TypeVar("CadOptions", Pascal3dOptions, Pix3dOptions)
"""Options of data sets with annotated cameras and CAD models."""
DEPTH = 2.5
"""Of the object's centre before an orthographic camera, as published; it does not move the picture."""
FROM_Z_UP = np.array([[-1.0, 0, 0], [0, 0, 1], [0, 1, 0]])
"""From axes with Z up and the front to -Y (Pascal3D+ models, CUB's mean bird) to the object frame; a proper rotation."""


@dataclass
class Import:
    """A collection in the making."""

    out: Path
    category: str
    roots: dict[str, Path]
    images: dict[str, dict[str, Any]] = field(default_factory=dict)
    splits: dict[str, list[str]] = field(default_factory=lambda: {split: [] for split in SIDES})
    skipped: dict[str, int] = field(default_factory=dict)
    """Why items were left out, and how many."""

    def __post_init__(self) -> None:
        refuse_other_collection(self.out, self.roots)  # before masks are written; by its pictures in `write`

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
            UserError: no picture is left, or see `refuse_other_collection`.
        """
        if not self.images:
            reasons = "; ".join(f"{count} {reason}" for reason, count in self.skipped.items())
            raise UserError(f"{self.out}: nothing to import{f' ({reasons})' if reasons else ''}; check --category")
        refuse_other_collection(self.out, self.roots, self.images)
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


def refuse_other_collection(out: Path, roots: dict[str, Path], names: Iterable[str] | None = None) -> None:
    """Raise UserError where `out` holds a collection that no import of these pictures wrote: its cameras and splits would be lost.

    An import may be repeated, with more or fewer pictures of the same folders, or with the same pictures from elsewhere.

    Args:
        names: of the pictures; None: not known yet, and the roots' names decide.
    """
    if not (out / "cameras.json").exists():
        return
    index = read_index(out)
    folders = parse_roots(out / "cameras.json", index)
    if names is None:
        if folders.keys().isdisjoint(roots):
            raise UserError(f"{out}: holds another collection; choose another --out")
        return
    found, names = {*index["images"], *index.get("rejected", {})}, set(names)
    shared = any(root in folders and folders[root].resolve() == folder.resolve() for root, folder in roots.items())
    if found != names and not (shared and found & names):
        raise UserError(f"{out}: holds another collection; choose another --out")


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


def weaken(
    intrinsics: Float[np.ndarray, "3 3"], extrinsics: Float[np.ndarray, "3 4"]
) -> tuple[Float[np.ndarray, "3 3"], Float[np.ndarray, "3 4"]]:
    """The orthographic camera nearest to a perspective one, about the object's origin.

    The line of sight to the origin becomes the viewing direction: an object off the picture's middle is seen from the side.
    """
    centered = CenteredCamera.of_pinhole(intrinsics, extrinsics, perspective=True)
    return pinhole(centered.scale, centered.center), np.c_[centered.rotation, [0.0, 0, DEPTH]]


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


def with_camera_and_units(options: CadOptions) -> CadOptions:
    """The options with the camera model and the units that they come to: as published, those are the paper's.

    Raises:
        UserError: they do not go together.
    """
    if options.as_published:
        return replace(options, camera="orthographic", units="crop")
    if options.units == "crop" and options.camera != "orthographic":
        raise UserError("--units crop: is defined for --camera orthographic alone; choose that, or --units object")
    return options


def as_asked(
    intrinsics: Float[np.ndarray, "3 3"],
    extrinsics: Float[np.ndarray, "3 4"],
    transform: Float[np.ndarray, "3 4"],
    crop: Crop,
    options: Pascal3dOptions | Pix3dOptions,
) -> tuple[Float[np.ndarray, "3 3"], Float[np.ndarray, "3 4"], Float[np.ndarray, "3 4"]]:
    """An annotated perspective camera and its object's transform, in the model and the units of `with_camera_and_units`.

    In crop units half the crop is 1 (and it spans -1 to 1): the orthographic camera and the object are rescaled.
    """
    if options.camera == "orthographic":
        intrinsics, extrinsics = weaken(intrinsics, extrinsics)
    if options.units == "crop":
        transform = transform * (intrinsics[0, 0] / (crop.side / 2))
        intrinsics = pinhole(crop.side / 2, intrinsics[:2, 2])
    return intrinsics, extrinsics, transform


def as_released(
    rotation: Float[np.ndarray, "3 3"], crop: Crop
) -> tuple[Float[np.ndarray, "3 3"], Float[np.ndarray, "3 4"]]:
    """Intrinsics and extrinsics in the released loaders' way: orthographic, half the crop is 1, the object in its middle."""
    return pinhole(crop.side / 2, middle_of(crop)), np.c_[rotation, [0, 0, DEPTH]]
