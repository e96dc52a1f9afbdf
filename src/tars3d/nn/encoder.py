"""The picture encoder: a ResNet of any size, global average, one linear layer to the code."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from tars3d.nn.resnet import ResNet


@dataclass(frozen=True)
class Encoding:
    """What the encoder makes of pictures.

    Attributes:
        code: of the shape, and the palette behind it.
        maps: of the last two stages, before the average takes away what is where.
    """

    code: Float[Tensor, "batch code"]
    maps: tuple[Float[Tensor, "batch channels rows columns"], Float[Tensor, "batch more half_rows half_columns"]]


class Encoder(nn.Module):
    """Picture to code.

    Args:
        widths: channels of the four stages; (64, 128, 256, 512) is ResNet-18.
        depths: residual blocks per stage.
        code_width: length of the code that the network makes.
        palette: cells a side of the picture's `palette`, which is appended to that code; 0 for none.
    """

    def __init__(self, widths: tuple[int, ...], depths: tuple[int, ...], code_width: int, palette: int = 0):
        super().__init__()
        self.palette = palette
        self.backbone = ResNet(widths, depths)
        self.code = nn.Linear(widths[-1], code_width)

    def forward(self, images: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch code"]:
        """Codes of pictures in [-1, 1] whose background is white (+1), any size from 32 px up."""
        return self.read(images).code

    def read(self, images: Float[Tensor, "batch 3 height width"]) -> Encoding:
        """As `forward`, with the feature maps."""
        # Contiguous: oneDNN's channels-last convolutions corrupt the heap in layers of 4 channels (PyTorch 2.13, CPU).
        maps = self.backbone(images.contiguous())
        code = self.code(maps[-1].mean(dim=(2, 3)))
        code = torch.cat([code, palette(images, self.palette)], dim=1) if self.palette else code
        return Encoding(code, maps[-2:])


def white_ground(images: Float[Tensor, "batch 3 height width"]) -> Bool[Tensor, "batch 1 height width"]:
    """Where pictures in [-1, 1] show the white background, and not the object."""
    return (images > 0.999).all(dim=1, keepdim=True)


def palette(images: Float[Tensor, "batch 3 height width"], cells: int) -> Float[Tensor, "batch colors"]:
    """Mean colours of the object in cells x cells fields of its picture, in [-1, 1]; fields without it take its mean colour.

    A ResNet that learns shapes keeps brightness and loses hue; these few numbers tell the colour head what it cannot.
    """
    shown = (~white_ground(images)).to(images)
    weight = nn.functional.adaptive_avg_pool2d(shown, cells)
    color = nn.functional.adaptive_avg_pool2d(images * shown, cells) / weight.clamp_min(1e-6)
    mean = (images * shown).mean(dim=(2, 3), keepdim=True) / shown.mean(dim=(2, 3), keepdim=True).clamp_min(1e-6)
    return torch.where(weight > 1e-3, color, mean).flatten(1)
