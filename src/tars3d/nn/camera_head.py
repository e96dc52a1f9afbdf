"""The camera of a framed picture, read off the encoder's feature maps: where the object stands in the picture, and how it is turned.

Learned from the training cameras, beside shapes and then in a stage of its own, at the cost of a few small layers. Codes would do, too, but their
average over the picture takes away what is where (docs/photo.md). `methods.tars` owns it, `training.stages` trains it.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from tars3d.config import ModelConfig
from tars3d.geometry.camera_parameters import rotation_from_rows
from tars3d.nn.encoder import Encoding


class CameraHead(nn.Module):
    """Feature maps to camera. The rotation is predicted as its first two rows, made orthonormal (Zhou et al., CVPR 2019).

    Args:
        widths: channels of the encoder's stages, of which it reads the last two.
        cells: a side, to which their maps are averaged.
        hidden: width of the layers between.
        depth: their number.
        rank: of the first of them, as a product of two matrices; 0: full.
    """

    def __init__(self, widths: tuple[int, ...], cells: tuple[int, ...], hidden: int, depth: int, rank: int):
        super().__init__()
        self._cells = cells
        features = sum(width * side**2 for width, side in zip(widths[-2:], cells, strict=True))
        first: nn.Module = nn.Linear(features, hidden)
        if rank:
            first = nn.Sequential(nn.Linear(features, rank, bias=False), nn.Linear(rank, hidden))
        layers: list[nn.Module] = [nn.LayerNorm(features), first, nn.SiLU()]
        for _ in range(depth - 1):
            layers += [nn.Linear(hidden, hidden), nn.SiLU()]
        self.mlp = nn.Sequential(*layers, nn.Linear(hidden, 10))

    @classmethod
    def of(cls, config: ModelConfig) -> "CameraHead":
        """The head of a configuration that has one."""
        return cls(
            config.encoder_widths, config.camera_cells, config.camera_hidden, config.camera_depth, config.camera_rank
        )

    def forward(self, encoding: Encoding) -> tuple[Float[Tensor, "batch 3 3"], Float[Tensor, "batch 4"]]:
        """Rotation world to camera, and `camera_parameters.placement`, of encoded pictures."""
        return self.answer(self.look(encoding))

    def look(self, encoding: Encoding) -> Float[Tensor, "batch features"]:
        """What the head sees of encoded pictures."""
        seen = [F.adaptive_avg_pool2d(part, cells) for part, cells in zip(encoding.maps, self._cells, strict=True)]
        return torch.cat([part.flatten(1) for part in seen], dim=1)

    def answer(
        self, seen: Float[Tensor, "batch features"]
    ) -> tuple[Float[Tensor, "batch 3 3"], Float[Tensor, "batch 4"]]:
        """As `forward`, of what was seen."""
        values = self.mlp(seen)
        return rotation_from_rows(values[:, :3], values[:, 3:6]), values[:, 6:]
