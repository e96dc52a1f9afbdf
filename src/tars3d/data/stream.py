"""Training pictures from shards, in constant memory: two windows of the collection are held, one in use and one being read.

An epoch is a seeded permutation of all shards, cut into windows of a few shards; a window is a `PictureBank` from which its steps draw
each picture once. So the batch of step t is a function of (seed, t), and a resumed run opens one window and goes on. `training.stages`
uses a stream as it uses a bank; `training.open_data` makes it.
"""

import bisect
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from tars3d.data.bank import PictureBank
from tars3d.data.frames import Framing, frame_picture
from tars3d.data.pictures import read_picture
from tars3d.data.ray_batches import BatchSampler, RayBatch
from tars3d.data.shards import Pack, PackedPicture, Shard
from tars3d.errors import UserError
from tars3d.geometry.camera import Cameras
from tars3d.seeding import Stream, derived_seed

if TYPE_CHECKING:
    from tars3d.data.hull import HullSamples

WINDOW_BYTES = 256 * 2**20
HULL_POINT_BYTES = 12  # colours included
CODED_PICTURES = 4096  # for the mean code, and for the codes that a deformation is distilled from


@dataclass(frozen=True, eq=False)
class Window:
    """Some shards, decoded. `hulls` are of the bank's objects, where they were asked for."""

    bank: PictureBank
    hulls: "HullSamples | None"


@dataclass(frozen=True)
class _Wish:
    """Which shards a window holds, and what of them."""

    shards: tuple[int, ...]
    distance: bool
    hulls: bool


class PictureStream:
    """The train split of packed collections.

    Args:
        packs: with the same hull samples (`shards.open_packs`), of one category.
        how: how pictures are framed; `how.seed` also chooses the pictures of `image_chunks`.
        device: where batches are drawn.
        window_bytes: a window's size; twice this, and a shard in the making, is held in memory.
        workers: threads that decode.
    """

    def __init__(
        self,
        packs: Sequence[Pack],
        how: Framing,
        *,
        device: torch.device | str = "cpu",
        window_bytes: int = WINDOW_BYTES,
        workers: int = 2,
    ):
        self.packs, self.how, self.device, self.workers = tuple(packs), how, torch.device(device), workers
        self.shards: list[tuple[Pack, Shard]] = [(pack, shard) for pack in packs for shard in pack.splits["train"]]
        largest = max(
            6 * how.size**2 * shard.pictures + HULL_POINT_BYTES * pack.hull_samples * shard.objects
            for pack, shard in self.shards
        )
        self.windows = math.ceil(len(self.shards) / max(1, window_bytes // largest))
        """Of an epoch; all about equally large."""
        self._background = ThreadPoolExecutor(1, "window")
        self._loading: dict[_Wish, Future[Window]] = {}

    def __len__(self) -> int:
        return sum(shard.pictures for _, shard in self.shards)

    @property
    def objects(self) -> int:
        """How many objects the pictures show."""
        return sum(shard.objects for _, shard in self.shards)

    @property
    def size(self) -> int:
        """Side of the framed pictures."""
        return self.how.size

    def fingerprint(self) -> str:
        """A short digest of all shards: a resumed run checks that its data are the same."""
        return "-".join(pack.digest() for pack in self.packs)

    def image_chunks(self, chunk: int) -> Iterator[Float[Tensor, "chunk 3 size size"]]:
        """The same 4,096 pictures each time (or all, where there are fewer), up to `chunk` at a time, as the encoder takes them."""
        left = CODED_PICTURES
        for number in np.random.default_rng([self.how.seed, Stream.CODED]).permutation(len(self.shards)):
            bank = self.load(_Wish((int(number),), distance=False, hulls=False)).bank
            for part in torch.arange(min(left, len(bank)), device=self.device).split(chunk):
                yield bank.images(part)
            left -= len(bank)
            if left <= 0:
                return

    def window(self, wish: _Wish, following: _Wish) -> Window:
        """A window, and in the background the start of the one after it; all others are let go."""
        for other in set(self._loading) - {wish, following}:
            self._loading.pop(other).cancel()
        for one in (wish, following):
            if one not in self._loading:
                self._loading[one] = self._background.submit(self.load, one)
        return self._loading[wish].result()

    def load(self, wish: _Wish) -> Window:
        """Read and decode some shards.

        Raises:
            UserError: a shard or a picture cannot be used; the message names it.
        """
        total = sum(self.shards[number][1].pictures for number in wish.shards)
        rows = BankRows(total, self.how, distance=wish.distance)
        hulls: list[dict[str, np.ndarray]] = []
        for number in wish.shards:
            pack, shard = self.shards[number]
            pictures = pack.read(shard)
            rows.fill(pictures, self.workers)
            hulls += [picture.hull for picture in pictures if picture.hull is not None] if wish.hulls else []
        bank = rows.bank().to(self.device)
        return Window(bank, _stacked(hulls, self.device) if wish.hulls else None)


class BankRows:
    """A `PictureBank` in the making: as large as it will be, filled shard by shard."""

    def __init__(self, total: int, how: Framing, *, distance: bool):
        size = how.size
        self.how, self.filled = how, 0
        self.rgb = torch.empty(total, size, size, 3, dtype=torch.uint8)
        self.mask = torch.empty(total, size, size, dtype=torch.bool)
        self.distance = torch.empty(total, size, size, dtype=torch.float16) if distance else None
        self.intrinsics, self.extrinsics = torch.empty(total, 3, 3), torch.empty(total, 3, 4)
        self.perspective = torch.empty(total, dtype=torch.bool)
        self.instance = torch.empty(total, dtype=torch.long)
        self.names: list[str] = []
        self.instances: list[str] = []

    def fill(self, pictures: Sequence[PackedPicture], workers: int = 2) -> None:
        """Decode the pictures of a shard into the next rows. An object's pictures are neighbours."""
        before = None
        for row, picture in enumerate(pictures, self.filled):
            if picture.instance != before:
                self.instances.append(picture.instance)
                before = picture.instance
            self.instance[row] = len(self.instances) - 1
            self.names.append(picture.name)
        with ThreadPoolExecutor(workers, "decode") as pool:
            for _ in pool.map(self._decode, range(self.filled, self.filled + len(pictures)), pictures):
                pass
        self.filled += len(pictures)

    def _decode(self, row: int, picture: PackedPicture) -> None:
        pixels = read_picture(picture.picture, picture.mask)
        wanted = self.distance is not None
        frame = frame_picture(
            pixels, picture.intrinsics, picture.number, self.how, annotated=picture.crop, distance=wanted
        )
        self.rgb[row], self.mask[row] = torch.from_numpy(frame.rgb), torch.from_numpy(frame.mask)
        if self.distance is not None and frame.distance is not None:
            self.distance[row] = torch.from_numpy(frame.distance)
        self.intrinsics[row] = torch.from_numpy(frame.intrinsics)
        self.extrinsics[row] = torch.from_numpy(picture.extrinsics)
        self.perspective[row] = picture.model == "perspective"

    def bank(self) -> PictureBank:
        """The pictures; without distances, those are NaN everywhere (and take no memory)."""
        distance = self.distance
        if distance is None:
            distance = torch.full((1, 1, 1), torch.nan, dtype=torch.float16).expand(self.mask.shape)
        cameras = Cameras(self.intrinsics, self.extrinsics, self.perspective)
        names = tuple(self.instances), tuple(self.names)
        return PictureBank(self.rgb, self.mask, distance, cameras, self.instance, *names)


class StreamSampler:
    """Draws the batches of a stage from a stream: within a window as `BatchSampler` does, window after window.

    Raises:
        UserError: the stage wants hull points, and the packs have none.
    """

    def __init__(self, stream: PictureStream, *, batch: int, rays: int, seed: int, hull_points: int = 0, **settings):
        settings.pop("hulls", None)
        self.stream, self.batch, self.rays, self.seed, self.hull_points = stream, batch, rays, seed, hull_points
        self.settings: dict[str, Any] = settings
        if hull_points:
            refuse_without_hulls(stream.packs)
        self._epoch = self._starts_of(0, 0)
        self._drawing: tuple[tuple[int, int], BatchSampler] | None = None

    def _starts_of(self, epoch: int, first: int) -> tuple[int, list[tuple[int, ...]], list[int]]:
        """An epoch's windows, and the steps at which each begins; the last entry is where the next epoch does."""
        shards = self.stream.shards
        order = np.random.default_rng([self.seed, Stream.SHARDS, epoch]).permutation(len(shards))
        windows = [tuple(sorted(part.tolist())) for part in np.array_split(order, self.stream.windows)]
        starts = [first]
        for window in windows:
            pictures = sum(shards[number][1].pictures for number in window)
            starts.append(starts[-1] + max(1, pictures // self.batch))
        return epoch, windows, starts

    def place(self, step: int) -> tuple[int, int, int]:
        """Epoch, window of that epoch, and step within that window."""
        if step < self._epoch[2][0]:
            self._epoch = self._starts_of(0, 0)
        while step >= self._epoch[2][-1]:
            self._epoch = self._starts_of(self._epoch[0] + 1, self._epoch[2][-1])
        epoch, _, starts = self._epoch
        number = bisect.bisect_right(starts, step) - 1
        return epoch, number, step - starts[number]

    def draw(self, step: int) -> RayBatch:
        """The batch of step `step`; its `index` counts within the window.

        Raises:
            UserError: a shard or a picture cannot be used; the message names it.
        """
        epoch, number, local = self.place(step)
        if self._drawing is None or self._drawing[0] != (epoch, number):
            self._drawing = None  # before the next but one is read, or three windows would be in memory
            self._drawing = (epoch, number), self._open(epoch, number)
        return self._drawing[1].draw(local)

    def _open(self, epoch: int, number: int) -> BatchSampler:
        windows = self._epoch[1]
        following = windows[number + 1] if number + 1 < len(windows) else self._starts_of(epoch + 1, 0)[1][0]
        found = self.stream.window(self._wish(windows[number]), self._wish(following))
        return BatchSampler(
            found.bank,
            batch=self.batch,
            rays=self.rays,
            seed=derived_seed(self.seed, epoch, number),
            hulls=found.hulls,
            hull_points=self.hull_points,
            **self.settings,
        )

    def _wish(self, shards: tuple[int, ...]) -> _Wish:
        return _Wish(shards, distance=self.rays > 0, hulls=self.hull_points > 0)


Pictures = PictureBank | PictureStream
"""What training draws from."""


def sampler_of(pictures: Pictures, **settings: Any) -> BatchSampler | StreamSampler:
    """The batches that a stage draws from pictures; settings as of `BatchSampler`."""
    return (
        BatchSampler(pictures, **settings) if isinstance(pictures, PictureBank) else StreamSampler(pictures, **settings)
    )


def refuse_without_hulls(packs: Sequence[Pack]) -> None:
    """Raise UserError where a pack lacks the hull samples that this version of tars3d draws from."""
    from dataclasses import fields

    from tars3d.data.hull import HULL_FORMAT, HullSamples

    for pack in packs:
        if not pack.hull:
            cure = "pack it again with --hull-samples 8192, or choose a preset without hull stages (paper-*)"
            raise UserError(f"{pack.url}: was packed without hull samples, which this preset needs; {cure}")
        if pack.hull != (HULL_FORMAT, *(field.name for field in fields(HullSamples))):
            raise UserError(f"{pack.url}: its hull samples are of another version of tars3d; pack it again")


def _stacked(objects: list[dict[str, np.ndarray]], device: torch.device) -> "HullSamples":
    from tars3d.data.hull import HullSamples

    columns = {name: torch.from_numpy(np.stack([one[name] for one in objects])).to(device) for name in objects[0]}
    return HullSamples(**columns)
