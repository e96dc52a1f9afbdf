"""CMR's texture flow: from a code, a map over the sphere that says where in the picture each place finds its colour.

Kanazawa et al., ECCV 2018; layers as in their published code. Part of `methods.cmr`.
"""

import itertools
import math

import torch
from jaxtyping import Float
from torch import Tensor, nn


class TextureFlow(nn.Module):
    """Two linear layers to a small map, upsampled level by level; the last layer gives picture coordinates.

    Args:
        code_width: of the code.
        grid: rows and columns of the small map; the rows go from pole to pole, the columns around.
        channels: of the small map, then of each level, which doubles rows and columns.
    """

    def __init__(self, code_width: int, grid: tuple[int, ...], channels: tuple[int, ...]):
        super().__init__()
        self.shape = (channels[0], *grid)
        wide = math.prod(self.shape)
        layers: list[nn.Module] = []
        for source in (code_width, wide):
            layers += [nn.Linear(source, wide), nn.BatchNorm1d(wide), nn.LeakyReLU(0.2)]
        self.lift = nn.Sequential(*layers)
        levels: list[nn.Module] = []
        for source, target in itertools.pairwise(channels):
            levels += [
                nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False),
                nn.Conv2d(source, target, 3, padding=1, padding_mode="reflect"),
                nn.LeakyReLU(0.2),
                nn.Conv2d(target, target, 3, padding=1),
                nn.BatchNorm2d(target),
                nn.LeakyReLU(0.2),
            ]
        self.levels = nn.Sequential(*levels, nn.Conv2d(channels[-1], 2, 3, padding=1), nn.Tanh())

    def forward(self, codes: Float[Tensor, "batch code"]) -> Float[Tensor, "batch 2 rows columns"]:
        """Picture coordinates (x, y) from -1 to 1."""
        return self.levels(self.lift(codes).view(len(codes), *self.shape))


def sphere_coordinates(directions: Float[Tensor, "*points 3"]) -> Float[Tensor, "*points 2"]:
    """Where on CMR's map directions from the centre lie, from -1 to 1: u around the z axis, v from its pole."""
    unit = nn.functional.normalize(directions, dim=-1)
    u = torch.atan2(unit[..., 1], unit[..., 0]) / math.pi
    v = 2 * torch.arccos(unit[..., 2].clamp(-1, 1)) / math.pi - 1
    return torch.stack([u, v], dim=-1)
