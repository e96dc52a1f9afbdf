"""ShapeNet in Kato's NMR renderings, as DVR packs them, read in place: 24 pictures of each model with masks and cameras.

Chang et al., ShapeNet, 2015 (research licence); Kato et al., CVPR 2018; Niemeyer et al., CVPR 2020. Called by `tars3d data
import-shapenet`. Layout:

    ROOT/SYNSET/MODEL/image/0000.png .. 0023.png, mask/0000.png .., cameras.npz, pointcloud3.npz or pointcloud.npz
    ROOT/SYNSET/softras_{train,val,test}.lst, or LISTS/shapenet_SYNSET_{train,val,test}.list: one model a line
"""

import zlib
from pathlib import Path

import numpy as np
from jaxtyping import Float
from scipy.spatial import KDTree

from tars3d.arguments import check_seed
from tars3d.data.collection import SIDES
from tars3d.data.ground_truth import Surface, load_cloud
from tars3d.data.image_record import ImageRecord
from tars3d.data.importers.common import Import, Models, placed
from tars3d.data.importers.files import need_file, need_folder, picture_size, read_list
from tars3d.data.importers.options import ShapenetOptions
from tars3d.errors import UserError, reason_of
from tars3d.geometry.camera import SHAPENET_FOCAL, pinhole
from tars3d.progress import tracked

SYNSETS = {"airplane": "02691156", "plane": "02691156", "car": "02958343", "chair": "03001627"}
"""By word; the first word of a synset is what collections call the category."""
LAYOUT = "NMR_Dataset/SYNSET/MODEL/{image,mask,cameras.npz}"

JUDGED = 12
"""Models by whose clouds the front is told."""

TURNS = {
    "-z": np.eye(3),
    "+z": np.diag([-1.0, 1, -1]),
    "+x": np.array([[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]]),
    "-x": np.array([[0.0, 0, -1], [0, 1, 0], [1, 0, 0]]),
}
"""From model axes whose front is named to the object frame, whose front is -Z; Y is up in both."""


def import_shapenet(root: Path, out: Path, options: ShapenetOptions, *, progress: bool = True) -> Import:
    """Write a collection of one category.

    Args:
        root: NMR_Dataset.
        out: folder of the collection.
        progress: show a bar.

    Raises:
        UserError: a file is missing, damaged or contradicts another.
    """
    check_seed(options.seed)
    synset = SYNSETS.get(options.category, options.category)
    root = need_folder(root, LAYOUT).resolve()
    folder = need_folder(root / synset, LAYOUT)
    views, lists = {"train": options.views, "val": options.test_views, "test": options.test_views}, options.lists
    if not all(1 <= count <= 24 for count in views.values()):
        raise UserError(
            f"--views {options.views}, --test-views {options.test_views}: each object has 24 pictures; give 1 to 24"
        )
    models: dict[str, list[str]] = {}
    home: dict[str, str] = {}
    for split in SIDES:
        file = folder / f"softras_{split}.lst" if lists is None else lists / f"shapenet_{synset}_{split}.list"
        models[split] = read_list(file, "one model a line")
        for model in models[split]:
            if not (folder / model).is_dir():
                raise UserError(f"{file}: names {model}, but {folder} has no such model; get the data or cut the list")
            if model in home:
                raise UserError(f"{file}: {model} is also in the {home[model]} list; keep it in one")
            home[model] = split
    turn = np.eye(3)
    if not options.as_published:
        front = find_front([folder / m for m in models["train"]]) if options.front == "auto" else options.front
        turn = TURNS[front]
    name = next((word for word, number in SYNSETS.items() if number == synset), options.category)
    result, boxes = Import(out, name, {"shapenet": root}), Models()
    for split, members in models.items():
        for model in tracked(members, f"reading {split}", progress):
            for record in _records(folder / model, views[split], turn, boxes, options):
                result.add(record, split)
    return result.write()


def view_order(model: str, seed: int) -> list[int]:
    """The order in which an object's 24 views are taken, drawn anew: the published code's list was not released."""
    return np.random.default_rng([seed, zlib.crc32(model.encode())]).permutation(24).tolist()


def _records(folder: Path, count: int, turn: np.ndarray, boxes: Models, options: ShapenetOptions) -> list[ImageRecord]:
    cameras = _cameras(need_file(folder / "cameras.npz", LAYOUT))
    truth = _truth(folder)
    middle, side = np.zeros(3), 1.0
    if truth is not None and not options.as_published:
        middle, side = boxes.box(truth, "points [N, 3]")
    records = []
    for view in view_order(folder.name, options.seed)[:count]:
        image = folder / "image" / f"{view:04d}.png"
        mask = need_file(folder / "mask" / f"{view:04d}.png", LAYOUT)
        width, height = picture_size(image, LAYOUT)
        world = _matrix(folder, cameras, f"world_mat_{view}")[:3]
        extrinsics, transform = placed(world[:, :3], world[:, 3], turn, middle, side)
        focal, centre = SHAPENET_FOCAL * width, (width / 2, height / 2)
        if not options.as_published and f"camera_mat_{view}" in cameras:
            # in units where the picture spans -1 to 1
            focal = _matrix(folder, cameras, f"camera_mat_{view}")[0, 0] * width / 2
        records.append(
            ImageRecord(
                f"{folder.name}_{view:02d}", image, mask, folder.name, "perspective", pinhole(focal, centre), extrinsics,
                # pointcloud3's normals were copied from another cloud
                surface=None if truth is None else Surface(truth, transform, normals=truth.stem != "pointcloud3"),
            )
        )  # fmt: skip
    return records


def _truth(folder: Path) -> Path | None:
    return next((folder / f for f in ("pointcloud3.npz", "pointcloud.npz") if (folder / f).is_file()), None)


def _cameras(file: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(file, allow_pickle=False) as stored:
            return {key: stored[key] for key in stored.files}
    except Exception as error:  # zipfile, zlib and numpy each have their own
        reason = reason_of(error)
        raise UserError(f"{file}: cannot be read ({reason}); expected world_mat_0 .. world_mat_23") from error


def _matrix(folder: Path, cameras: dict[str, np.ndarray], key: str) -> Float[np.ndarray, "4 4"]:
    matrix = cameras.get(key)
    if matrix is None or matrix.shape != (4, 4) or not np.isfinite(matrix).all():
        raise UserError(f"{folder / 'cameras.npz'}: has no finite 4x4 '{key}'; expected one for each of 24 views")
    return matrix.astype(np.float64)


def find_front(folders: list[Path]) -> str:
    """Which way models face, told from their clouds: mirrored at X = 0 they face -Z (as ShapeNetCore v2), mirrored at Z = 0 they face +X (as v1).

    Raises:
        UserError: there are no clouds to tell from.
    """
    errors = {"x": 0.0, "z": 0.0}
    clouds = [file for folder in folders[:JUDGED] if (file := _truth(folder)) is not None]
    if not clouds:
        raise UserError(f"{folders[0].parent}: no point clouds to tell the models' front from; give --front")
    for file in clouds:
        points = np.asarray(load_cloud(file)[0], dtype=np.float64)[:2000]
        points = points - (points.min(axis=0) + points.max(axis=0)) / 2
        tree = KDTree(points)
        for axis, column in (("x", 0), ("z", 2)):
            mirrored = points.copy()
            mirrored[:, column] *= -1
            errors[axis] += float(np.mean(tree.query(mirrored)[0]))
    return "-z" if errors["x"] <= errors["z"] else "+x"
