"""Hypernetworks: a code in, the weights of a small coordinate network out (paper §3.1, §A.2).

Each layer of the coordinate network has an MLP of its own, built as in the published code (docs/paper-vs-code.md, C3).
`nn.fields` decides which layers there are.
"""

import math
from itertools import pairwise
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "silu": nn.SiLU}


class HyperLayer(nn.Module):
    """Makes one linear layer per code: a matrix whose row 0 is the bias and whose rows 1.. are the weights.

    Args:
        code_width: how many of the code's entries it sees, the first ones.
        hidden: width of the hypernetwork's own layers.
        depth: number of hidden layers, at least 1.
        fan_in, fan_out: the layer that it makes.
        near_constant: start from an ordinary, well-scaled layer, the same for every code, plus what the code adds. False is PyTorch's default
            initialisation, as published.
        activation: "relu" as published, or "silu", whose units cannot die: at a high learning rate most ReLU units of the heads did
            within 300 steps, and with them what the code says of colour.
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
        activation: str = "relu",
    ):
        super().__init__()
        widths = [code_width] + [hidden] * depth
        modules: list[nn.Module] = []
        for before, after in pairwise(widths):
            modules += [nn.Linear(before, after), ACTIVATIONS[activation]()]
        self.mlp = nn.Sequential(*modules, nn.Linear(hidden, (fan_in + 1) * fan_out))
        self.code_width, self.fan_in, self.fan_out = code_width, fan_in, fan_out
        if near_constant:
            self._start_near_constant()

    @property
    def last(self) -> nn.Linear:
        """The linear layer whose outputs are the made layer's entries, row by row."""
        return cast(nn.Linear, self.mlp[-1])

    @torch.no_grad()
    def _start_near_constant(self) -> None:
        bound = math.sqrt(3.0 / self.fan_in)  # unit-variance outputs, as LayerNorm behind it expects
        matrix = self.last.bias.view(self.fan_in + 1, self.fan_out)
        matrix[0].zero_()
        matrix[1:].uniform_(-bound, bound)

    @torch.no_grad()
    def start_at_zero(self) -> None:
        """Make a layer of zeros for every code."""
        self.last.weight.zero_()
        self.last.bias.zero_()

    @torch.no_grad()
    def start_from(self, source: "HyperLayer", *, dropped: int = 0) -> None:
        """Take another hypernetwork's weights where sizes agree.

        Args:
            source: makes a layer with the same outputs.
            dropped: that many of the source layer's inputs, its first ones, are not inputs here.
        """
        for here, there in zip(self.mlp.children(), source.mlp.children(), strict=False):
            if here is self.last or there is source.last:
                break
            if isinstance(here, nn.Linear) and isinstance(there, nn.Linear) and here.weight.shape == there.weight.shape:
                here.weight.copy_(there.weight)
                here.bias.copy_(there.bias)
        if self.last.in_features != source.last.in_features:
            return
        rows = [row for row in range(source.fan_in + 1) if row == 0 or row > dropped]
        width = source.fan_out
        self.last.weight.copy_(source.last.weight.view(source.fan_in + 1, width, -1)[rows].flatten(0, 1))
        self.last.bias.copy_(source.last.bias.view(source.fan_in + 1, width)[rows].flatten())

    def forward(self, codes: Float[Tensor, "batch code"]) -> Float[Tensor, "batch rows fan_out"]:
        """The layers of a batch of codes, [fan_in + 1, fan_out] each."""
        return self.mlp(codes[:, : self.code_width]).view(-1, self.fan_in + 1, self.fan_out)


def apply_layer(
    layer: Float[Tensor, "layers rows fan_out"], inputs: Float[Tensor, "batch points fan_in"]
) -> Float[Tensor, "batch points fan_out"]:
    """y = x W + b with a layer per sample, or one layer shared by the whole batch."""
    bias, weight = layer[:, :1], layer[:, 1:]
    if len(layer) == 1:
        flat = torch.addmm(bias[0], inputs.reshape(-1, inputs.shape[-1]), weight[0])
        return flat.view(*inputs.shape[:-1], layer.shape[-1])
    return torch.baddbmm(bias, inputs, weight)
