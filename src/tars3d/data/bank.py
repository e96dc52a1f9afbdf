"""A split's framed pictures, in memory. Training loads one, and `ray_batches` draws from it what a step sees.

`data.pack` writes one out as shards; `keypoint_cameras.placement` carves with one.
"""

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from tars3d.arguments import usable_cores
from tars3d.config import FramingMode
from tars3d.data.frames import Frame, Framing, frame_picture
from tars3d.data.image_record import ImageRecord
from tars3d.data.pictures import read_picture
from tars3d.errors import UserError
from tars3d.geometry.camera import Cameras

MOST_WORKERS = 16


@dataclass(frozen=True)
class PictureBank:
    """All framed pictures of a split, as tensors on one device.

    Attributes:
        rgb: on white.
        mask: object pixels.
        distance: to the silhouette's edge, pixels of the framed picture.
        cameras: of the framed pictures.
        instance: which object each picture shows, 0 .. objects - 1.
        instances: their names.
        names: of the pictures.
    """

    rgb: UInt8[Tensor, "pictures size size 3"]
    mask: Bool[Tensor, "pictures size size"]
    distance: Float[Tensor, "pictures size size"]
    cameras: Cameras
    instance: Int[Tensor, "pictures"]
    instances: tuple[str, ...]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.rgb)

    @property
    def size(self) -> int:
        """Side of the framed pictures."""
        return self.rgb.shape[1]

    @property
    def objects(self) -> int:
        """How many objects the pictures show."""
        return len(self.instances)

    @property
    def device(self) -> torch.device:
        """Where batches are drawn."""
        return self.rgb.device

    def to(self, device: torch.device | str) -> "PictureBank":
        """The same pictures on another device."""
        return replace(
            self,
            rgb=self.rgb.to(device),
            mask=self.mask.to(device),
            distance=self.distance.to(device),
            cameras=self.cameras.to(device),
            instance=self.instance.to(device),
        )

    def signed_distance(self, pictures: Int[Tensor, "views"] | slice = slice(None)) -> Float[Tensor, "views size size"]:
        """Distance to the silhouette's edge, pixels, negative on the object."""
        return torch.where(self.mask[pictures], -1.0, 1.0) * self.distance[pictures].float()

    def images(self, index: Int[Tensor, "batch"]) -> Float[Tensor, "batch 3 size size"]:
        """Pictures in [-1, 1], as the encoder takes them."""
        return self.rgb[index].permute(0, 3, 1, 2).float() / 127.5 - 1.0

    def image_chunks(self, chunk: int) -> Iterator[Float[Tensor, "chunk 3 size size"]]:
        """All pictures in order, up to `chunk` at a time, as the encoder takes them."""
        for part in torch.arange(len(self), device=self.device).split(chunk):
            yield self.images(part)

    def fingerprint(self) -> str:
        """A short digest of pictures, cameras and which pictures show one object: a resumed run checks that its data are the same."""
        digest = hashlib.blake2b("\n".join(self.names).encode())
        cameras = self.cameras
        for values in (self.rgb, self.mask, cameras.intrinsics, cameras.extrinsics, cameras.perspective, self.instance):
            digest.update(np.ascontiguousarray(values.cpu().numpy()).data)
        return digest.hexdigest()[:16]

    def check_foreground(self) -> None:
        """Refuse pictures without an object: no silhouette could be fitted to them.

        Raises:
            UserError: a mask is empty.
        """
        empty = (~self.mask.flatten(1).any(1)).nonzero()[:, 0]
        if len(empty):
            raise UserError(
                f"{self.names[int(empty[0])]}: {len(empty)} of {len(self.names)} pictures show no object at {self.size} x {self.size} pixels; "
                "mend their masks, or crop closer"
            )


def load_bank(
    records: Sequence[ImageRecord],
    *,
    size: int,
    framing: FramingMode,
    padding: float,
    crop_jitter: float = 0.0,
    seed: int = 0,
    workers: int | None = None,
) -> PictureBank:
    """Read, frame and measure the pictures of `records`.

    Args:
        size: side of the framed pictures.
        framing: see `config.ModelConfig`.
        padding: of the bbox crop.
        crop_jitter: each crop's side is scaled by a fixed factor in 1 ± this.
        workers: threads that decode; default is one per core, up to 16.

    Raises:
        UserError: a picture cannot be used; the message names it.
    """
    number = {key: i for i, key in enumerate(objects_of(records))}
    instances = tuple(instance for _, instance in number)
    how = Framing(size, framing, padding, crop_jitter, seed)

    def framed(index: int, record: ImageRecord) -> Frame:
        return frame_picture(
            read_picture(record.file, record.mask), record.intrinsics, index, how, annotated=record.crop
        )

    with ThreadPoolExecutor(workers or min(MOST_WORKERS, usable_cores())) as pool:
        frames = list(pool.map(framed, range(len(records)), records))

    def stacked(name: str) -> Tensor:
        return torch.from_numpy(np.stack([getattr(frame, name) for frame in frames]))

    cameras = Cameras(
        stacked("intrinsics").float(),
        torch.from_numpy(np.stack([record.extrinsics for record in records])).float(),
        torch.tensor([record.model == "perspective" for record in records]),
    )
    return PictureBank(
        stacked("rgb"),
        stacked("mask"),
        stacked("distance"),
        cameras,
        torch.tensor([number[record.collection, record.instance] for record in records]),
        instances,
        tuple(record.name for record in records),
    )


def objects_of(records: Sequence[ImageRecord]) -> list[tuple[Path | None, str]]:
    """The objects that records show, by collection and name, in the order in which `load_bank` numbers them."""
    return list(dict.fromkeys((record.collection, record.instance) for record in records))
