"""`tars3d data pack`: a collection folder becomes shards that training streams (the format is described in `data.shards`)."""

import io
import json
import tarfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from tars3d.arguments import check_at_least, check_seed
from tars3d.atomic import atomic_path
from tars3d.data.bank import load_bank
from tars3d.data.collection import ImageCollection, load_collection
from tars3d.data.frames import Framing
from tars3d.data.hull import HULL_FORMAT, MOST_SAMPLES, HullSamples, hull_samples
from tars3d.data.image_record import ImageRecord, by_object, crop_json
from tars3d.data.pictures import read_picture
from tars3d.data.shards import FORMAT, INDEX, VERSION, digest_of
from tars3d.errors import UserError
from tars3d.progress import progress_bar
from tars3d.seeding import derived_seed

SHARD_BYTES = 128 * 2**20  # a shard is read whole, so this much memory is needed to open one


@dataclass(frozen=True)
class Packed:
    """What was written."""

    pictures: dict[str, int]
    """Of each split."""
    shards: int


def pack_collection(
    data: Path,
    out: Path,
    how: Framing,
    *,
    shard_pictures: int = 512,
    samples: int = 8192,
    workers: int = 2,
    seed: int = 0,
) -> Packed:
    """Write a collection's train and val splits as shards; memory stays at about one shard.

    The order of the objects is drawn once, here, so that every shard is a random part of the collection.

    Args:
        out: folder of the shards; must not exist, or be a packed collection, which is then replaced.
        how: pictures are framed while their hulls are sampled; shards hold them as they are.
        shard_pictures: a shard is closed when it has as many, or 128 MB; objects stay whole.
        samples: points around the visual hull of each training object, for the stages of `compact` that want them; 0 for none, 65,536
            at most.
        workers: threads that decode.
        seed: of the order and the hull points.

    Raises:
        UserError: see `load_collection`; also where a picture is damaged, `out` is in use for something else, or an option is
            impossible.
    """
    check_at_least(1, shard_pictures=shard_pictures, workers=workers)
    check_at_least(0, hull_samples=samples)
    check_seed(seed)
    if samples > MOST_SAMPLES:
        raise UserError(f"--hull-samples {samples}: give at most {MOST_SAMPLES}")
    # Path makes s3:/bucket of s3://bucket
    if len(out.parts) > 1 and len(out.parts[0]) > 2 and out.parts[0].endswith(":"):
        raise UserError(f"--shards {out}: is a URL; write to a folder, and copy that there")
    if out.exists() and not (out.is_dir() and ((out / INDEX).is_file() or not any(out.iterdir()))):
        raise UserError(f"{out}: exists and is no packed collection; choose another --shards")
    collection = load_collection(data)
    if not collection.split("train"):
        raise UserError(f"{data}: its train split is empty; mend splits.json")
    splits = {side: records for side in ("train", "val") if (records := collection.split(side))}
    index: dict[str, list[dict]] = {}
    number = 0
    with atomic_path(out) as folder, progress_bar() as bar:
        folder.mkdir()
        task = bar.add_task("packing", total=sum(len(records) for records in splits.values()))
        for side, records in splits.items():
            index[side] = []
            for count, objects in enumerate(_shards(records, shard_pictures, seed)):
                own = [record for _, pictures in objects for record in pictures]
                own_seed = derived_seed(seed, count)
                hulls = _check_and_sample(own, how, samples if side == "train" else 0, own_seed, workers)
                contents = _tar(collection, objects, number, hulls, truth=side != "train")
                file = f"{side}-{count:05d}.tar"
                (folder / file).write_bytes(contents)
                index[side].append(
                    {
                        "file": file,
                        "pictures": len(own),
                        "objects": len(objects),
                        "bytes": len(contents),
                        "digest": digest_of(contents),
                    }
                )
                number += len(own)
                bar.advance(task, len(own))
        named = [field.name for field in fields(HullSamples)]
        hull = {"format": HULL_FORMAT, "fields": named, "samples": samples} if samples else None
        whole = {"format": FORMAT, "version": VERSION, "category": collection.category, "hull": hull, "splits": index}
        (folder / INDEX).write_text(json.dumps(whole, indent=1))
    counts = {side: sum(shard["pictures"] for shard in shards) for side, shards in index.items()}
    return Packed(counts, sum(len(shards) for shards in index.values()))


Object = tuple[str, list[ImageRecord]]


def _shards(records: Sequence[ImageRecord], most: int, seed: int) -> Iterator[list[Object]]:
    """Whole objects in a drawn order, so many that they fit in a shard."""
    groups = by_object(records)
    names = list(groups)
    batch: list[Object] = []
    pictures = size = 0
    for turn in np.random.default_rng(seed).permutation(len(names)):
        own = groups[names[turn]]
        length = sum(file.stat().st_size for record in own for file in (record.file, record.mask) if file)
        if batch and (pictures + len(own) > most or size + length > SHARD_BYTES):
            yield batch
            batch, pictures, size = [], 0, 0
        batch.append((names[turn], own))
        pictures, size = pictures + len(own), size + length
    yield batch


def _check_and_sample(
    records: list[ImageRecord], how: Framing, samples: int, seed: int, workers: int
) -> HullSamples | None:
    """Open every picture, so that a damaged one is found now and not in the middle of a training."""
    if samples:
        bank = load_bank(records, size=how.size, framing=how.framing, padding=how.padding, workers=workers)
        return hull_samples(bank, samples=samples, seed=seed)
    with ThreadPoolExecutor(workers) as pool:
        for _ in pool.map(lambda record: read_picture(record.file, record.mask) and None, records):
            pass
    return None


def _tar(
    collection: ImageCollection, objects: list[Object], number: int, hulls: HullSamples | None, *, truth: bool
) -> bytes:
    """A shard. Same collection, same settings: same bytes."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:

        def add(key: int, kind: str, data: bytes) -> None:
            member = tarfile.TarInfo(f"{key:09d}.{kind}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))

        for turn, (instance, records) in enumerate(objects):
            first = number
            for record in records:
                entry = {"name": record.name, "instance": instance, "camera": record.camera_json()}
                if record.crop is not None:
                    entry["crop"] = crop_json(record.crop)
                add(number, "json", json.dumps(entry).encode())
                add(number, record.file.suffix[1:].lower(), record.file.read_bytes())
                if record.mask is not None:
                    add(number, f"mask{record.mask.suffix.lower()}", record.mask.read_bytes())
                if number == first and hulls is not None:
                    own = {field.name: getattr(hulls, field.name)[turn].cpu().numpy() for field in fields(hulls)}
                    add(number, "hull.npz", _npz(own))
                if number == first and truth and collection.has_ground_truth(instance):
                    points, normals = collection.ground_truth(instance)
                    add(
                        number,
                        "truth.npz",
                        _npz({"points": points, **({} if normals is None else {"normals": normals})}),
                    )
                number += 1
    return out.getvalue()


def _npz(arrays: dict[str, np.ndarray]) -> bytes:
    out = io.BytesIO()
    np.savez(out, allow_pickle=False, **arrays)
    return out.getvalue()
