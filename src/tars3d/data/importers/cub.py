"""CUB-200-2011 with the annotations of CMR, read in place: photos, masks, 15 keypoints and weak-perspective cameras.

Wah et al., CUB-200-2011, 2011 (non-commercial research); Kanazawa et al., CMR, ECCV 2018. Called by `tars3d data import-cub`. Layout:

    ROOT/images/..., CACHE/data/{train,val,test}_cub_cleaned.mat (boxes, masks, parts), CACHE/sfm/anno_{train,val,test}.mat (cameras)
"""

from pathlib import Path
from typing import Any

import numpy as np

from tars3d.data.collection import SIDES
from tars3d.data.image_record import ImageRecord
from tars3d.data.importers.common import (
    DEPTH,
    FROM_Z_UP,
    Import,
    middle_of,
    square_crop,
    write_mask,
)
from tars3d.data.importers.files import check_box, need_folder, numbers, picture_size, read_mat
from tars3d.data.importers.options import CubOptions
from tars3d.data.importers.pascal3d import PUBLISHED_TURN
from tars3d.errors import UserError
from tars3d.geometry.camera import pinhole
from tars3d.progress import tracked

PARTS = (
    "back", "beak", "belly", "breast", "crown", "forehead", "left eye", "left leg", "left wing", "nape", "right eye",
    "right leg", "right wing", "tail", "throat",
)  # fmt: skip
LAYOUT = "CUB_200_2011/images and cachedir/cub with data/*_cub_cleaned.mat and sfm/anno_*.mat"
MEAN_BIRD = 2.0
"""The largest distance between keypoints of the mean bird, in its own units."""


def import_cub(root: Path, cache: Path, out: Path, options: CubOptions, *, progress: bool = True) -> Import:
    """Write the collection of all birds; every picture shows a bird of its own. There are no 3D shapes to compare with.

    Args:
        root: CUB_200_2011.
        cache: cachedir/cub of CMR.
        out: folder of the collection; the masks are written there.
        progress: show a bar.

    Raises:
        UserError: a file is missing, damaged or contradicts another.
    """
    root, cache = need_folder(root, LAYOUT).resolve(), need_folder(cache, LAYOUT)
    result = Import(out, "bird", {"cub": root})
    for split in SIDES:
        birds = np.atleast_1d(read_mat(cache / "data" / f"{split}_cub_cleaned.mat", "images", LAYOUT))
        poses = np.atleast_1d(read_mat(cache / "sfm" / f"anno_{split}.mat", "sfm_anno", LAYOUT))
        if len(birds) != len(poses):
            raise UserError(
                f"{cache}/sfm/anno_{split}.mat: has {len(poses)} cameras for {len(birds)} pictures; get both of one release"
            )
        if not len(birds):
            raise UserError(f"{cache}/data/{split}_cub_cleaned.mat: the list of images is empty; expected {LAYOUT}")
        for number, (bird, pose) in enumerate(tracked(zip(birds, poses, strict=True), f"reading {split}", progress)):
            where = f"{cache}/data/{split}_cub_cleaned.mat: image {number}"
            record = _record(where, root, out, bird, pose, options)
            if record.name in result.images:  # the published val and test share a picture
                result.skip("that an earlier split has")
                continue
            result.add(record, split)
    return result.write()


def _record(where: str, root: Path, out: Path, bird: Any, pose: Any, options: CubOptions) -> ImageRecord:
    path = getattr(bird, "rel_path", None)
    if not isinstance(path, str) or ".." in Path(path).parts or Path(path).is_absolute():
        raise UserError(f"{where}: has no rel_path of a picture under images/; expected {LAYOUT}")
    image, name = root / "images" / path, Path(path).stem
    width, height = picture_size(image, LAYOUT)
    corners = [float(numbers(where, getattr(bird, "bbox", None), key, (), LAYOUT)) for key in ("x1", "y1", "x2", "y2")]
    box = np.array(corners) - [1, 1, 0, 0]  # from pixels counted from 1 to edges
    check_box(f"{where} ({name})", box, width, height)
    mask = np.asarray(getattr(bird, "mask", None))
    if mask.shape != (height, width):
        raise UserError(f"{where}: the mask of {name} has the shape {mask.shape}, its picture is {width}x{height}")
    parts = numbers(where, bird, "parts", (3, len(PARTS)), LAYOUT)
    where_pose = f"{where}, its camera"
    rotation = numbers(where_pose, pose, "rot", (3, 3), LAYOUT)
    scale = float(numbers(where_pose, pose, "scale", (), LAYOUT))
    trans = numbers(where_pose, pose, "trans", (2,), LAYOUT)
    if np.abs(rotation @ rotation.T - np.eye(3)).max() > 1e-3 or np.linalg.det(rotation) < 0 or scale <= 0:
        raise UserError(f"{where_pose}: 'rot' is no rotation or 'scale' not positive; expected {LAYOUT}")
    crop = square_crop(box, tall=True)
    if options.as_published:  # mirrored, in crop units, the bird centred on its box
        turn, per_unit, middle = PUBLISHED_TURN, crop.side / 2, middle_of(crop)
    else:
        turn, per_unit, middle = FROM_Z_UP.T, MEAN_BIRD * scale if options.units == "object" else crop.side / 2, trans
    return ImageRecord(
        name=name,
        file=image,
        mask=write_mask(out / "masks" / f"{name}.png", mask > 0, where),
        instance=name,
        model="orthographic",
        intrinsics=pinhole(per_unit, middle),
        extrinsics=np.c_[rotation @ turn, [0, 0, DEPTH]],
        crop=crop,
        # pixels counted from 1: the centre of the first is 1 there and 0.5 here
        keypoints={
            part: (float(u) - 0.5, float(v) - 0.5, bool(seen > 0))
            for part, (u, v, seen) in zip(PARTS, parts.T, strict=True)
        },
    )
