"""Coordinate networks whose weights come from a hypernetwork: the published trunk with dense coordinate skips, and its heads.

`HyperField` learns; `Field` is what it makes of a batch of codes: plain matrices, evaluated at any points.
Layers: paper §A.2 and docs/paper-vs-code.md, C2.
"""

from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tars3d.nn.hypernetwork import HyperLayer, apply_layer
from tars3d.nn.norm_relu import norm_relu
from tars3d.weights import unprefixed

TRUNK_LAYERS = 4


@dataclass(frozen=True)
class Field:
    """A batch of coordinate networks, or a single one for the whole batch (leading size 1).

    Attributes:
        trunk: the trunk's layers; the first sees [extra, E(x)], the later ones [features, E(x)].
        heads: one linear layer each, by name.
    """

    trunk: tuple[Float[Tensor, "layers _rows width"], ...]
    heads: dict[str, Float[Tensor, "layers _rows _outputs"]]

    def features(
        self,
        encoded: Float[Tensor, "batch points encoded"],
        extra: Float[Tensor, "batch points extra"] | None = None,
    ) -> Float[Tensor, "batch points width"]:
        """The trunk's output, after LayerNorm and ReLU.

        Args:
            encoded: E(x), seen by every layer.
            extra: encoded point features, seen by the first layer only, in front of E(x).
        """
        first, later = self.trunk[0], self.trunk[1:]
        width = first.shape[-1]
        hidden = apply_layer(first, encoded if extra is None else torch.cat([extra, encoded], dim=-1))
        hidden = norm_relu(hidden)
        if not later:
            return hidden
        # x W + e V with V of all later layers in one product: fewer, larger products, and no concatenated inputs.
        split = 1 + width
        skips = torch.cat([torch.cat([layer[:, :1], layer[:, split:]], dim=1) for layer in later], dim=-1)
        for layer, skip in zip(later, apply_layer(skips, encoded).split(width, dim=-1), strict=True):
            weight = layer[:, 1:split]
            if len(layer) == 1:
                mixed = torch.addmm(skip.reshape(-1, width), hidden.reshape(-1, width), weight[0]).view_as(hidden)
            else:
                mixed = torch.baddbmm(skip, hidden, weight)
            hidden = norm_relu(mixed)
        return hidden

    def head(self, name: str, features: Float[Tensor, "batch points width"]) -> Float[Tensor, "batch points outputs"]:
        """The linear head `name` on the trunk's output."""
        return apply_layer(self.heads[name], features)

    def object(self, number: int) -> "Field":
        """The network of one object of the batch; a shared network is that of each."""

        def one(layers: Tensor) -> Tensor:
            return layers if len(layers) == 1 else layers[number : number + 1]

        return Field(tuple(one(layer) for layer in self.trunk), {name: one(head) for name, head in self.heads.items()})

    def tensors(self) -> dict[str, Tensor]:
        """Every matrix by name; `Field.from_tensors` is the inverse."""
        named = {f"trunk.{i}": layer for i, layer in enumerate(self.trunk)}
        return named | {f"heads.{name}": layer for name, layer in self.heads.items()}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> "Field":
        """A field from the matrices of `Field.tensors`."""
        trunk = tuple(tensors[f"trunk.{i}"] for i in range(sum(name.startswith("trunk.") for name in tensors)))
        return cls(trunk, unprefixed(tensors, "heads."))


class HyperField(nn.Module):
    """Hypernetworks for the trunk and the heads of a coordinate network.

    Args:
        code_width: length of the code.
        hidden, depth: width and number of hidden layers of each hypernetwork.
        encoded: width of E(x).
        extra: width of what only the first layer sees (encoded point features), 0 for none.
        width: width of the trunk.
        heads: outputs of each head by name, in the order in which parameters are made.
        palette: entries of the code behind the first `code_width`, which the head `rgb` alone sees.
        near_constant, activation: see `HyperLayer`.
    """

    def __init__(
        self,
        *,
        code_width: int,
        hidden: int,
        depth: int,
        encoded: int,
        extra: int,
        width: int,
        heads: dict[str, int],
        palette: int = 0,
        near_constant: bool = False,
        activation: str = "relu",
    ):
        super().__init__()

        def hyper(fan_in: int, fan_out: int, seen: int = code_width) -> HyperLayer:
            return HyperLayer(seen, hidden, depth, fan_in, fan_out, near_constant=near_constant, activation=activation)

        fan_ins = [extra + encoded] + [width + encoded] * (TRUNK_LAYERS - 1)
        self.trunk = nn.ModuleList(hyper(fan_in, width) for fan_in in fan_ins)
        self.heads = nn.ModuleDict(
            {
                name: hyper(width, outputs, code_width + (palette if name == "rgb" else 0))
                for name, outputs in heads.items()
            }
        )

    def trunk_layers(self) -> list[HyperLayer]:
        """The hypernetworks of the trunk, in order."""
        return [cast(HyperLayer, layer) for layer in self.trunk]

    def head_layer(self, name: str) -> HyperLayer:
        """The hypernetwork of a head."""
        return cast(HyperLayer, self.heads[name])

    def forward(self, codes: Float[Tensor, "batch code"]) -> Field:
        """The coordinate networks of a batch of codes."""
        return Field(
            tuple(layer(codes) for layer in self.trunk),
            {name: head(codes) for name, head in self.heads.items()},
        )
