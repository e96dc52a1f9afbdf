"""Pascal3D+ (release 1.1, ImageNet part), read in place: photos, MATLAB annotations, CAD models and masks.

Xiang, Mottaghi, Savarese: Beyond PASCAL, WACV 2014; for research. Called by `tars3d data import-pascal3d`. Mistakes of
the published loader: docs/paper-vs-code.md, Q10 and Q11. Layout:

    ROOT/Images/CLASS_imagenet/NAME.JPEG, ROOT/Annotations/CLASS_imagenet/NAME.mat, ROOT/CAD/CLASS/NN.off
    MASKS/CLASS/NAME_K.png            default masks: projected CAD models, K counts objects from 0
    UNBIASED/CLASS/NAME_K.png         masks predicted from the photo alone, K counts from 1, soft values
    CLOUDS/CLASS/NN.npy               ground truth points in CAD coordinates
    LISTS/pascal3d_imagenet_CLASS_{train,val}.list    lines of "NAME K", K from 0
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from PIL import Image
from scipy.spatial.transform import Rotation

from tars3d.data.ground_truth import Surface
from tars3d.data.image_record import ImageRecord
from tars3d.data.importers.common import (
    FROM_Z_UP,
    Import,
    Models,
    as_asked,
    as_released,
    placed,
    square_crop,
    with_camera_and_units,
    write_mask,
)
from tars3d.data.importers.files import check_box, need_file, need_folder, numbers, picture_size, read_list, read_mat
from tars3d.data.importers.options import Pascal3dOptions
from tars3d.errors import UserError
from tars3d.geometry.camera import pinhole
from tars3d.geometry.mesh_files import joined, read_parts
from tars3d.progress import tracked

CLASSES = ("aeroplane", "car", "chair")
ALIASES = {"plane": "aeroplane", "airplane": "aeroplane"}
CALLED = {"aeroplane": "airplane"}
"""What collections call a class, where that is another word."""
UNBIASED_THRESHOLD = 0.4 * 255
WITHOUT_MASK = ("n02690373_10374_0",)
"""Listed for training, but the published masks lack it (docs/paper-vs-code.md, Q15)."""

LAYOUT = "PASCAL3D+_release1.1 with Images, Annotations and CAD"
PUBLISHED_TURN = np.array([[0.0, 0, 1], [-1, 0, 0], [0, 1, 0]])
"""T of the published pose; its determinant is -1."""
PUBLISHED_CLOUD = np.array([[0.0, 1, 0], [0, 0, -1], [-1, 0, 0]])


@dataclass(frozen=True)
class Viewpoint:
    """One object's annotation: angles in radians, distance in CAD units, focal length and principal point in pixels."""

    azimuth: float
    elevation: float
    theta: float
    distance: float
    focal: float
    centre: Float[np.ndarray, "2"]
    box: Float[np.ndarray, "4"]
    cad: int
    hidden: bool
    """Whether it is truncated or occluded."""

    @property
    def rotation(self) -> Float[np.ndarray, "3 3"]:
        """CAD axes to OpenCV's camera axes."""
        z = Rotation.from_euler("z", self.theta).as_matrix()
        tilt = Rotation.from_euler("x", self.elevation - np.pi / 2).as_matrix()
        return np.diag([1.0, -1, -1]) @ z @ tilt @ Rotation.from_euler("z", -self.azimuth).as_matrix()

    @property
    def position(self) -> Float[np.ndarray, "3"]:
        """The camera's centre, CAD coordinates; azimuth 0 is at -Y, before the object's front."""
        a, e = self.azimuth, self.elevation
        return self.distance * np.array([np.cos(e) * np.sin(a), -np.cos(e) * np.cos(a), np.sin(e)])

    @property
    def published_rotation(self) -> Float[np.ndarray, "3 3"]:
        """The released loader's, which mirrors."""
        z = Rotation.from_euler("z", -self.theta).as_matrix()
        tilt = Rotation.from_euler("x", self.elevation - np.pi / 2).as_matrix()
        return z @ tilt @ Rotation.from_euler("z", self.azimuth).as_matrix() @ PUBLISHED_TURN


def import_pascal3d(root: Path, out: Path, options: Pascal3dOptions, *, progress: bool = True) -> Import:
    """Write a collection of one class; every picture shows an object of its own. Masks are given, predicted (objects without one are left out), or
    drawn from the CAD models, which is what the published ones are.

    Args:
        root: PASCAL3D+_release1.1.
        out: folder of the collection.
        progress: show a bar.

    Raises:
        UserError: a file is missing, damaged or contradicts another.
    """
    category = ALIASES.get(options.category, options.category)
    if category not in CLASSES:
        raise UserError(f"--category {category}: not among {', '.join(CLASSES)}; choose one")
    options = with_camera_and_units(options)
    roots = {"pascal3d": need_folder(root, LAYOUT).resolve()}
    folders = {"masks": options.masks, "unbiased": options.unbiased, "clouds": options.clouds}
    for name, folder in folders.items():
        if folder is not None:
            roots[name] = need_folder(folder, f"{category}/ with the {name} inside").resolve()
    result, models = Import(out, CALLED.get(category, category), roots), Models()
    for split, items in _listed(options.lists, roots, out, category).items():
        for item in tracked(items, f"reading {split}", progress):
            viewpoint = item.viewpoint()
            mask = item.mask(viewpoint, result, options.skip_missing)
            if mask is not None:
                result.add(_record(item, mask, viewpoint, models, options), split)
    return result.write()


@dataclass(frozen=True)
class _Item:
    roots: dict[str, Path]
    out: Path
    category: str
    name: str
    index: int

    @property
    def key(self) -> str:
        return f"{self.name}_{self.index}"

    @property
    def image(self) -> Path:
        return self.roots["pascal3d"] / "Images" / f"{self.category}_imagenet" / f"{self.name}.JPEG"

    def viewpoint(self) -> Viewpoint:
        file = self.roots["pascal3d"] / "Annotations" / f"{self.category}_imagenet" / f"{self.name}.mat"
        layout = "record.objects with viewpoint, bbox and cad_index"
        record = read_mat(file, "record", layout)
        objects = np.atleast_1d(getattr(record, "objects", np.array([], dtype=object)))
        if self.index >= len(objects):
            raise UserError(
                f"{file}: has {len(objects)} objects, the list asks for number {self.index} (from 0); correct the list"
            )
        found = objects[self.index]
        where = f"{file}: object {self.index}"
        view = getattr(found, "viewpoint", None)

        def number(holder: Any, name: str) -> float:
            return float(numbers(where, holder, name, (), layout))

        azimuth, elevation, theta = np.deg2rad([number(view, key) for key in ("azimuth", "elevation", "theta")])
        distance = number(view, "distance")
        if distance <= 0:
            raise UserError(f"{where}: has no distance, only coarse angles; take it off the list")
        return Viewpoint(
            azimuth, elevation, theta, distance,
            focal=number(view, "viewport") * number(view, "focal"),
            centre=np.array([number(view, "px"), number(view, "py")]),
            box=numbers(where, found, "bbox", (4,), layout),
            cad=int(number(found, "cad_index")),
            hidden=any(bool(np.any(getattr(found, key, 0))) for key in ("truncated", "occluded")),
        )  # fmt: skip

    def cad(self, viewpoint: Viewpoint) -> Path:
        file = self.roots["pascal3d"] / "CAD" / self.category / f"{viewpoint.cad:02d}.off"
        return need_file(file, f"the CAD model that {self.name}.mat names")

    def truth(self, viewpoint: Viewpoint) -> Path:
        if "clouds" not in self.roots:
            return self.cad(viewpoint)
        folder = self.roots["clouds"]
        return need_file(folder / self.category / f"{viewpoint.cad:02d}.npy", "clouds as CLASS/NN.npy")

    def mask(self, viewpoint: Viewpoint, result: Import, skip_missing: bool) -> Path | None:
        """A mask file, referred to or written; None: the picture is left out."""
        if "unbiased" in self.roots:
            file = self.roots["unbiased"] / self.category / f"{self.name}_{self.index + 1}.png"
            if viewpoint.hidden:
                return result.skip("truncated or occluded")
            if not file.is_file():
                return result.skip("without an unbiased mask")
            try:
                with Image.open(file) as image:
                    soft = np.asarray(image.convert("L"))
            except OSError as error:
                raise UserError(f"{file}: is not a picture that can be read; copy it again") from error
            if soft.shape[::-1] != picture_size(self.image, LAYOUT):
                raise UserError(f"{file}: is not as large as {self.image.name}; is it another picture's?")
            if not (soft > UNBIASED_THRESHOLD).any():
                return result.skip("with an empty unbiased mask")
            return write_mask(self.out / "masks" / f"{self.key}.png", soft > UNBIASED_THRESHOLD, str(file))
        if "masks" in self.roots:
            file = self.roots["masks"] / self.category / f"{self.key}.png"
            if file.is_file():
                return file
            if skip_missing or self.key in WITHOUT_MASK:
                return result.skip("without a mask")
            raise UserError(f"{file}: the mask is missing; add it, or leave such pictures out with --skip-missing")
        return self._draw_mask(viewpoint)

    def _draw_mask(self, viewpoint: Viewpoint) -> Path:
        from tars3d.geometry.rasterize import silhouette

        mesh = joined(read_parts(self.cad(viewpoint)))
        width, height = picture_size(self.image, LAYOUT)
        extrinsics = np.c_[viewpoint.rotation, -viewpoint.rotation @ viewpoint.position]
        drawn = silhouette(mesh, pinhole(viewpoint.focal, viewpoint.centre), extrinsics, True, height, width)
        return write_mask(self.out / "masks" / f"{self.key}.png", drawn, f"{self.key}: drawn from its CAD model")


def _listed(lists: Path, roots: dict[str, Path], out: Path, category: str) -> dict[str, list[_Item]]:
    """The objects of each list.

    Raises:
        UserError: a list is wrong, or an object stands in both.
    """
    items: dict[str, list[_Item]] = {"train": [], "val": []}
    home: dict[str, str] = {}
    for split, members in items.items():
        file = lists / f"pascal3d_imagenet_{category}_{split}.list"
        for line in read_list(file, "lines of 'NAME OBJECT'"):
            name, _, number = line.partition(" ")
            if not number.strip().isdigit():
                raise UserError(f"{file}: '{line}' is not 'NAME OBJECT'; the object counts from 0")
            item = _Item(roots, out, category, name, int(number))
            if item.key in home:
                again = "there twice" if home[item.key] == split else f"also in the {home[item.key]} list"
                raise UserError(f"{file}: '{line}' is {again}; keep it once")
            home[item.key] = split
            members.append(item)
    return items


def _record(item: _Item, mask: Path, viewpoint: Viewpoint, models: Models, options: Pascal3dOptions) -> ImageRecord:
    check_box(item.key, viewpoint.box, *picture_size(item.image, LAYOUT))
    truth = item.truth(viewpoint)
    middle, side = models.box(truth, "points in CAD coordinates")
    crop = square_crop(viewpoint.box, tall=item.category == "car")
    if options.as_published:  # mirrored, in crop units, the object centred on its box
        intrinsics, extrinsics = as_released(viewpoint.published_rotation, crop)
        scale = viewpoint.focal / viewpoint.distance * 2 / crop.side
        transform = np.c_[PUBLISHED_CLOUD * scale, np.zeros(3)]
    else:
        translation = -viewpoint.rotation @ viewpoint.position
        extrinsics, transform = placed(viewpoint.rotation, translation, FROM_Z_UP, middle, side)
        intrinsics = pinhole(viewpoint.focal, viewpoint.centre)
        intrinsics, extrinsics, transform = as_asked(intrinsics, extrinsics, transform, crop, options)
    return ImageRecord(
        item.key, item.image, mask, item.key, options.camera, intrinsics, extrinsics, surface=Surface(truth, transform), crop=crop
    )  # fmt: skip
