"""What the paper trains on, from any collections: pictures of which no two are known to show the same object.

`unpaired_collection` writes such a collection as an index of pictures that stay where they are. Called by `bench.tables`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tars3d.data.collection import ImageCollection, write_index
from tars3d.data.ground_truth import Surface
from tars3d.data.image_record import ImageRecord, by_object
from tars3d.data.importers.common import weaken
from tars3d.errors import UserError

WATCHED = 2
"""Validation objects: they are only for the log."""


@dataclass(frozen=True)
class Held:
    """How many objects of a category train, and how many are measured."""

    train: int
    pictures: int
    test: int
    notes: tuple[str, ...] = ()


def unpaired_collection(
    sources: Sequence[ImageCollection],
    out: Path,
    *,
    views: int = 1,
    objects: int | None = None,
    test_objects: int | None = None,
    orthographic: bool = False,
    seed: int = 0,
) -> Held:
    """Write a collection whose training pictures each count as an object of their own.

    Args:
        sources: collections of one category.
        views: pictures of each training object, drawn with the seed; of a validation or test object it is always one.
        objects: of the train splits together, drawn with the seed; None takes all.
        test_objects: likewise of the test splits.
        orthographic: replace perspective cameras by the nearest orthographic ones, as the paper takes Pascal3D+'s photos.

    Raises:
        UserError: no object is trained on, none is held out for the test, or there are fewer training objects than asked for.
    """
    rng = np.random.default_rng(seed)
    tags = [f"{number}-{source.root.resolve().name}" for number, source in enumerate(sources)]
    listed = ", ".join(str(source.root) for source in sources)
    roots: dict[str, Path] = {}
    chosen: dict[str, list[tuple[str, ImageCollection, str]]] = {"train": [], "val": [], "test": []}
    notes = []
    for tag, source in zip(tags, sources, strict=True):
        roots[tag] = source.root.absolute()
        roots |= {f"{tag}-{name}": folder.absolute() for name, folder in source.roots.items()}
        names = {side: list(source.splits.get(side, ())) for side in chosen}
        if set(names["train"]) & set(names["test"]):  # a collection without splits.json
            names["test"] = []
            notes.append(f"{source.root}: has no splits, so it is trained on and not tested on")
        for side, members in names.items():
            chosen[side] += [(tag, source, name) for name in members]
    asked = len(chosen["test"])
    chosen["test"] = [item for item in chosen["test"] if item[1].has_ground_truth(item[2])]
    if missing := asked - len(chosen["test"]):
        category = sources[0].category
        notes.append(f"{missing} of {asked} test objects of {category} have no ground truth and are left out")
    if not chosen["test"]:
        raise UserError(
            f"{listed}: no test objects with ground truth that are not trained on; add a collection with splits"
        )
    if not chosen["train"]:
        raise UserError(f"{listed}: no training objects; mend splits.json")
    if objects is not None and len(chosen["train"]) < objects:
        raise UserError(f"{len(chosen['train'])} training objects, {objects} asked for; render more, or ask for fewer")
    chosen["train"] = _drawn(chosen["train"], objects, rng)
    chosen["val"] = _drawn(chosen["val"], WATCHED, rng)
    chosen["test"] = _drawn(chosen["test"], test_objects, rng)

    pictures = {tag: by_object(source.images) for tag, source in zip(tags, sources, strict=True)}
    entries, splits = {}, {}
    for side, members in chosen.items():
        splits[side] = []
        for tag, source, name in members:
            for record in _drawn(pictures[tag][name], views if side == "train" else 1, rng):
                key = f"{tag}.{record.name}"
                entries[key] = _entry(record, source, f"{tag}.{name}" if side != "train" else key, roots, orthographic)
                splits[side].append(entries[key]["instance"])
    write_index(out, sources[0].category, entries, splits, roots=roots)
    return Held(len(chosen["train"]), len(splits["train"]), len(splits["test"]), tuple(notes))


def _drawn(items: list, count: int | None, rng: np.random.Generator) -> list:
    """`count` of the items (all where there are no more), in their own order."""
    if count is None or count >= len(items):
        return items
    return [items[i] for i in sorted(rng.permutation(len(items))[:count])]


def _entry(
    record: ImageRecord, source: ImageCollection, instance: str, roots: dict[str, Path], orthographic: bool
) -> dict:
    """The picture's entry, its ground truth named in its place."""
    surface = record.surface
    if surface is None:
        files = [source.root / "ground_truth" / f"{record.instance}{suffix}" for suffix in (".npz", ".ply")]
        surface = next((Surface(file.absolute(), np.eye(3, 4)) for file in files if file.is_file()), None)
    else:
        surface = replace(surface, file=surface.file.absolute())
    model, intrinsics, extrinsics = record.model, record.intrinsics, record.extrinsics
    if orthographic and model == "perspective":
        intrinsics, extrinsics = weaken(intrinsics, extrinsics)
        model = "orthographic"
    return replace(
        record,
        file=record.file.absolute(),
        mask=None if record.mask is None else record.mask.absolute(),
        instance=instance,
        model=model,
        intrinsics=intrinsics,
        extrinsics=extrinsics,
        surface=surface,
    ).to_json(Path("/nowhere"), roots)
