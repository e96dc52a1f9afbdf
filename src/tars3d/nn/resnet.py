"""ResNets of basic blocks (He et al., CVPR 2016), of any width and depth: the backbone of the picture encoder.

Its parameters are named as in the ResNets of the Hugging Face hub (`microsoft/resnet-18`), so that their weights load as they are; libraries that have
the same network take two seconds to import.
"""

from collections import OrderedDict
from pathlib import Path
from typing import cast

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from tars3d.errors import UserError, reason_of
from tars3d.weights import from_hub

HUB_PREFIX = "resnet."  # of the backbone in files that hold a classifier as well


class ConvNorm(nn.Module):
    """A convolution that keeps the size, or divides it by `stride`, and the normalisation behind it."""

    def __init__(self, channels: int, out_channels: int, kernel: int, stride: int = 1):
        super().__init__()
        self.convolution = nn.Conv2d(channels, out_channels, kernel, stride, padding=kernel // 2, bias=False)
        self.normalization = nn.BatchNorm2d(out_channels)

    def forward(self, x: Float[Tensor, "batch channels rows columns"]) -> Float[Tensor, "batch out r c"]:
        return self.normalization(self.convolution(x))


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions, added to what came in; a 1 x 1 convolution takes that to the new size, where it changes."""

    def __init__(self, channels: int, out_channels: int, stride: int):
        super().__init__()
        same = channels == out_channels and stride == 1
        self.shortcut = nn.Identity() if same else ConvNorm(channels, out_channels, 1, stride)
        self.layer = nn.Sequential(ConvNorm(channels, out_channels, 3, stride), ConvNorm(out_channels, out_channels, 3))

    def forward(self, x: Float[Tensor, "batch channels rows columns"]) -> Float[Tensor, "batch out r c"]:
        first, second = self.layer
        return torch.relu(second(torch.relu(first(x))) + self.shortcut(x))


class ResNet(nn.Module):
    """Pictures to the maps of four stages, each half as large as the one before it.

    Args:
        widths: channels of the stages; (64, 128, 256, 512) is ResNet-18.
        depths: blocks of each stage.
    """

    def __init__(self, widths: tuple[int, ...], depths: tuple[int, ...]):
        super().__init__()
        self.embedder = nn.ModuleDict({"embedder": ConvNorm(3, widths[0], 7, stride=2)})
        stages, before = nn.ModuleList(), widths[0]
        for index, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            first = BasicBlock(before, width, stride=1 if index == 0 else 2)
            blocks = [first, *(BasicBlock(width, width, stride=1) for _ in range(depth - 1))]
            stages.append(nn.Sequential(OrderedDict(layers=nn.Sequential(*blocks))))
            before = width
        self.encoder = nn.ModuleDict({"stages": stages})
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(
        self, images: Float[Tensor, "batch 3 height width"]
    ) -> tuple[Float[Tensor, "batch channels rows columns"], ...]:
        """The map of each stage, a quarter of the picture's size and less."""
        x = nn.functional.max_pool2d(torch.relu(self.embedder["embedder"](images)), 3, stride=2, padding=1)
        maps = []
        for stage in cast(nn.ModuleList, self.encoder["stages"]):
            x = stage(x)
            maps.append(x)
        return tuple(maps)

    def load_pretrained(self, hub_id: str) -> None:
        """Take the weights of a hub id or a folder, e.g. `microsoft/resnet-18` (ImageNet), with or without a classifier.

        Raises:
            UserError: nothing can be loaded from there, or its layers differ.
        """
        try:
            folder = Path(hub_id)
            stored = load_file(folder / "model.safetensors" if folder.is_dir() else from_hub(hub_id))
        except (OSError, ValueError, SafetensorError) as error:
            raise UserError(
                f"{hub_id}: no pretrained ResNet could be loaded ({reason_of(error)}); "
                "check the hub id and the connection, or train with --no-pretrained"
            ) from error
        prefix = HUB_PREFIX if any(name.startswith(HUB_PREFIX) for name in stored) else ""
        backbone = {name.removeprefix(prefix): value for name, value in stored.items() if name.startswith(prefix)}
        try:
            self.load_state_dict(backbone)
        except RuntimeError as error:
            raise UserError(
                f"{hub_id}: its layers differ from the preset's encoder; choose a hub id of the same ResNet size"
            ) from error
