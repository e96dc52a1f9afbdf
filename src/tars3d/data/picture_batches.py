"""Batches of whole pictures with masks and cameras, for systems that render whole pictures (`training.mesh_stages`).

What a step draws is a function of (seed, step) alone, as for `ray_batches.BatchSampler`, whose pictures these are.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tars3d.data.ray_batches import BatchSampler
from tars3d.geometry.camera import Cameras


@dataclass(frozen=True)
class PictureBatch:
    """Pictures to encode, and the pictures that supervise their codes: their own, then others of the same object.

    Attributes:
        images: one picture a code, in [-1, 1] on white.
        own_masks: of those pictures.
        masks, cameras: of the supervising pictures, those of a code in a row; its own comes first.
        distance: of each pixel of the encoded picture to its silhouette's edge, pixels.
        index: which pictures of the bank are encoded.
    """

    images: Float[Tensor, "batch 3 size size"]
    own_masks: Bool[Tensor, "batch size size"]
    masks: Bool[Tensor, "views size size"]
    cameras: Cameras
    distance: Float[Tensor, "batch size size"]
    index: Int[Tensor, "batch"]

    @property
    def views(self) -> int:
        """Pictures that supervise each code."""
        return len(self.cameras) // len(self.index)

    @property
    def own_cameras(self) -> Cameras:
        """Of the encoded pictures."""
        return self.cameras[:: self.views]


def with_masks(
    images: Float[Tensor, "batch 3 size size"], masks: Bool[Tensor, "batch size size"]
) -> Float[Tensor, "batch 4 size size"]:
    """Pictures with their masks as the fourth channel, -1 or 1, as some encoders take them."""
    return torch.cat([images, 2 * masks[:, None].to(images.dtype) - 1], dim=1)


class PictureSampler(BatchSampler):
    """Draws the batches of a mesh system's stage; see `BatchSampler` for the settings."""

    def draw_pictures(self, step: int) -> PictureBatch:
        """The batch of step `step`; a flipped picture has the mirrored cameras of its object's mirror image."""
        bank = self.bank
        view, flipped, _ = self.choose(step)
        view, flipped = view.to(bank.device), flipped.to(bank.device)
        index, every = view[:, 0], view.flatten()
        per_view = flipped.repeat_interleave(view.shape[1])

        def turned(values: Tensor, flip: Tensor) -> Tensor:
            return torch.where(flip.view(-1, *[1] * (values.dim() - 1)), values.flip(-1), values)

        return PictureBatch(
            turned(bank.images(index), flipped),
            turned(bank.mask[index], flipped),
            turned(bank.mask[every], per_view),
            bank.cameras[every].mirrored_where(per_view, bank.size),
            turned(bank.distance[index].float(), flipped),
            index,
        )
