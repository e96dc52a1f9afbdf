"""A packed collection: its index, and one shard at a time, from a local disk or any URL that fsspec opens.

    OUT/shards.json        what there is: category, and of each shard its split, pictures, objects, bytes and digest
    OUT/train-00000.tar    WebDataset: members KEY.json, KEY.png (or .jpg), and where there are any KEY.mask.png,
                           KEY.hull.npz and KEY.truth.npz (both on the first picture of an object)

All pictures of an object are neighbours in one shard. `data.pack` writes this, `data.stream` reads it.

Shards are read with the standard library's tarfile, not with the webdataset package: that one yields a forward stream whose
place is known only by counting, whereas here any shard is opened by its number, so that the batch of step t can be found from t.
"""

import hashlib
import io
import json
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from tars3d.data.fetch import BRIEF, WEB, fetch, open_url, protocols
from tars3d.data.framing import Crop
from tars3d.data.image_record import parse_camera, parse_crop
from tars3d.data.pictures import PictureBytes
from tars3d.errors import UserError, reason_of

FORMAT, VERSION, INDEX = "tars3d-shards", 1, "shards.json"
AGAIN = "copy it again, or pack the collection again"


@dataclass(frozen=True)
class Shard:
    """What the index says of a shard."""

    file: str
    pictures: int
    objects: int
    bytes: int
    digest: str


@dataclass(frozen=True, eq=False)
class PackedPicture:
    """A picture of a shard, still compressed."""

    name: str
    number: int
    """In its pack."""
    instance: str
    picture: PictureBytes
    mask: PictureBytes | None
    """None: the mask is the picture's alpha."""
    model: str
    intrinsics: Float[np.ndarray, "3 3"]
    extrinsics: Float[np.ndarray, "3 4"]
    crop: Crop | None
    """See `ImageRecord.crop`."""
    hull: dict[str, np.ndarray] | None
    """What `data.hull` has sampled of the object, by field; on its first picture only."""
    truth: dict[str, np.ndarray] | None
    """Ground-truth "points" and maybe "normals" of the object; on its first picture only."""


@dataclass(frozen=True, eq=False)
class Pack:
    """A packed collection, opened. `read` fetches one of its shards."""

    url: str
    category: str
    hull: tuple[str, ...]
    """Format and fields of the hull samples that objects of the train split carry; nothing if they carry none."""
    hull_samples: int
    splits: dict[str, tuple[Shard, ...]]

    def digest(self) -> str:
        """Of everything that training reads."""
        return hashlib.blake2b("\n".join(shard.digest for shard in self.splits["train"]).encode()).hexdigest()[:16]

    @cached_property
    def _place(self) -> tuple[Any, str]:
        return open_url(self.url)

    def check(self) -> None:
        """Look that all shards are there in their full length, where the place can list its files.

        Raises:
            UserError: one is missing or cut off.
        """
        files, folder = self._place
        if protocols(files) & WEB:  # what a web server lists, if anything, is a page for people
            return
        try:
            listed = {Path(entry["name"]).name: entry.get("size") for entry in files.ls(folder, detail=True)}
        except (OSError, NotImplementedError):
            return  # some places cannot, or may not; then a missing shard shows when it is read
        for shard in (shard for shards in self.splits.values() for shard in shards):
            if shard.file not in listed:
                raise UserError(f"{self.url}/{shard.file}: is missing, {INDEX} names it; {AGAIN}")
            self._refuse_length(shard, listed[shard.file])

    def read(self, shard: Shard) -> list[PackedPicture]:
        """The pictures of a shard, in order.

        Raises:
            UserError: it is missing, cut off, damaged or of another packing.
        """
        name = f"{self.url}/{shard.file}"
        files, folder = self._place
        missing = f"is missing, {INDEX} names it; {AGAIN}"
        data = fetch(files, f"{folder}/{shard.file}", name, missing, length=shard.bytes)
        self._refuse_length(shard, len(data))
        if digest_of(data) != shard.digest:
            raise UserError(f"{name}: is damaged, or from another packing than {INDEX}; {AGAIN}")
        return list(parse_shard(name, data))

    def _refuse_length(self, shard: Shard, found: int | None) -> None:
        name = f"{self.url}/{shard.file}"
        if found is not None and found < shard.bytes:
            raise UserError(f"{name}: is cut off after {found:,} of {shard.bytes:,} bytes; {AGAIN}")
        if found is not None and found > shard.bytes:
            raise UserError(f"{name}: has {found:,} bytes, {INDEX} says {shard.bytes:,}: mixed packings? {AGAIN}")


def is_packed(source: str | Path) -> bool:
    """Whether `train` should read this as a packed collection: a URL, an index, or a folder with shards but no cameras.json."""
    text, path = str(source), Path(source)
    if "://" in text or path.name == INDEX or (path / INDEX).is_file():
        return True
    return path.is_dir() and not (path / "cameras.json").exists() and any(path.glob("*.tar"))


def open_pack(source: str | Path) -> Pack:
    """Read the index of a packed collection.

    Args:
        source: its folder, a URL of it (https://..., s3://bucket/chairs; see `data.fetch` for what these need), or its index.

    Raises:
        UserError: there is no index, it is damaged, or shards are missing or cut off.
    """
    url = str(source).removesuffix(INDEX).rstrip("/")
    name = f"{url}/{INDEX}"
    files, folder = open_url(url)
    missing = "is missing; give a folder that `tars3d data pack` wrote"
    text = fetch(files, f"{folder}/{INDEX}", name, missing, patience=BRIEF)
    try:
        index = json.loads(text)
        if index.get("format") != FORMAT:
            raise ValueError(f'"format" is not "{FORMAT}"')
        if index["version"] != VERSION:
            raise UserError(f"{name}: has version {index['version']}, not {VERSION}; pack again or update tars3d")
        splits = {side: tuple(Shard(**shard) for shard in shards) for side, shards in index["splits"].items()}
        hull = index["hull"]
        kind = (hull.get("format", "older"), *hull["fields"]) if hull else ()
        pack = Pack(url, index["category"], kind, hull["samples"] if hull else 0, splits)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{name}: is no index of shards ({reason_of(error)}); {AGAIN}") from error
    if not pack.splits.get("train"):
        raise UserError(f"{name}: names no shards to train on; pack a collection whose train split is not empty")
    pack.check()
    return pack


def open_packs(sources: Sequence[str | Path]) -> list[Pack]:
    """Open packed collections that are to be trained on together.

    Raises:
        UserError: see `open_pack`; also where they differ in their hull samples.
    """
    packs = [open_pack(source) for source in sources]
    for pack in packs[1:]:
        if (pack.hull, pack.hull_samples) != (packs[0].hull, packs[0].hull_samples):
            raise UserError(f"{pack.url}: has other hull samples than {packs[0].url}; pack both with the same settings")
    return packs


def digest_of(data: bytes) -> str:
    """Of a shard's bytes, as the index holds it."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def parse_shard(name: str, data: bytes) -> list[PackedPicture]:
    """The pictures of a shard's bytes; members of one key are neighbours, as WebDataset has it.

    Raises:
        UserError: it is no shard of ours.
    """
    samples: dict[str, dict[str, bytes]] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            for member in archive:
                key, _, kind = member.name.partition(".")
                handle = archive.extractfile(member)
                samples.setdefault(key, {})[kind] = b"" if handle is None else handle.read()
        return [_parse_sample(name, key, members) for key, members in samples.items()]
    except (tarfile.TarError, ValueError, KeyError, StopIteration) as error:
        raise UserError(f"{name}: is no shard of tars3d ({reason_of(error)}); {AGAIN}") from error


def _parse_sample(name: str, key: str, members: dict[str, bytes]) -> PackedPicture:
    entry = json.loads(members["json"])
    where = f"{name}: {entry['name']}"
    found: dict[str, PictureBytes] = {}
    for kind, data in members.items():
        if kind != "json" and not kind.endswith("npz"):
            found["mask" if kind.partition(".")[0] == "mask" else "picture"] = PictureBytes(f"{where}.{kind}", data)
    arrays = {kind: _arrays(members.get(f"{kind}.npz")) for kind in ("hull", "truth")}
    model, intrinsics, extrinsics = parse_camera(where, entry["camera"])
    return PackedPicture(
        entry["name"], int(key), entry["instance"], found["picture"], found.get("mask"),
        model, intrinsics, extrinsics, parse_crop(where, entry), **arrays,
    )  # fmt: skip


def _arrays(data: bytes | None) -> dict[str, np.ndarray] | None:
    if data is None:
        return None
    with np.load(io.BytesIO(data), allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}
