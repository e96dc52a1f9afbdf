"""The commands under `tars3d data` that bring in data sets: arguments in, a collection out. `cli` registers them."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import tyro

Positional = tyro.conf.Positional
CameraModel = Literal["perspective", "orthographic"]
UnitsOption = Literal["object", "crop"]


def import_shapenet(
    root: Positional[Path],
    out: Path,
    category: str,
    lists: Path | None = None,
    views: int = 24,
    test_views: int = 1,
    front: Literal["auto", "-z", "+z", "-x", "+x"] = "auto",
    as_published: bool = False,
    seed: int = 0,
) -> None:
    """ShapeNet's NMR renderings as a collection, read in place.

    Args:
        root: NMR_Dataset, with SYNSET/MODEL inside.
        out: folder of the collection.
        category: plane, car, chair, or a synset.
        lists: folder of shapenet_SYNSET_SPLIT.list; default is softras_SPLIT.lst of the synset.
        views: pictures of each training object, the first of its seeded order, 1 to 24.
        test_views: pictures of each validation and test object.
        front: which way the models face in their files; auto tells it from their symmetry.
        as_published: leave the models' axes as they are, and take the published focal length.
        seed: of the view order.
    """
    from tars3d.data.import_shapenet import import_shapenet as run

    result = run(
        root, out, category=category, lists=lists, views=views, test_views=test_views, front=front,
        as_published=as_published, seed=seed,
    )  # fmt: skip
    print(f"{result.summary()}\n{out}")


def import_pascal3d(
    root: Positional[Path],
    out: Path,
    category: str,
    lists: Path,
    masks: Path | None = None,
    unbiased: Path | None = None,
    clouds: Path | None = None,
    camera: CameraModel = "perspective",
    units: UnitsOption = "object",
    as_published: bool = False,
    skip_missing: bool = False,
) -> None:
    """One class of Pascal3D+ (ImageNet part) as a collection, read in place.

    Args:
        root: PASCAL3D+_release1.1.
        out: folder of the collection.
        category: aeroplane, car or chair.
        lists: folder of pascal3d_imagenet_CLASS_SPLIT.list.
        masks: folder of CLASS/NAME_K.png, K from 0; default draws the masks from the CAD models.
        unbiased: folder of predicted masks CLASS/NAME_K.png, K from 1; soft values, cut at 0.4.
        clouds: folder of ground-truth clouds CLASS/NN.npy; default is the CAD models.
        camera: as annotated, or orthographic as in the paper.
        units: the object's longest side is 1, or half the published crop is (for the paper's presets; orthographic).
        as_published: the released loader's mirrored poses and clouds.
        skip_missing: leave out pictures without a mask.
    """
    from tars3d.data.import_pascal3d import import_pascal3d as run

    result = run(
        root, out, category=category, lists=lists, masks=masks, unbiased=unbiased, clouds=clouds, camera=camera,
        units=units, as_published=as_published, skip_missing=skip_missing,
    )  # fmt: skip
    print(f"{result.summary()}\n{out}")


def import_cub(
    root: Positional[Path],
    cache: Path,
    out: Path,
    units: UnitsOption = "object",
    as_published: bool = False,
) -> None:
    """CUB-200-2011 with CMR's annotations as a collection; photos are read in place, masks are written.

    Args:
        root: CUB_200_2011.
        cache: cachedir/cub of CMR, with data/*_cub_cleaned.mat and sfm/anno_*.mat.
        out: folder of the collection.
        units: the mean bird is about 1 long, or half the published crop is (for the paper's preset).
        as_published: the released loader's mirroring poses.
    """
    from tars3d.data.import_cub import import_cub as run

    print(f"{run(root, cache, out, units=units, as_published=as_published).summary()}\n{out}")


def import_pix3d(
    root: Positional[Path],
    out: Path,
    category: str = "chair",
    train_list: Path | None = None,
    val_list: Path | None = None,
    test: int = 0,
    occluded: bool = False,
    camera: CameraModel = "perspective",
    units: UnitsOption = "object",
    as_published: bool = False,
    seed: int = 0,
) -> None:
    """One category of Pix3D as a collection, read in place.

    Args:
        root: folder of pix3d.json, img, mask and model.
        out: folder of the collection.
        category: as in pix3d.json.
        train_list: JSON list of training records, instead of all of pix3d.json.
        val_list: JSON list of validation records.
        test: models to draw for the test split.
        occluded: keep pictures of truncated or occluded objects.
        camera: as annotated, or orthographic as in the paper.
        units: the model's longest side is 1, or half the published crop is (for the paper's preset; orthographic).
        as_published: the released loader's poses with reversed depth, and its mirrored clouds.
        seed: of the drawn split.
    """
    from tars3d.data.import_pix3d import import_pix3d as run

    result = run(
        root, out, category=category, train_list=train_list, val_list=val_list, test=test, occluded=occluded,
        camera=camera, units=units, as_published=as_published, seed=seed,
    )  # fmt: skip
    print(f"{result.summary()}\n{out}")


IMPORT_COMMANDS: dict[str, Callable] = {
    "import-shapenet": import_shapenet,
    "import-pascal3d": import_pascal3d,
    "import-cub": import_cub,
    "import-pix3d": import_pix3d,
}
