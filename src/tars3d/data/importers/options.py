"""The options of `tars3d data import-*`, a class for each importer. Light to import: `cli_data` does so at once."""

from dataclasses import dataclass
from pathlib import Path

from tars3d.arguments import Aim, Background, Front, Projection, Units


@dataclass(frozen=True)
class ShapenetOptions:
    """Which models of ShapeNet, how many pictures of each, and in which frame."""

    category: str
    """plane, car, chair, or a synset."""
    lists: Path | None = None
    """folder of shapenet_SYNSET_SPLIT.list; default is softras_SPLIT.lst of the synset."""
    views: int = 24
    """pictures of each training object, the first of its seeded order, 1 to 24."""
    test_views: int = 1
    """pictures of each validation and test object."""
    front: Front = "auto"
    """which way the models face in their files; auto tells it from their symmetry."""
    as_published: bool = False
    """leave the models' axes as they are, and take the published focal length."""
    seed: int = 0
    """of the view order."""


@dataclass(frozen=True)
class Pascal3dOptions:
    """Which class of Pascal3D+, by which masks and ground truth, and in which camera and units."""

    category: str
    """aeroplane, car or chair."""
    lists: Path
    """folder of pascal3d_imagenet_CLASS_SPLIT.list."""
    masks: Path | None = None
    """folder of CLASS/NAME_K.png, K from 0; default draws the masks from the CAD models."""
    unbiased: Path | None = None
    """folder of predicted masks CLASS/NAME_K.png, K from 1; soft values, cut at 0.4."""
    clouds: Path | None = None
    """folder of ground-truth clouds CLASS/NN.npy; default is the CAD models."""
    camera: Projection = "perspective"
    """as annotated, or orthographic as in the paper."""
    units: Units = "object"
    """the object's longest side is 1, or half the published crop is (for the paper's presets; orthographic)."""
    as_published: bool = False
    """the released loader's mirrored poses and clouds."""
    skip_missing: bool = False
    """leave out pictures without a mask."""
    seed: int = 0
    """of random choices (there are none here)."""


@dataclass(frozen=True)
class CubOptions:
    """In which units and poses the birds of CUB are."""

    units: Units = "object"
    """the mean bird is about 1 long, or half the published crop is (for the paper's preset)."""
    as_published: bool = False
    """the released loader's mirroring poses."""
    seed: int = 0
    """of random choices (there are none here)."""


@dataclass(frozen=True)
class Pix3dOptions:
    """Which pictures of Pix3D are for what, and in which camera and units."""

    category: str = "chair"
    """as in pix3d.json."""
    train_list: Path | None = None
    """JSON list of training records, instead of all of pix3d.json."""
    val_list: Path | None = None
    """JSON list of validation records."""
    test: int = 0
    """models to draw for the test split; not with lists."""
    occluded: bool = False
    """keep pictures of truncated or occluded objects."""
    camera: Projection = "perspective"
    """as annotated, or orthographic as in the paper."""
    units: Units = "object"
    """the model's longest side is 1, or half the published crop is (for the paper's preset; orthographic)."""
    as_published: bool = False
    """the released loader's poses with reversed depth, and its mirrored clouds."""
    seed: int = 0
    """of the drawn split."""


@dataclass(frozen=True)
class OwnDataOptions:
    """What all importers of own pictures are told: how the object is found, what it is, and which objects are for the test."""

    background: Background = "white"
    """of photos without mask and alpha: white (or any plain colour), auto (any background, by rembg), or none: refuse them."""
    category: str = "object"
    """of the objects."""
    test: tuple[str, ...] = ()
    """objects that are left out of training."""
    seed: int = 0
    """of random choices (there are none here)."""


@dataclass(frozen=True)
class KeypointOptions(OwnDataOptions):
    """What a table of keypoints is of: masks, photos, or both; and which objects are for the test."""

    masks: Path | None = None
    """folder of the masks; default is the photos' alpha, or found from their background."""
    images: Path | None = None
    """folder of the photos; default is none, and silhouettes are the pictures."""
    names: Path | None = None
    """text file with the keypoints' names, a line each, where the table has numbers."""
    group: str | None = None
    """column of the table to split by."""
    test: tuple[str, ...] = ()
    """groups that are left out of training."""


@dataclass(frozen=True)
class PhotoOptions(OwnDataOptions):
    """How the objects of photos are told and aimed at, and which of them are for the test."""

    masks: Path | None = None
    """folder of a mask NAME.png for each photo; default is the photo's alpha, or found from its background."""
    aim: Aim = "mask"
    """the object's middle is in the middle of its mask (camera in the hand), or of the picture (on a tripod)."""


@dataclass(frozen=True)
class TransformsOptions(OwnDataOptions):
    """How the objects of photos with a transforms.json are told, and which of them are for the test."""

    background: Background = "white"
    """of photos without mask_path and alpha: white (or any plain colour), auto (any background, by rembg), or none: refuse them."""
