"""Hypernetworks: a code in, the weights of a small coordinate network out (FACTS §1.1).

One independent MLP makes one layer of the coordinate network. `nn.fields` decides which layers there are.
"""

import math
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn


class HyperLayer(nn.Module):
    """Makes one linear layer per code: a matrix whose row 0 is the bias and whose rows 1.. are the weights.

    Args:
        code_width: length of the code.
        hidden: width of the hypernetwork's own layers.
        depth: number of hidden layers, at least 1.
        fan_in, fan_out: the layer that it makes.
        near_constant: start from an ordinary, well-scaled layer, the same for every code, plus what the code adds. False is PyTorch's default
            initialisation, as published.
    """

    def __init__(
        self,
        code_width: int,
        hidden: int,
        depth: int,
        fan_in: int,
        fan_out: int,
        *,
        near_constant: bool = False,
    ):
        super().__init__()
        widths = [code_width] + [hidden] * depth
        modules: list[nn.Module] = []
        for before, after in pairwise(widths):
            modules += [nn.Linear(before, after), nn.ReLU()]
        self.mlp = nn.Sequential(*modules, nn.Linear(hidden, (fan_in + 1) * fan_out))
        self.fan_in, self.fan_out = fan_in, fan_out
        if near_constant:
            self._start_near_constant()

    @torch.no_grad()
    def _start_near_constant(self) -> None:
        last = self.mlp[-1]
        assert isinstance(last, nn.Linear)
        bound = math.sqrt(3.0 / self.fan_in)  # unit-variance outputs, as LayerNorm behind it expects
        matrix = last.bias.view(self.fan_in + 1, self.fan_out)
        matrix[0].zero_()
        matrix[1:].uniform_(-bound, bound)

    def forward(self, codes: Float[Tensor, "batch code"]) -> Float[Tensor, "batch rows fan_out"]:
        """The layers of a batch of codes, [fan_in + 1, fan_out] each."""
        return self.mlp(codes).view(-1, self.fan_in + 1, self.fan_out)


def apply_layer(
    layer: Float[Tensor, "layers rows fan_out"], inputs: Float[Tensor, "batch points fan_in"]
) -> Float[Tensor, "batch points fan_out"]:
    """y = x W + b with a layer per sample, or one layer shared by the whole batch."""
    bias, weight = layer[:, :1], layer[:, 1:]
    if len(layer) == 1:
        flat = torch.addmm(bias[0], inputs.reshape(-1, inputs.shape[-1]), weight[0])
        return flat.view(*inputs.shape[:-1], -1)
    return torch.baddbmm(bias, inputs, weight)
