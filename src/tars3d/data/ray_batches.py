"""The batches that training draws from a bank of pictures: pictures to encode, rays and hull points that supervise them.

What a step draws is a function of (seed, step) alone, so a resumed run sees the same batches as an undisturbed one.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tars3d.data.bank import PictureBank
from tars3d.data.hull import HullBatch, HullSamples
from tars3d.geometry.camera import Cameras
from tars3d.seeding import Stream, torch_generator


@dataclass(frozen=True)
class RayBatch:
    """Pictures to encode and the rays that supervise their codes.

    Attributes:
        images: one picture a code, in [-1, 1].
        origins, directions: world frame; directions have length 1 along the camera's z axis.
        object_depth: depth of the object's centre in each ray's camera.
        plane: the ray's pixel on its camera's plane.
        perspective: each ray's camera model.
        distance: to the silhouette's edge, in units of that plane.
        foreground: whether the pixel shows the object.
        rgb: its colour on white, in [-1, 1].
        index: which pictures of the bank are encoded.
        cameras: of the supervising pictures, those of a code in a row.
        hull: points around the objects' visual hulls; None where the stage asks for none.
    """

    images: Float[Tensor, "batch 3 size size"]
    origins: Float[Tensor, "batch rays 3"]
    directions: Float[Tensor, "batch rays 3"]
    object_depth: Float[Tensor, "batch rays"]
    plane: Float[Tensor, "batch rays 2"]
    perspective: Bool[Tensor, "batch rays"]
    distance: Float[Tensor, "batch rays"]
    foreground: Bool[Tensor, "batch rays"]
    rgb: Float[Tensor, "batch rays 3"]
    index: Int[Tensor, "batch"]
    cameras: Cameras
    hull: HullBatch | None


class BatchSampler:
    """Draws the batches of a stage.

    Args:
        bank: the pictures.
        batch, views, rays, boundary_rays, hull_points, flip: see `config.Stage` and `config.TrainingConfig`.
        hulls: of the bank's objects; needed for hull points.
        seed: of this stage's draws.
    """

    def __init__(
        self,
        bank: PictureBank,
        *,
        batch: int,
        views: int,
        rays: int,
        boundary_rays: float,
        flip: bool,
        seed: int,
        hulls: HullSamples | None = None,
        hull_points: int = 0,
    ):
        self.hulls, self.hull_points = hulls if hull_points else None, hull_points
        self.bank, self.batch, self.views, self.rays = bank, min(batch, len(bank)), views, rays
        self.boundary_rays, self.flip, self.seed = boundary_rays, flip, seed
        self._instance = bank.instance.cpu()  # pictures are chosen on the host
        self._by_instance = torch.argsort(self._instance, stable=True)
        counts = torch.bincount(self._instance, minlength=len(bank.instances))
        self._first = torch.cumsum(counts, 0) - counts
        self._count = counts
        self._epoch: tuple[int, Tensor] | None = None

    def pictures(self, step: int) -> Int[Tensor, "batch"]:
        """Which pictures step `step` encodes: each epoch is a seeded permutation, incomplete batches are dropped."""
        per_epoch = len(self.bank) // self.batch
        epoch, position = divmod(step, per_epoch)
        if self._epoch is None or self._epoch[0] != epoch:
            generator = torch_generator(self.seed, Stream.EPOCH, epoch)
            self._epoch = epoch, torch.randperm(len(self.bank), generator=generator)
        return self._epoch[1][position * self.batch : (position + 1) * self.batch]

    def choose(self, step: int) -> tuple[Int[Tensor, "batch views"], Bool[Tensor, "batch"], torch.Generator]:
        """Step `step`'s supervising pictures (those that are encoded come first), which are mirrored, and what else is random."""
        generator = torch_generator(self.seed, Stream.BATCH, step)
        index = self.pictures(step)
        supervising = [index]
        for _ in range(self.views - 1):
            instance = self._instance[index]
            offset = (torch.rand(len(index), generator=generator) * self._count[instance]).long()
            supervising.append(self._by_instance[self._first[instance] + offset])
        flipped = torch.rand(len(index), generator=generator) < (0.5 if self.flip else 0.0)
        return torch.stack(supervising, dim=1), flipped, generator

    def draw(self, step: int) -> RayBatch:
        """The batch of step `step`."""
        bank = self.bank
        view, flipped, generator = self.choose(step)
        mirrored = bool(flipped.any())  # asked on the host, where it was drawn
        # once: each use of an index on the host is a copy
        view, flipped = view.to(bank.device), flipped.to(bank.device)
        index, flat = view[:, 0], view.flatten()
        pixel = self._pixels(flat, generator)  # [batch * views, rays], of the unflipped pictures
        hull = None
        if self.hulls is not None:
            hull = self.hulls.draw(bank.instance[index], self.hull_points, flipped, generator)
        return self._gather(index, flat, pixel, flipped if mirrored else None, hull)

    def _pixels(self, view: Int[Tensor, "views"], generator: torch.Generator) -> Int[Tensor, "views rays"]:
        """Pixels without replacement; a share of them from a band of three pixels on both sides of the silhouette."""
        size = self.bank.size
        if not self.rays:
            return torch.zeros(len(view), 0, dtype=torch.long, device=self.bank.device)
        noise = torch.rand(len(view), size * size, generator=generator).to(self.bank.device)
        if self.boundary_rays:
            band = self.bank.distance[view].flatten(1) < 3.0
            share = band.float().mean(dim=1, keepdim=True).clamp_min(1e-6)
            # Exponential race: the smallest -log(u) / weight are a weighted draw without replacement.
            odds = torch.where(band, self.boundary_rays / share + (1 - self.boundary_rays), 1 - self.boundary_rays)
            noise = -(noise.clamp_min(1e-12).log()) / odds.clamp_min(1e-9)
        return noise.topk(self.rays, dim=1, largest=False).indices  # sorted, or their order would be the device's

    def _gather(
        self,
        index: Int[Tensor, "batch"],
        view: Int[Tensor, "views"],
        pixel: Int[Tensor, "views rays"],
        flipped: Bool[Tensor, "batch"] | None,
        hull: HullBatch | None,
    ) -> RayBatch:
        bank, size = self.bank, self.bank.size
        rows, columns = pixel // size, pixel % size
        which = view[:, None]
        rgb = bank.rgb[which, rows, columns].float() / 127.5 - 1.0
        foreground = bank.mask[which, rows, columns]
        distance = bank.distance[which, rows, columns].float()
        images, cameras = bank.images(index), bank.cameras[view]
        if flipped is not None:
            per_view = flipped.repeat_interleave(self.views)
            images = torch.where(flipped[:, None, None, None], images.flip(-1), images)
            cameras = cameras.mirrored_where(per_view, size)
            columns = torch.where(per_view[:, None], size - 1 - columns, columns)
        position = torch.stack([columns, rows], dim=-1).float() + 0.5
        origins, directions = cameras.rays(position)

        def per_code(values: Tensor) -> Tensor:
            return values.unflatten(0, (len(index), self.views)).flatten(1, 2)

        def per_ray(values: Tensor) -> Tensor:
            return per_code(values[:, None].expand(-1, self.rays))

        return RayBatch(
            images=images,
            origins=per_code(origins),
            directions=per_code(directions),
            object_depth=per_ray(cameras.object_depth),
            plane=per_code(cameras.image_plane(position)),
            perspective=per_ray(cameras.perspective),
            distance=per_code(distance / cameras.largest_focal[:, None]),
            foreground=per_code(foreground),
            rgb=per_code(rgb),
            index=index,
            cameras=cameras,
            hull=hull,
        )
