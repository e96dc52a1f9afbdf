"""`tars3d data render`, `mix`, `check` and `pack`: arguments in, a collection made, looked through or packed, or meshes for one. `cli` registers them."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import tyro

from tars3d.data.rendering.options import RenderOptions
from tars3d.errors import UserError

Positional = tyro.conf.Positional


def render(source: Positional[str], out: Path, options: Annotated[RenderOptions, tyro.conf.arg(name="")]) -> None:
    """Render an image collection with cameras and ground truth from meshes or procedural objects.

    Args:
        source: folder of PLY, OBJ, GLB, STL or OFF meshes (Y up, front to -Z), or procedural:chair, :car or :airplane.
        out: folder of the collection.
    """
    from tars3d.data.rendering.render import render_collection

    print(render_collection(source, out, options))


def mix(source: Positional[Path], out: Path, count: int, split_of: Path | None = None, seed: int = 0) -> None:
    """Make new meshes of things with a seat on legs, each of two of a folder: legs of one, seat and back of another.

    Args:
        source: folder of PLY, OBJ, GLB, STL or OFF meshes, as `data render` takes it.
        out: folder of the new meshes, to be rendered in their turn.
        count: how many; half are an object on the legs of another, half have the back of another.
        split_of: a collection rendered from these meshes; only the objects that it trains on are mixed.
        seed: of the choice of pairs, and of how long the new parts are.
    """
    from tars3d.data.rendering.mixing import mixed_meshes

    made = mixed_meshes(source, out, count, split_of=split_of, seed=seed)
    print(f"{made} meshes{'' if made == count else f', not {count}: no more pairs were found that fit'}\n{out}")


def check(data: Positional[Path], sheet: Path | None = None, seed: int = 0) -> None:
    """Validate an image collection, say in words what is wrong, and draw overlays.

    Args:
        data: the collection.
        sheet: where to write the picture of overlays; default is DATA/check.png.
        seed: changes nothing, as nothing here is random; every command takes one.
    """
    from tars3d.data.checking.check import check_collection

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
        count = report.count
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


COLLECTION_COMMANDS: dict[str, Callable] = {"render": render, "mix": mix, "check": check, "pack": pack}
