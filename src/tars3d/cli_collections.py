"""`tars3d data render`, `check` and `pack`: arguments in, a collection made, looked through or packed. `cli` registers them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import tyro

from tars3d.errors import UserError

Positional = tyro.conf.Positional


def render(
    source: Positional[str],
    out: Path,
    views: int = 24,
    size: int = 128,
    count: int | None = None,
    photos: bool = False,
    elevation: tuple[float, float] | None = None,
    roll: tuple[float, float] | None = None,
    distance: tuple[float, ...] | None = None,
    samples: int = 16,
    category: str | None = None,
    test: int | None = None,
    val: int | None = None,
    variants: int = 0,
    stretch: float = 0.15,
    workers: int | None = None,
    seed: int = 0,
) -> None:
    """Render an image collection with cameras and ground truth from meshes or procedural objects.

    Args:
        source: folder of PLY, OBJ, GLB, STL or OFF meshes (Y up, front to -Z), or procedural:chair, :car or :airplane.
        out: folder of the collection.
        views: pictures of each object.
        size: side of the pictures, pixels.
        count: how many procedural objects.
        photos: cameras as people take photos of such objects, from near and far, from above and aslant, where the next three do not say
            otherwise.
        elevation: range of camera elevations, degrees; default is 30 30. Two equal numbers are the published orbit: that elevation,
            azimuths evenly spaced from 0; a true range also jitters the azimuths.
        roll: range of in-plane rotations, degrees; default is 0 0.
        distance: of the camera, world units (objects have a longest side of 1); default is 2.732. Two numbers are a range, even in strength of
            perspective, through which the lens zooms along, so that objects stay as large.
        samples: per pixel.
        category: of the objects; default is the folder's name, or the procedural category.
        test: objects in the test split; without any split, everything is in train and in test.
        val: objects in the validation split.
        variants: of each training object, stretched along its axes at random, rendered besides it.
        stretch: of a variant along an axis, at most by a factor of e to the power of this.
        workers: processes; default is one per core.
        seed: of everything random: same seed, same bytes.
    """
    from tars3d.data.camera_ranges import LEVEL, photo_cameras
    from tars3d.data.render import category_of, render_collection

    if distance is not None and len(distance) not in (1, 2):
        raise UserError(f"--distance {' '.join(map(str, distance))}: give one number, or the ends of a range")
    category = category or category_of(source)
    cameras = photo_cameras(category) if photos else replace(LEVEL, elevation=(30.0, 30.0))
    ends = distance and (distance[0], distance[-1])
    given: dict[str, Any] = {"elevation": elevation, "roll": roll, "distance": ends}
    cameras = replace(cameras, **{name: value for name, value in given.items() if value is not None})
    asked = {"test": test, "val": val}
    splits = {name: number for name, number in asked.items() if number is not None} or None
    render_collection(
        source, out, views=views, size=size, count=count, seed=seed, workers=workers, samples=samples, splits=splits, category=category,
        variants=variants, stretch=stretch, cameras=cameras,
    )  # fmt: skip
    print(out)


def check(data: Positional[Path], sheet: Path | None = None, seed: int = 0) -> None:
    """Validate an image collection, say in words what is wrong, and draw overlays.

    Args:
        data: the collection.
        sheet: where to write the picture of overlays; default is DATA/check.png.
        seed: changes nothing, as nothing here is random; every command takes one.
    """
    from tars3d.data.check import check_collection

    sheet = sheet or data / "check.png"
    report = check_collection(data, sheet=sheet)
    drawn = f"; overlays: {report.sheet}" if report.sheet else ""
    print(f"{report.images} pictures of {report.instances} objects{drawn}")
    for note in report.notes:
        print(f"note: {note}")
    for warning in report.warnings:
        print(f"warning: {warning}")
    for problem in report.problems:
        print(f"problem: {problem}")
    if report.problems:
        count = len(report.problems)
        raise UserError(f"{data}: {count} problem{'s' * (count > 1)}; mend before training what is said above")


def pack(
    data: Positional[Path],
    shards: Path,
    shard_pictures: int = 512,
    hull_samples: int = 8192,
    workers: int = 2,
    seed: int = 0,
) -> None:
    """Write a collection's train and val splits as WebDataset shards, which `train` streams in constant memory.

    Args:
        data: the collection.
        shards: folder for the .tar files and shards.json; a packed collection there is replaced.
        shard_pictures: pictures in a shard at most; objects stay whole.
        hull_samples: points stored of each training object's visual hull, which `compact` needs; 65,536 at most, 0 for none.
        workers: threads that decode.
        seed: of the objects' order and the hull points.
    """
    from tars3d.data.frames import Framing
    from tars3d.data.pack import pack_collection
    from tars3d.presets import COMPACT_MODEL as MODEL

    found = pack_collection(
        data, shards, Framing(MODEL.picture_size, MODEL.framing, MODEL.padding), shard_pictures=shard_pictures,
        samples=hull_samples, workers=workers, seed=seed,
    )  # fmt: skip
    counts = ", ".join(f"{count} pictures for {side}" for side, count in found.pictures.items())
    print(f"{counts}, in {found.shards} shards\n{shards}")


COLLECTION_COMMANDS: dict[str, Callable] = {"render": render, "check": check, "pack": pack}
