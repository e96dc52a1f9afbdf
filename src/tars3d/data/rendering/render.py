"""Render meshes or procedural objects into an image collection: pictures, cameras, splits, ground truth.

Called by `tars3d data render`. Everything random depends on (seed, object name, view) alone, so neither the
number of workers nor an interruption changes a byte.
"""

import json
import zlib
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from tars3d.arguments import usable_cores
from tars3d.atomic import atomic_path
from tars3d.data.collection import read_splits, write_index
from tars3d.data.image_record import ImageRecord
from tars3d.data.rendering.camera_ranges import LEVEL, CameraRanges, photo_cameras
from tars3d.data.rendering.materials import part_index, random_environment, random_material
from tars3d.data.rendering.meshes import (
    PROCEDURAL,
    SourceObject,
    list_objects,
    load_object,
    sample_ground_truth,
    split_by_family,
    stretched_variants,
)
from tars3d.data.rendering.options import RenderOptions
from tars3d.data.rendering.scene import ObjectScene, import_mitsuba
from tars3d.errors import UserError
from tars3d.geometry.camera import pinhole
from tars3d.progress import progress_bar
from tars3d.sheets import write_picture

GROUND_TRUTH_POINTS = 30_000
INDEX_EVERY = 10  # objects between two writings of cameras.json
FINISHED = ".rendered"  # holds a file for each finished object


@dataclass(frozen=True)
class RenderSettings:
    """What the pictures of an object depend on, besides the object; see `RenderOptions`."""

    views: int
    size: int
    seed: int
    cameras: CameraRanges
    samples: int


def render_collection(source: str, out: Path, options: RenderOptions) -> Path:
    """Render every object of `source` into the collection `out` and return `out`.

    Args:
        source: a folder of meshes (PLY OBJ GLB STL OFF, Y up), or procedural:CATEGORY (chair, car, airplane).

    What is finished in `out` is kept, so the same call after an interruption goes on where that one stopped.

    Raises:
        UserError: mitsuba is missing, a mesh is unusable, an option is impossible, or `out` was rendered with
            other settings.
    """
    options.check()
    category, seed = options.category or category_of(source), options.seed
    cameras = cameras_of(options, category)
    cameras.validate()
    settings = RenderSettings(options.views, options.size, seed, cameras, options.samples)
    import_mitsuba()
    objects = list_objects(source, options.count, seed)
    splits = options.splits
    sides = None if splits is None else split_by_family(objects, splits, seed)
    learned = objects if sides is None else [item for item in objects if item.name in set(sides["train"])]
    more = stretched_variants(learned, options.variants, options.stretch, seed)
    objects = objects + more
    if sides is not None:
        sides["train"] = sorted(sides["train"] + [item.name for item in more])
    out = Path(out)
    # a folder by its name: it may move
    _claim(out, settings, {"source": Path(source).resolve().name, "category": category})

    finished = {item.name: images for item in objects if (images := _finished(out, item)) is not None}
    waiting = [item for item in objects if item.name not in finished]
    if sides is None:
        _refuse_other_splits(out, objects, waiting)
    with progress_bar() as bar:
        task = bar.add_task("rendering", total=len(objects), completed=len(finished))
        for done, item in enumerate(_render_all(waiting, out, settings, options.workers or usable_cores())):
            finished[item.name] = _finished(out, item) or {}
            bar.update(task, advance=1, description=f"rendering {item.name}")
            if done % INDEX_EVERY == INDEX_EVERY - 1:
                _write(out, category, finished, sides)
    _write(out, category, finished, sides)
    return out


def category_of(source: str) -> str:
    """The category of what is rendered, where none is named: the procedural one, or the folder's name."""
    return source.removeprefix(PROCEDURAL) if source.startswith(PROCEDURAL) else Path(source).resolve().name


def cameras_of(options: RenderOptions, category: str) -> CameraRanges:
    """Where pictures of a category's objects are taken from: as photos are or from one height, and as the options say otherwise."""
    usual = photo_cameras(category) if options.photos else replace(LEVEL, elevation=(30.0, 30.0))
    distance = options.distance and (options.distance[0], options.distance[-1])
    given = {"elevation": options.elevation, "roll": options.roll, "distance": distance}
    return replace(usual, **{name: ends for name, ends in given.items() if ends is not None})


def _render_all(
    objects: list[SourceObject], out: Path, settings: RenderSettings, workers: int
) -> Iterator[SourceObject]:
    """Yield the objects as they get ready, rendered here or in `workers` processes."""
    workers = min(workers, len(objects))
    if workers <= 1:
        for item in objects:
            render_object(item, out, settings)
            yield item
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        futures = {pool.submit(render_object, item, out, settings): item for item in objects}
        try:
            for future in as_completed(futures):
                future.result()
                yield futures[future]
        except BrokenProcessPool as error:
            raise UserError(f"{out}: a rendering process died (out of memory?); go on with fewer --workers") from error
        finally:
            pool.shutdown(cancel_futures=True)


def render_object(item: SourceObject, out: Path, settings: RenderSettings) -> None:
    """All pictures and the ground truth of one object; the note in `.rendered/` comes last."""
    mesh = load_object(item)
    name = zlib.crc32(item.name.encode())
    rng = np.random.default_rng([settings.seed, name])
    part = part_index(mesh, rng)
    scene = ObjectScene(mesh, part, [random_material(rng) for _ in range(part.max() + 1)])
    radius = float(np.linalg.norm(mesh.vertices, axis=1).max())
    phase = rng.random()
    middle = (settings.size / 2, settings.size / 2)
    images: dict[str, Any] = {}
    for view in range(settings.views):
        view_rng = np.random.default_rng([settings.seed, name, view])
        extrinsics, focal = settings.cameras.draw(view, settings.views, phase, radius, view_rng)
        environment = random_environment(view_rng)
        picture = scene.render(
            extrinsics, focal, environment, settings.size, settings.samples, int(view_rng.integers(2**31))
        )
        stem = f"{item.name}_{view:03d}"
        file = write_picture(out / "images" / f"{stem}.png", picture)
        intrinsics = pinhole(focal * settings.size, middle)
        record = ImageRecord(stem, file, None, item.name, "perspective", intrinsics, extrinsics)
        images[stem] = record.to_json(out)
    with atomic_path(out / "ground_truth" / f"{item.name}.npz") as path:
        np.savez(path, allow_pickle=False, **sample_ground_truth(mesh, GROUND_TRUTH_POINTS, rng))
    with atomic_path(out / FINISHED / f"{item.name}.json") as path:
        path.write_text(json.dumps({"fingerprint": item.fingerprint, "images": images}))


def _claim(out: Path, settings: RenderSettings, objects: dict[str, str]) -> None:
    """Note the settings in `out`, and of which objects it is, or make sure that they are those it was begun with.

    Notes once had no word of objects. A note beside which nothing is finished binds nobody.
    """
    note = out / FINISHED / "settings.json"
    described = asdict(settings)
    described |= described.pop("cameras")
    low, high = settings.cameras.distance
    described["distance"] = low if low == high else [low, high]  # as notes had it before there were pairs
    wanted = json.loads(json.dumps(described | objects))
    begun = (out / "cameras.json").exists()
    if not note.exists() or (not begun and list(note.parent.iterdir()) == [note]):
        if begun:
            raise UserError(f"{out}: holds a collection that was not rendered here; choose another --out")
        with atomic_path(note) as path:
            path.write_text(json.dumps(wanted))
        return
    try:
        found = json.loads(note.read_text())
    except ValueError:
        found = {}
    changed = [
        f"{key} {found.get(key)} then, {value} now"
        for key, value in wanted.items()
        if found.get(key) != value and (key in found or key not in objects)
    ]
    if changed:
        raise UserError(f"{out}: has other settings ({'; '.join(changed)}); choose another folder or delete it")


def _refuse_other_splits(out: Path, objects: list[SourceObject], waiting: list[SourceObject]) -> None:
    """Raise UserError where splits.json, which stays, would name objects that are not there, or leave new ones out."""
    named = {name for names in (read_splits(out) or {}).values() for name in names}
    if named and (named - {item.name for item in objects} or {item.name for item in waiting} - named):
        raise UserError(
            f"{out}/splits.json: is of other objects than this command renders; repeat --test, --val and --count as they were, or choose another --out"
        )


def _finished(out: Path, item: SourceObject) -> dict[str, Any] | None:
    """The image entries of an object that is complete on disk and whose mesh has not changed, else None."""
    try:
        note = json.loads((out / FINISHED / f"{item.name}.json").read_text())
        whole = note["fingerprint"] == item.fingerprint and all(
            (out / entry["file"]).is_file() for entry in note["images"].values()
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return note["images"] if whole and (out / "ground_truth" / f"{item.name}.npz").is_file() else None


def _write(out: Path, category: str, finished: dict[str, dict[str, Any]], sides: dict[str, list[str]] | None) -> None:
    """cameras.json and splits.json of what is finished, so that a collection can be used while it grows."""
    images = {stem: entry for name in sorted(finished) for stem, entry in finished[name].items()}
    if sides is not None:
        sides = {side: [name for name in names if name in finished] for side, names in sides.items()}
    write_index(out, category, images, sides)
