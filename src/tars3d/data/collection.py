"""The image collection on disk: pictures with cameras, splits and ground truth.

Loaded and validated, or written. Called by training, evaluation, the renderer and every importer. Pictures
themselves are decoded by `tars3d.data.pictures`.

    DIR/images/NAME.png|jpg        pictures; DIR/masks/NAME.png where they are not RGBA
    DIR/cameras.json               {"format": "tars3d-collection", "version": 1, "category": ...,
                                    "images": {NAME: entry}}
    DIR/splits.json                {"train": [instances], "val": [...], "test": [...]}, optional
    DIR/ground_truth/INSTANCE.npz  points [N, 3], normals [N, 3], labels [N] (optional); or INSTANCE.ply

An entry holds "file", "instance", "camera", and optionally "mask", "keypoints" {name: [u, v, visible]} and
"ground_truth" {"file", "transform"}. Files of a data set that is read in place are named {NAME}/path, where
the index's "roots" {NAME: folder} says where that is. A camera is

{"model": "perspective", "intrinsics": 3x3, "extrinsics": 3x4} or
{"model": "orthographic", "scale": s, "principal_point": [cx, cy], "extrinsics": 3x4}.
"""

import json
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from tars3d.atomic import atomic_path
from tars3d.data.ground_truth import Surface, load_npz, load_ply
from tars3d.data.image_record import ImageRecord, Roots, parse_record
from tars3d.data.shards import is_packed
from tars3d.errors import UserError, reason_of
from tars3d.progress import remark

FORMAT = "tars3d-collection"
VERSION = 1
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".heic")
SIDES = ("train", "val", "test")
UNNAMED = "object"
"""The category of a collection that names none."""


@dataclass(frozen=True)
class ImageCollection:
    """A validated collection: records sorted as in cameras.json, splits as tuples of instance names.

    `roots` names the folders outside of it that its records read in place.
    """

    root: Path
    category: str
    images: tuple[ImageRecord, ...]
    splits: dict[str, tuple[str, ...]]
    roots: Roots

    @property
    def instances(self) -> tuple[str, ...]:
        """Instance names in the order of their first pictures."""
        return tuple(dict.fromkeys(record.instance for record in self.images))

    def split(self, name: str) -> tuple[ImageRecord, ...]:
        """The records of the instances of one split, possibly none.

        Raises:
            UserError: the collection has no split of that name.
        """
        if name not in self.splits:
            raise UserError(f"{self.root}/splits.json: has no split '{name}'; it has {', '.join(self.splits)}")
        members = set(self.splits[name])
        return tuple(record for record in self.images if record.instance in members)

    @cached_property
    def _surfaces(self) -> dict[str, Surface]:
        """Of objects whose ground truth an entry names, the first such entry's."""
        named = [(record.instance, record.surface) for record in self.images]
        return {instance: surface for instance, surface in reversed(named) if surface is not None}

    def has_ground_truth(self, instance: str) -> bool:
        """Whether there is ground truth of an object."""
        if instance in self._surfaces:
            return True
        folder = self.root / "ground_truth"
        return any((folder / f"{instance}{suffix}").is_file() for suffix in (".npz", ".ply"))

    def ground_truth(self, instance: str) -> tuple[Float[np.ndarray, "points 3"], Float[np.ndarray, "points 3"] | None]:
        """Surface points in the object frame and their unit normals where there are any; a PLY mesh is sampled.

        Raises:
            UserError: there is no ground truth for `instance`, or it is damaged.
        """
        if instance in self._surfaces:
            return self._surfaces[instance].load()
        folder = self.root / "ground_truth"
        if (folder / f"{instance}.npz").is_file():
            arrays = load_npz(folder / f"{instance}.npz")
            normals = arrays.get("normals")
            if normals is not None:
                normals = normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
            return arrays["points"], normals
        if (folder / f"{instance}.ply").is_file():
            return load_ply(folder / f"{instance}.ply")
        raise UserError(f"{folder}/{instance}.npz: there is no ground truth for this instance; add it as .npz or .ply")

    def ground_truth_labels(self, instance: str) -> tuple[Int[np.ndarray, "points"], tuple[str, ...]] | None:
        """Each ground-truth point's part label, and the labels' names (maybe none); None: no labels."""
        file = self.root / "ground_truth" / f"{instance}.npz"
        arrays = load_npz(file) if file.is_file() else {}
        if "labels" not in arrays:
            return None
        return arrays["labels"], tuple(str(name) for name in arrays.get("label_names", ()))


def load_collection(root: str | Path, *, check_poses: bool = True) -> ImageCollection:
    """Load and validate a collection; pictures are looked for but not opened.

    Args:
        root: the folder that holds cameras.json.
        check_poses: refuse cameras that look away from the object.

    Raises:
        UserError: anything is missing, malformed, not finite, doubly named or contradictory.
    """
    root, file = Path(root), Path(root) / "cameras.json"
    index = read_index(root)
    entries = index["images"]
    _refuse_double_stems(root / "images")
    roots = parse_roots(file, index)
    images = tuple(parse_record(root, file, name, entry, roots) for name, entry in entries.items())
    category = str(index.get("category", UNNAMED))
    collection = ImageCollection(root, category, images, _splits(root, images), roots)
    if check_poses:
        refuse_cameras_that_look_away(collection)
    return collection


def read_index(root: Path) -> dict[str, Any]:
    """What cameras.json holds, with a version that is understood and at least one image; entries are not looked at.

    Raises:
        UserError: it is missing or no collection's index.
    """
    file = root / "cameras.json"
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; give the folder of an image collection")
    if not file.exists() and is_packed(root):
        raise UserError(f"{root}: is packed; give the folder it was packed from")
    index = _read_json(file, "a collection needs its cameras")
    if not isinstance(index, dict) or index.get("format") != FORMAT:
        raise UserError(f'{file}: is not a collection\'s index; it must begin with "format": "{FORMAT}"')
    if index.get("version") != VERSION:
        raise UserError(f"{file}: has version {index.get('version')}, not {VERSION}; convert it or update tars3d")
    entries = index.get("images")
    if not isinstance(entries, dict) or not entries:
        raise UserError(f'{file}: names no images; fill "images" with an entry for each picture')
    return index


def read_splits(root: Path) -> dict[str, list[str]] | None:
    """What splits.json holds, lists of instance names; None: there is none. Names are not looked at.

    Raises:
        UserError: it is damaged or no mapping to lists.
    """
    file = root / "splits.json"
    if not file.exists():
        return None
    splits = _read_json(file, "it names the splits")
    if not isinstance(splits, dict) or not all(
        isinstance(names, list) and all(isinstance(name, str) for name in names) for names in splits.values()
    ):
        raise UserError(f'{file}: must map "train", "val" and "test" to lists of instance names')
    return splits


def parse_roots(file: Path, index: dict[str, Any]) -> Roots:
    """The folders of data sets that the collection reads in place; relative ones start at the collection.

    Raises:
        UserError: "roots" is malformed.
    """
    roots = index.get("roots", {})
    if not isinstance(roots, dict) or not all(isinstance(folder, str) for folder in roots.values()):
        raise UserError(f'{file}: "roots" must map names to folders; mend it')
    return {name: file.parent / folder for name, folder in roots.items()}


def refuse_cameras_that_look_away(collection: ImageCollection) -> None:
    """Raise UserError where the object's origin lies behind a camera, and say of how many cameras."""
    away = [record.name for record in collection.images if record.pose_looks_away]
    if away:
        raise UserError(
            f"{collection.root}/cameras.json: {len(away)} of {len(collection.images)} cameras look away from "
            f"the object, {away[0]} for one: is z flipped? Extrinsics are world-to-camera, z forward"
        )


def say_other_category(model: str | None, data: str) -> None:
    """A note on stderr where model and data are of different categories; those that nobody named are not compared."""
    if model != data and {model, data}.isdisjoint({None, UNNAMED}):
        remark(f"note: the model is of {model}, the data of {data}")


def write_index(
    root: Path,
    category: str,
    images: dict[str, dict[str, Any]],
    splits: dict[str, list[str]] | None = None,
    roots: Roots | None = None,
    rejected: dict[str, dict[str, Any]] | None = None,
) -> None:
    """Write cameras.json, and splits.json if given; `images`: name -> entry (`ImageRecord.to_json`).

    `roots` names the folders of data sets that entries read in place; they are written as absolute paths. `rejected`: entries that
    are kept, but not part of the collection.
    """
    root = Path(root)
    index: dict[str, Any] = {"format": FORMAT, "version": VERSION, "category": category}
    if roots:
        index["roots"] = {name: str(Path(folder).resolve()) for name, folder in roots.items()}
    index["images"] = images
    if rejected:
        index["rejected"] = rejected
    # cameras first: a reader between the two then finds splits that lack an instance, which is allowed,
    # and not splits that name an unknown one
    with atomic_path(root / "cameras.json") as path:
        path.write_text(json.dumps(index))
    if splits is not None:
        with atomic_path(root / "splits.json") as path:
            path.write_text(json.dumps(splits, indent=1))


def _read_json(file: Path, purpose: str) -> Any:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        counts = Counter(key for key, _ in pairs)
        if double := [key for key, count in counts.items() if count > 1]:
            raise UserError(f"{file}: '{double[0]}' appears twice; names must be unique, rename one")
        return dict(pairs)

    try:
        return json.loads(file.read_text(encoding="utf-8"), object_pairs_hook=unique)
    except FileNotFoundError:
        raise UserError(f"{file}: is missing, {purpose}; write it, or check the folder") from None
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror}); check its permissions") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file}: is not valid JSON ({reason_of(error)}); repair it") from error


def _refuse_double_stems(folder: Path) -> None:
    seen: dict[str, str] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        # the atomic writer's temporary files begin with a dot
        if path.suffix.lower() in PICTURE_SUFFIXES and not path.name.startswith("."):
            if path.stem in seen:
                raise UserError(f"{path}: and {seen[path.stem]} share a name; rename one, names must be unique")
            seen[path.stem] = path.name


def _splits(root: Path, images: tuple[ImageRecord, ...]) -> dict[str, tuple[str, ...]]:
    known = dict.fromkeys(record.instance for record in images)
    file, splits = root / "splits.json", read_splits(root)
    if splits is None:
        return {"train": tuple(known), "val": (), "test": tuple(known)}
    home: dict[str, str] = {}
    for side, names in splits.items():
        for name in names:
            if name not in known:
                raise UserError(f"{file}: '{side}' names the unknown instance {name}; no picture shows it, remove it")
            if name in home:
                raise UserError(f"{file}: {name} is in '{home[name]}' and again in '{side}'; keep it in one")
            home[name] = side
    return {**dict.fromkeys(SIDES, ()), **{side: tuple(names) for side, names in splits.items()}}
