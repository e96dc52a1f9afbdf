"""The LPIPS distance on AlexNet's features (Zhang et al., CVPR 2018): CMR's texture loss where its weights are at hand.

The weights are not part of this project and are not fetched. `PerceptualLoss.load` reads a .safetensors file with torchvision's
AlexNet names (`features.0.weight`, ...) and LPIPS's linear layers (`lin0.model.1.weight`, ...); without one, CMR compares colours.
"""

import os

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tars3d.errors import UserError
from tars3d.weights import read_safetensors

LAYERS = {
    0: (3, 64, 11, 4, 2),
    3: (64, 192, 5, 1, 2),
    6: (192, 384, 3, 1, 1),
    8: (384, 256, 3, 1, 1),
    10: (256, 256, 3, 1, 1),
}
"""Place in AlexNet's `features`: channels in and out, kernel, stride, padding."""
POOLED = (3, 6)
"""Convolutions that a 3 x 3 maximum over every second pixel precedes."""


class PerceptualLoss(nn.Module):
    """Squared distances of unit features after each of AlexNet's five ReLUs, weighed by channel, averaged over pixels and added."""

    shift: Tensor
    scale: Tensor

    def __init__(self):
        super().__init__()
        self.features = nn.ModuleDict({str(i): nn.Conv2d(a, b, k, s, p) for i, (a, b, k, s, p) in LAYERS.items()})
        self.weights = nn.ParameterList([torch.zeros(shape[1]) for shape in LAYERS.values()])
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188])[:, None, None])
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450])[:, None, None])

    @classmethod
    def load(cls, path: str | os.PathLike) -> "PerceptualLoss":
        """The network of a weights file, frozen.

        Raises:
            UserError: the file is missing, pickled, or lacks a layer.
        """
        tensors, _ = read_safetensors(path)
        state = {name: value.float() for name, value in tensors.items() if name.startswith("features.")}
        for number in range(len(LAYERS)):
            name = f"lin{number}.model.1.weight"
            if name in tensors:
                state[f"weights.{number}"] = tensors[name].float().flatten()
        loss = cls()
        own = loss.state_dict()
        wrong = [
            n for n, v in own.items() if n not in ("shift", "scale") and (n not in state or state[n].shape != v.shape)
        ]
        if wrong:
            raise UserError(
                f"{path}: not LPIPS-AlexNet weights ({wrong[0]} is missing or of another shape); convert them to "
                "safetensors with torchvision's and LPIPS's names, or leave --perceptual out"
            )
        loss.load_state_dict({name: state[name] for name in own if name in state}, strict=False)
        return loss.eval().requires_grad_(False)

    def forward(
        self, found: Float[Tensor, "batch 3 height width"], truth: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, ""]:
        """The mean distance of pictures in [-1, 1]."""
        both = (torch.cat([found, truth]) - self.shift) / self.scale
        total = torch.zeros((), device=found.device)
        for (place, layer), weight in zip(self.features.items(), self.weights, strict=True):
            if int(place) in POOLED:
                both = nn.functional.max_pool2d(both, 3, 2)
            both = torch.relu(layer(both))
            first, second = (both / (both.norm(dim=1, keepdim=True) + 1e-10)).chunk(2)
            total = total + ((first - second).square() * weight[:, None, None]).sum(1).mean()
        return total
