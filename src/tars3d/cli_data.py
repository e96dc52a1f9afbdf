"""The commands under `tars3d data` that bring in data sets, and `cameras`, which finds those that a data set lacks: arguments in, a
collection out. `cli` registers them."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from tars3d.arguments import Placement
from tars3d.data.importers.options import (
    CubOptions,
    KeypointOptions,
    Pascal3dOptions,
    PhotoOptions,
    Pix3dOptions,
    ShapenetOptions,
    TransformsOptions,
)

if TYPE_CHECKING:
    from tars3d.data.importers.common import Import

Positional = tyro.conf.Positional


def import_shapenet(
    root: Positional[Path], out: Path, options: Annotated[ShapenetOptions, tyro.conf.arg(name="")]
) -> None:
    """ShapeNet's NMR renderings as a collection, read in place.

    Args:
        root: NMR_Dataset, with SYNSET/MODEL inside.
        out: folder of the collection.
    """
    from tars3d.data.importers.shapenet import import_shapenet as run

    print(f"{run(root, out, options).summary()}\n{out}")


def import_pascal3d(
    root: Positional[Path], out: Path, options: Annotated[Pascal3dOptions, tyro.conf.arg(name="")]
) -> None:
    """One class of Pascal3D+ (ImageNet part) as a collection, read in place.

    Args:
        root: PASCAL3D+_release1.1.
        out: folder of the collection.
    """
    from tars3d.data.importers.pascal3d import import_pascal3d as run

    print(f"{run(root, out, options).summary()}\n{out}")


def import_cub(
    root: Positional[Path],
    cache: Path,
    out: Path,
    options: Annotated[CubOptions, tyro.conf.arg(name="")],
) -> None:
    """CUB-200-2011 with CMR's annotations as a collection; photos are read in place, masks are written.

    Args:
        root: CUB_200_2011.
        cache: cachedir/cub of CMR, with data/*_cub_cleaned.mat and sfm/anno_*.mat.
        out: folder of the collection.
    """
    from tars3d.data.importers.cub import import_cub as run

    print(f"{run(root, cache, out, options).summary()}\n{out}")


def import_pix3d(root: Positional[Path], out: Path, options: Annotated[Pix3dOptions, tyro.conf.arg(name="")]) -> None:
    """One category of Pix3D as a collection, read in place.

    Args:
        root: folder of pix3d.json, img, mask and model.
        out: folder of the collection.
    """
    from tars3d.data.importers.pix3d import import_pix3d as run

    print(f"{run(root, out, options).summary()}\n{out}")


def import_keypoints(
    table: Positional[Path], out: Path, options: Annotated[KeypointOptions, tyro.conf.arg(name="")]
) -> None:
    """Masks and a table of keypoints as a collection without cameras, which `tars3d data cameras` then finds.

    Args:
        table: CSV with the columns mask or photo (a file's name), keypoint, x, y (pixels, from 0) and visible (0 or 1).
        out: folder of the collection.
    """
    from tars3d.data.importers.keypoints import import_keypoints as run

    counts = run(table, out, options)
    print(f"{counts['train']} pictures for training, {counts['test']} for testing\n{out}")


def import_photos(
    photos: Positional[Path],
    viewpoints: Path,
    out: Path,
    options: Annotated[PhotoOptions, tyro.conf.arg(name="")],
) -> None:
    """Photos and a table of viewpoints (a turntable, say) as a collection; photos are read in place.

    Args:
        photos: folder of the photos.
        viewpoints: CSV with the columns photo, object, azimuth, elevation (degrees; 0 is the front, 90 is +X), distance (in lengths of the object), focal (pixels of the photo), and maybe roll (degrees).
        out: folder of the collection.
    """
    from tars3d.data.importers.photos import import_photos as run

    result, made = run(photos, viewpoints, out, options)
    _tell(result, made, out)


def import_transforms(
    captures: Positional[Path], fronts: Path, out: Path, options: Annotated[TransformsOptions, tyro.conf.arg(name="")]
) -> None:
    """Photos whose cameras COLMAP found, as transforms.json of NeRF tools, as a collection; photos are read in place.

    Args:
        captures: folder of a folder for each object, with its photos and its transforms.json.
        fronts: CSV with the columns object (its folder) and photo (one that sees the object from the front), and maybe azimuth (degrees, where that photo is from elsewhere: 90 is +X).
        out: folder of the collection.
    """
    from tars3d.data.importers.transforms import import_transforms as run

    result, made = run(captures, fronts, out, options)
    _tell(result, made, out)


def _tell(result: "Import", made: int, out: Path) -> None:
    """What was imported, and where masks that had to be found can be looked at."""
    found = f"; {made} masks found automatically, see {out}/masks" if made else ""
    print(f"{result.summary()}{found}\n{out}")


def cameras(
    data: Positional[Path],
    front: str | None = None,
    up: str | None = None,
    right: str | None = None,
    placement: Placement = "masks",
    replace_cameras: bool = False,
    sheet: Path | None = None,
    json: Path | None = None,
    seed: int = 0,
) -> None:
    """Estimate weak-perspective cameras from the keypoints of a collection, and draw them.

    Args:
        data: collection whose pictures have keypoints and no cameras.
        front: keypoints from back to front, "tail base:bill base"; commas between several. Default is guessed from the names.
        up: keypoints from low to high.
        right: keypoints from the object's left to its right; default is those called left and right, which are also taken as symmetric.
        placement: what tells size, roll and middle of the object in its picture in the end: its mask, or keypoints alone.
            Masks take keypoints called left and right and at least 30 pictures; else keypoints are taken.
        replace_cameras: overwrite cameras that are there.
        sheet: picture with axes and reprojected points; default is DATA/cameras.png.
        json: file for the errors, in shares of the box side.
        seed: of the keypoints left out of the fit that measures the error.
    """
    from dataclasses import asdict
    from json import dumps

    from tars3d.atomic import atomic_path
    from tars3d.data.keypoint_cameras.estimate import estimate_cameras

    report = estimate_cameras(
        data, front=front, up=up, right=right, placement=placement, replace_cameras=replace_cameras,
        sheet=sheet or data / "cameras.png", seed=seed,
    )  # fmt: skip
    if report.mask_iou is None:
        settled = "placed by keypoints"
    else:
        before, after = report.mask_iou
        settled = f"placed by masks: mean IoU with the category's hull {after:.3f}, {before:.3f} before"
    print(
        f"{report.images} cameras, {len(report.rejected)} pictures rejected{': ' if report.rejected else ''}"
        f"{', '.join(report.rejected)}\n"
        f"reprojection error, median, share of the box side: {100 * report.median_reprojection_error:.1f}% on keypoints left out, "
        f"{100 * report.median_fit_error:.1f}% on those fitted\n{settled}\n{report.sheet}"
    )
    if json is not None:
        values = asdict(report) | {"rejected": len(report.rejected), "rejected_names": report.rejected}
        with atomic_path(json) as path:
            path.write_text(dumps(values, indent=1, default=str))


IMPORT_COMMANDS: dict[str, Callable] = {
    "import-shapenet": import_shapenet,
    "import-pascal3d": import_pascal3d,
    "import-cub": import_cub,
    "import-pix3d": import_pix3d,
    "import-keypoints": import_keypoints,
    "import-photos": import_photos,
    "import-transforms": import_transforms,
    "cameras": cameras,
}
