"""What every system is to the rest of the house: a `Method` encodes pictures into a `Shape`, a batch of functions of space.

The ray marcher, the losses, the mesher, the metrics and the correspondences know a Shape and nothing of the network behind it.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tars3d.config import ModelConfig
from tars3d.errors import UserError
from tars3d.geometry.camera import Cameras


@dataclass(frozen=True)
class Samples:
    """A shape at points: what training needs together, from one evaluation.

    Attributes:
        sdf: signed distance, negative inside, world units.
        steering: features that the ray marcher's LSTM is fed.
        displacement: canonical minus object position; None for shapes without a canonical space.
        correction: the part of the sdf that no deformation explains; None for methods without one.
    """

    sdf: Float[Tensor, "batch points"]
    steering: Float[Tensor, "batch points width"]
    displacement: Float[Tensor, "batch points 3"] | None = None
    correction: Float[Tensor, "batch points"] | None = None


class Shape(ABC):
    """A batch of functions of object space. Points are [batch, n, 3] in the object frame (Y up, world units)."""

    @property
    @abstractmethod
    def batch_size(self) -> int:
        """How many objects."""

    @abstractmethod
    def sample(self, points: Float[Tensor, "batch points 3"]) -> Samples:
        """Signed distance, marching features and displacement in one evaluation."""

    @abstractmethod
    def color(self, points: Float[Tensor, "batch points 3"]) -> Float[Tensor, "batch points 3"]:
        """Colour in [0, 1], sRGB."""

    @abstractmethod
    def canonical(self, points: Float[Tensor, "batch points 3"]) -> Float[Tensor, "batch points 3"]:
        """Position on the category's canonical shape; the points themselves where a method has no canonical space."""

    @abstractmethod
    def features(self, points: Float[Tensor, "batch points 3"]) -> Float[Tensor, "batch points k"]:
        """Point features φ that complete the canonical position; k may be 0."""

    def sdf(self, points: Float[Tensor, "batch points 3"]) -> Float[Tensor, "batch points"]:
        """Signed distance, negative inside, world units."""
        return self.sample(points).sdf

    def probe(self, points: Float[Tensor, "batch points 3"]) -> tuple[Tensor, Tensor]:
        """(sdf, steering features): the shape as the ray marcher sees it."""
        samples = self.sample(points)
        return samples.sdf, samples.steering


class Method(nn.Module, ABC):
    """The networks of a system.

    Attributes:
        config: their sizes.
        encoder: pictures to codes.
        takes_mask: whether pictures come with their masks as a fourth channel.
    """

    takes_mask: ClassVar[bool] = False
    config: ModelConfig
    encoder: nn.Module

    def resized(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels size size"]:
        """Pictures averaged down to the encoder's size."""
        size = self.config.encoder_input
        return images if images.shape[-1] == size else nn.functional.interpolate(images, (size, size), mode="area")

    @abstractmethod
    def encode(self, images: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch code"]:
        """Codes of framed pictures in [-1, 1] on white."""

    @abstractmethod
    def shape(self, codes: Float[Tensor, "batch code"]) -> Shape:
        """Shapes of codes."""

    def encode_with_cameras(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> tuple[Float[Tensor, "batch code"], Cameras | None]:
        """Codes of framed pictures, and their cameras where the system predicts them."""
        return self.encode(images), self.predict_camera(images) if self.predicts_camera else None

    @property
    def predicts_camera(self) -> bool:
        """Whether it reads a picture's camera off it."""
        return False

    def predict_camera(self, images: Float[Tensor, "batch channels height width"]) -> Cameras:
        """Cameras of framed pictures in [-1, 1] on white; object frame to pixels of these pictures.

        Raises:
            UserError: it predicts none.
        """
        raise UserError("this model predicts no camera; train one with the preset compact, or with --method cmr")


def empty_features(points: Float[Tensor, "batch points 3"]) -> Float[Tensor, "batch points 0"]:
    """No point features, in the right shape."""
    return torch.empty(*points.shape[:-1], 0, device=points.device, dtype=points.dtype)
