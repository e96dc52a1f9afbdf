"""The learned ray marcher: an LSTM that walks along each ray in steps of its own choice (paper §3.3, after SRN).

It is built as in the published code (docs/paper-vs-code.md, C4), and knows a shape only as a function from points to
(sdf, features). Training calls it; reconstruction never does.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

Probe = Callable[[Tensor], tuple[Tensor, Tensor]]
"""[batch, rays, 3] world points to their sdf [batch, rays] and the features [batch, rays, width] that steer the march."""


@dataclass(frozen=True)
class March:
    """Where a march went.

    Attributes:
        levels: sdf at the start, after each step but the last, and at the end: steps + 1 values.
        depths: the ray parameter of the same points.
        surface_depth: ray parameter of the estimated surface crossing; gradients reach the last two depths through it.
    """

    levels: Float[Tensor, "batch rays points"]
    depths: Float[Tensor, "batch rays points"]
    surface_depth: Float[Tensor, "batch rays"]

    @property
    def hit(self) -> Tensor:
        """Which rays end inside the object."""
        return self.levels[..., -1] <= 0


class RayMarcher(nn.Module):
    """LSTM cell and a linear step head; |step| is added to the depth.

    Args:
        feature_width: width of the features it is fed.
        hidden: LSTM state width (published: 32).
    """

    def __init__(self, feature_width: int, hidden: int = 32):
        super().__init__()
        self.lstm = nn.LSTMCell(feature_width, hidden)
        self.step = nn.Linear(hidden, 1)
        with torch.no_grad():  # forget gates start open: 1 in both bias vectors, so 2 in effect
            self.lstm.bias_ih[hidden : 2 * hidden] = 1.0
            self.lstm.bias_hh[hidden : 2 * hidden] = 1.0

    def forward(
        self,
        probe: Probe,
        origins: Float[Tensor, "batch rays 3"],
        directions: Float[Tensor, "batch rays 3"],
        start: Float[Tensor, "batch rays"],
        *,
        steps: int,
        bisection_steps: int = 10,
    ) -> March:
        """March `steps` steps from depth `start` and locate the crossing between the last two points by bisection."""
        depth, state = start, None
        levels, depths = [], []
        for _ in range(steps):
            level, features = probe(origins + depth[..., None] * directions)
            levels.append(level)
            depths.append(depth)
            state = self.lstm(features.flatten(0, 1), state)
            depth = depth + self.step(state[0]).abs().view_as(depth)
        levels.append(probe(origins + depth[..., None] * directions)[0])
        depths.append(depth)
        weight = bisection_weight(
            probe, origins, directions, depths[-2], depths[-1], near_level=levels[-2], steps=bisection_steps
        )
        surface = torch.lerp(depths[-2], depths[-1], weight)
        return March(torch.stack(levels, dim=-1), torch.stack(depths, dim=-1), surface)


@torch.no_grad()
def bisection_weight(
    probe: Probe,
    origins: Float[Tensor, "batch rays 3"],
    directions: Float[Tensor, "batch rays 3"],
    near: Float[Tensor, "batch rays"],
    far: Float[Tensor, "batch rays"],
    *,
    near_level: Float[Tensor, "batch rays"],
    steps: int,
) -> Float[Tensor, "batch rays"]:
    """Weight w in [0, 1] with the crossing at (1 - w) near + w far, after halving the interval `steps` times.

    The published code bisects with gradients on and gets a convex combination of the end points whose weight is constant
    almost everywhere: so the weight needs no graph. Without a sign change it runs to the far end, as published.

    Args:
        near_level: sdf at the near end.
    """
    low, high = torch.zeros_like(near), torch.ones_like(near)
    for _ in range(steps):
        middle = (low + high) / 2
        level, _ = probe(origins + torch.lerp(near, far, middle)[..., None] * directions)
        before = (near_level < 0) ^ (level > 0)  # still on the near end's side of the surface
        low, high = torch.where(before, middle, low), torch.where(before, high, middle)
    return (low + high) / 2
