"""What `tars3d train` was told to read becomes pictures to train on and pictures to watch: folders in memory, shards as a stream.

Called by `training.run`.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import torch

from tars3d.config import Preset
from tars3d.data.bank import PictureBank, load_bank, objects_of
from tars3d.data.collection import ImageCollection, load_collection
from tars3d.data.frames import Framing
from tars3d.data.image_record import ImageRecord
from tars3d.data.shards import PackedPicture, is_packed, open_packs
from tars3d.data.stream import BankRows, Pictures, PictureStream, refuse_without_hulls
from tars3d.errors import UserError
from tars3d.progress import console

Truth = Callable[[int], tuple[np.ndarray, np.ndarray | None] | None]
"""Number of an object in its bank to its ground-truth points and normals, if any; None where it has none."""


@dataclass(frozen=True)
class TrainingData:
    """Opened data.

    Attributes:
        pictures: to train on.
        watched: to measure while training.
        seen: the watched pictures are training pictures, as there are no others.
        truth: of the watched objects. Names may repeat where collections are mixed.
        category: of the objects.
    """

    pictures: Pictures
    watched: PictureBank
    seen: bool
    truth: Truth
    category: str


def open_data(sources: Sequence[str | Path], preset: Preset, device: torch.device) -> TrainingData:
    """Open collections, or packed collections, that are trained on together.

    Raises:
        UserError: nothing is given, or something twice, folders and packs or several categories are mixed, packs lack what the preset needs, or
            see `data.collection` and `data.shards`.
    """
    if not sources:
        raise UserError("train: no collection given; e.g. tars3d train DATA --out RUN")
    places = [place_of(source) for source in sources]
    if double := [place for place in places if places.count(place) > 1]:
        raise UserError(f"{double[0]}: is given twice; name each collection once")
    packed = [source for source in sources if is_packed(source)]
    if not packed:
        return _from_folders([Path(source) for source in sources], preset, device)
    if folders := [source for source in sources if not is_packed(source)]:
        raise UserError(f"{folders[0]}: is a folder, but {packed[0]} is packed; pack it too (tars3d data pack)")
    return _from_packs(packed, preset, device)


def place_of(source: str | Path) -> str:
    """Where a collection is, whatever folder a later command runs in; URLs stay as they are."""
    return str(source) if "://" in str(source) else os.path.abspath(source)


def ground_truth_of(collections: Sequence[ImageCollection], records: Sequence[ImageRecord]) -> Truth:
    """The ground truth of the objects that records of the collections show, numbered as in the bank that `load_bank` makes of them."""
    home: dict[Path | None, ImageCollection] = {collection.root: collection for collection in collections}
    objects = objects_of(records)

    def find(number: int) -> tuple[np.ndarray, np.ndarray | None] | None:
        root, name = objects[number]
        if not home[root].has_ground_truth(name):
            return None
        points, normals = home[root].ground_truth(name)
        return points, normals

    return find


def _one_category(of: Sequence[tuple[str | Path, str]]) -> str:
    """The category of data that are trained on together, each given as its place and its category.

    Raises:
        UserError: they are of several.
    """
    (first, wanted), *others = of
    for place, category in others:
        if category != wanted:
            categories = f"{category!r}, but {first} of {wanted!r}"
            raise UserError(
                f'{place}: is a collection of {categories}; train them one by one, or give both one "category"'
            )
    return wanted


def _framing(preset: Preset) -> dict:
    return {"size": preset.model.picture_size, "framing": preset.model.framing, "padding": preset.model.padding}


def _from_folders(folders: list[Path], preset: Preset, device: torch.device) -> TrainingData:
    collections = [load_collection(folder) for folder in folders]
    category = _one_category([(collection.root, collection.category) for collection in collections])
    records = [record for collection in collections for record in collection.split("train")]
    if not records:
        raise UserError(f"{folders[0]}: its train split is empty; mend splits.json")
    held_out = [record for collection in collections for record in collection.split("val")]
    framing, training = _framing(preset), preset.training
    with console.status(f"reading {len(records)} pictures"):
        bank = load_bank(records, **framing, crop_jitter=training.crop_jitter, seed=training.seed).to(device)
        watched = load_bank(held_out, **framing).to(device) if held_out else bank
    truth = ground_truth_of(collections, held_out or records)
    return TrainingData(bank, watched, not held_out, truth, category)


def _from_packs(sources: list[str | Path], preset: Preset, device: torch.device) -> TrainingData:
    training = preset.training
    if training.category_hull:
        raise UserError(
            f"{sources[0]}: is packed; --preset compact-single-view completes hulls, which packs do not hold; train on the folder"
        )
    packs = open_packs(sources)
    category = _one_category([(pack.url, pack.category) for pack in packs])
    if training.wants_hulls:
        refuse_without_hulls(packs)
    how = Framing(**_framing(preset), crop_jitter=training.crop_jitter, seed=training.seed)
    stream = PictureStream(packs, how, device=device)
    held_out = any(pack.splits.get("val") for pack in packs)
    with console.status("reading what is measured while training"):
        watched: list[list[PackedPicture]] = []
        objects = 0
        for pack in packs:
            for shard in pack.splits.get("val" if held_out else "train", ()):
                if objects < training.validate_instances:
                    watched.append(pack.read(shard))
                    objects += shard.objects
        rows = BankRows(sum(map(len, watched)), Framing(**_framing(preset)), distance=False)
        for pictures in watched:  # one by one: names may repeat from pack to pack
            rows.fill(pictures)
    truth = {
        int(number): picture.truth
        for number, picture in zip(rows.instance, chain.from_iterable(watched), strict=True)
        if picture.truth is not None
    }

    def find(number: int) -> tuple[np.ndarray, np.ndarray | None] | None:
        found = truth.get(number)
        return None if found is None else (found["points"], found.get("normals"))

    return TrainingData(stream, rows.bank().to(device), not held_out, find, category)
