"""The camera of a framed picture, read off the encoder's feature maps: where the object stands in the picture, and how it is turned.

Learned from the training cameras, beside shapes and then in a stage of its own, at the cost of two small layers. Codes would do, too, but their
average over the picture takes away what is where (docs/photo.md). `methods.tars` owns it, `training.stages` trains it.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from tars3d.geometry.camera_parameters import rotation_from_rows
from tars3d.nn.encoder import Encoding

CELLS = (4, 2)
"""A side, of the encoder's last two maps as the head sees them: those of a picture of 64 px, and averages of larger ones."""


class CameraHead(nn.Module):
    """Feature maps to camera. The rotation is predicted as its first two rows, made orthonormal (Zhou et al., CVPR 2019).

    Args:
        widths: channels of the encoder's stages, of which it reads the last two.
        hidden: width of the layer between.
    """

    def __init__(self, widths: tuple[int, ...], hidden: int):
        super().__init__()
        features = sum(width * cells**2 for width, cells in zip(widths[-2:], CELLS, strict=True))
        self.mlp = nn.Sequential(nn.LayerNorm(features), nn.Linear(features, hidden), nn.SiLU(), nn.Linear(hidden, 10))

    def forward(self, encoding: Encoding) -> tuple[Float[Tensor, "batch 3 3"], Float[Tensor, "batch 4"]]:
        """Rotation world to camera, and `camera_parameters.placement`, of encoded pictures."""
        seen = [F.adaptive_avg_pool2d(part, cells) for part, cells in zip(encoding.maps, CELLS, strict=True)]
        values = self.mlp(torch.cat([part.flatten(1) for part in seen], dim=1))
        return rotation_from_rows(values[:, :3], values[:, 3:6]), values[:, 6:]
