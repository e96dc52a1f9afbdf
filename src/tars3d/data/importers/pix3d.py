"""Pix3D, read in place: photos with masks, 3D models, and cameras that were fitted to them.

Sun et al., Pix3D, CVPR 2018 (CC BY 4.0). Called by `tars3d data import-pix3d`. Mistakes of the published loader:
docs/paper-vs-code.md, Q9. Layout:

    ROOT/pix3d.json, ROOT/img/..., ROOT/mask/..., ROOT/model/CATEGORY/NAME/model.obj
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from tars3d.arguments import check_at_least, check_seed
from tars3d.data.collection import SIDES
from tars3d.data.ground_truth import Surface
from tars3d.data.image_record import ImageRecord
from tars3d.data.importers.common import (
    Import,
    Models,
    as_asked,
    as_released,
    placed,
    square_crop,
    with_camera_and_units,
)
from tars3d.data.importers.files import check_box, need_file, need_folder, numbers, picture_size
from tars3d.data.importers.options import Pix3dOptions
from tars3d.data.rendering.meshes import SourceObject, split_by_family
from tars3d.errors import UserError, reason_of
from tars3d.geometry.camera import pinhole
from tars3d.progress import tracked

SENSOR = 32.0
"""Width of the sensor to which focal lengths refer, mm."""
LAYOUT = "pix3d.json beside img/, mask/ and model/"
TO_OPENCV = np.diag([-1.0, -1, 1])
"""Pix3D's camera looks along +Z with x to the left and y up."""
PUBLISHED_TURN = np.array([[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]])
PUBLISHED_CLOUD = np.array([[0.0, 0, 1], [0, -1, 0], [1, 0, 0]])
HIDDEN = ("truncated", "occluded", "slightly_occluded")


def import_pix3d(root: Path, out: Path, options: Pix3dOptions, *, progress: bool = True) -> Import:
    """Write a collection of one category.

    The model's own axes are the object frame's: Y up, seen from -Z in its canonical view. Lists have the form of pix3d.json (the paper's
    hand-cleaned ones were never published); a model in both is an object of its own in each, called MODEL-val in the second. Where a test split is
    drawn, variants of one article stay together.

    Args:
        root: the folder of pix3d.json.
        out: folder of the collection.
        progress: show a bar.

    Raises:
        UserError: a file is missing, damaged or contradicts another.
    """
    check_at_least(0, test=options.test)
    check_seed(options.seed)
    options = with_camera_and_units(options)
    lists = {split: f for split, f in (("train", options.train_list), ("val", options.val_list)) if f is not None}
    if options.test and lists:
        raise UserError(
            f"--test {options.test}: draws from all of pix3d.json; leave it out where --train-list or --val-list give the splits"
        )
    root = need_folder(root, LAYOUT).resolve()
    result, models = Import(out, options.category, {"pix3d": root}), Models()
    home: dict[str, str] = {}
    for split, file in (lists or {"train": root / "pix3d.json"}).items():
        for number, entry in enumerate(tracked(read_annotations(file), f"reading {split}", progress)):
            where = f"{file}: record {number}"
            if not isinstance(entry, dict):
                raise UserError(f"{where}: is not an object; expected the fields of pix3d.json")
            if entry.get("category", options.category) != options.category:
                continue
            if not options.occluded and any(entry.get(key) for key in HIDDEN):
                result.skip("truncated or occluded")
                continue
            record = _record(where, root, entry, models, options)
            if record.name in result.images:
                raise UserError(f"{where}: {record.name} appears twice; remove one")
            # Lists of pictures may share models; splits are of objects.
            if home.setdefault(record.instance, split) != split:
                record = replace(record, instance=f"{record.instance}-{split}")
            result.add(record, split)
    if options.test:
        _draw_test(result, options.test, options.seed)
    return result.write()


def read_annotations(file: Path) -> list[Any]:
    """The records of pix3d.json or of a list in its form.

    Raises:
        UserError: it is missing, no JSON, no list or empty.
    """
    try:
        records = json.loads(need_file(file, LAYOUT).read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise UserError(f"{file}: is not valid JSON ({reason_of(error)}); copy it again") from error
    if not isinstance(records, list) or not records:
        raise UserError(f"{file}: is not a list with records in it; expected {LAYOUT}")
    return records


def model_name(model: str) -> str:
    """What a model is called: its folder, and its file where that is not simply model.obj."""
    path = Path(model)
    return path.parent.name if path.stem == "model" else f"{path.parent.name}-{path.stem}"


def _record(where: str, root: Path, entry: dict[str, Any], models: Models, options: Pix3dOptions) -> ImageRecord:
    for key in ("img", "mask", "model"):
        value = entry.get(key)
        if not isinstance(value, str) or Path(value).is_absolute() or ".." in Path(value).parts:
            raise UserError(f"{where}: has no '{key}' with a path under {root}; expected the fields of pix3d.json")
    image, model = root / entry["img"], root / entry["model"]
    mask = need_file(root / entry["mask"], LAYOUT)
    width, height = picture_size(image, LAYOUT)
    layout = "the fields of pix3d.json"
    box = numbers(where, entry, "bbox", (4,), layout)
    check_box(f"{where} ({entry['img']})", box, width, height)
    raw = numbers(where, entry, "rot_mat", (3, 3), layout)
    if np.abs(raw @ raw.T - np.eye(3)).max() > 1e-2 or np.linalg.det(raw) < 0:
        raise UserError(f"{where}: 'rot_mat' is no rotation; expected {layout}")
    rotation = Rotation.from_matrix(raw).as_matrix()  # annotations are rounded
    middle, side = models.box(model, LAYOUT)
    crop = square_crop(box, tall=False)
    if options.as_published:  # depth reversed, in crop units, the object centred on its box
        intrinsics, extrinsics = as_released(rotation @ PUBLISHED_TURN, crop)
        transform = np.c_[PUBLISHED_CLOUD, np.zeros(3)]
    else:
        translation = TO_OPENCV @ numbers(where, entry, "trans_mat", (3,), layout)
        focal = float(numbers(where, entry, "focal_length", (), layout)) * width / SENSOR
        extrinsics, transform = placed(TO_OPENCV @ rotation, translation, np.eye(3), middle, side)
        if focal <= 0 or extrinsics[2, 3] <= 0:
            raise UserError(
                f"{where}: the model lies behind the camera, or 'focal_length' is not positive; copy it again"
            )
        intrinsics = pinhole(focal, (width / 2, height / 2))
        intrinsics, extrinsics, transform = as_asked(intrinsics, extrinsics, transform, crop, options)
    name = Path(entry["img"]).stem
    # In crop units the same model has another size in every picture.
    instance = model_name(entry["model"]) if options.units == "object" else f"{model_name(entry['model'])}-{name}"
    return ImageRecord(
        name, image, mask, instance, options.camera, intrinsics, extrinsics, surface=Surface(model, transform), crop=crop
    )  # fmt: skip


def _draw_test(result: Import, count: int, seed: int) -> None:
    """Move whole models, with all their pictures, to the test split."""
    of_instance = {entry["instance"]: model_name(entry["ground_truth"]["file"]) for entry in result.images.values()}
    names = dict.fromkeys(of_instance.values())
    objects = [SourceObject(name, Path(f"{name}.obj"), fingerprint=name) for name in names]
    sides = split_by_family(objects, {"test": count}, seed)
    home = {name: side for side, names in sides.items() for name in names}
    names = [name for split in ("train", "val") for name in result.splits[split]]
    result.splits = {side: [n for n in dict.fromkeys(names) if home[of_instance[n]] == side] for side in home.values()}
    result.splits = {side: result.splits.get(side, []) for side in SIDES}
