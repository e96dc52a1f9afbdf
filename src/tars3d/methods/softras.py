"""SoftRas's single-view shape network (Liu et al., ICCV 2019): picture and mask to the vertices of a sphere.

The paper's baseline (§A.3) renders each mesh into its own view only. It has no colours.
"""

import itertools
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from tars3d.config import ModelConfig
from tars3d.errors import UserError
from tars3d.geometry.templates import Template
from tars3d.methods.mesh import MeshMethod, MeshShape


class SoftRas(MeshMethod):
    """Convolutions and linear layers to a code, linear layers to an offset of every vertex and one of the whole."""

    takes_mask: ClassVar[bool] = True

    def __init__(self, config: ModelConfig):
        super().__init__(config)
        sizes, side = config.mesh, config.encoder_input >> len(config.mesh.channels)
        if side < 1:
            raise UserError(f"method softras: encoder_input {config.encoder_input} is too small for its layers; use 64")
        layers: list[nn.Module] = []
        for source, target in itertools.pairwise((4, *sizes.channels)):
            layers += [nn.Conv2d(source, target, 5, stride=2, padding=2), nn.BatchNorm2d(target), nn.ReLU()]
        widths = (sizes.channels[-1] * side**2, sizes.encoder_hidden, sizes.encoder_hidden, config.code_width)
        self.encoder = nn.Sequential(*layers, nn.Flatten(), *_linear(widths))
        self.decoder = _linear((config.code_width, *sizes.decoder_hidden))
        self.centroid = nn.Linear(sizes.decoder_hidden[-1], 3)
        self.offset = nn.Linear(sizes.decoder_hidden[-1], 3 * len(self.sphere))

    def encode(self, images: Float[Tensor, "batch 4 height width"]) -> Float[Tensor, "batch code"]:
        """Codes of framed pictures on white with their masks as the fourth channel, all in [-1, 1]."""
        return self.encoder((self.resized(images) + 1) / 2)

    def shape(self, codes: Float[Tensor, "batch code"]) -> MeshShape:
        """Meshes inside the unit cube."""
        hidden = self.decoder(codes)
        bias = self.offset(hidden).view(len(codes), -1, 3)
        canonical = self.template_vertices * (0.5 / self.template_vertices.abs().max())
        return MeshShape(self.placed(bias, self.centroid(hidden)), self.faces, canonical)

    def start(self, base: Template) -> np.ndarray:
        """Four times the mesh that a decoder of zeros gives: a sphere of radius 0.25 as published, or the user's template."""
        vertices = super().start(base)
        return vertices if self.config.mesh.template is None else 4 * vertices

    def placed(
        self, bias: Float[Tensor, "batch vertices 3"], centroid: Float[Tensor, "batch 3"]
    ) -> Float[Tensor, "batch vertices 3"]:
        """Vertices from what the decoder says: v = σ(logit|b| + bias) sign b, then moved towards c = tanh(0.1 centroid).

        b is half the template. A coordinate that is 0 there stays 0 before the move; no vertex leaves the cube [-0.5, 0.5]³.
        """
        base = 0.5 * self.template_vertices
        start = torch.logit(base.abs().clamp(1e-6, 1 - 1e-6))
        v = torch.sigmoid(start + bias) * base.sign()
        c = torch.tanh(0.1 * centroid)[:, None]
        return 0.5 * (torch.relu(v) * (1 - c) - torch.relu(-v) * (1 + c) + c)


def _linear(widths: tuple[int, ...]) -> nn.Sequential:
    """Linear layers with a ReLU after each."""
    return nn.Sequential(*(part for pair in itertools.pairwise(widths) for part in (nn.Linear(*pair), nn.ReLU())))
