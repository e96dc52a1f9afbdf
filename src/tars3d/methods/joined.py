"""A bent shape whose pieces are joined by rods: `photo.joining` finds them."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from tars3d.methods.base import Samples
from tars3d.methods.corrected import CorrectedShape

BLEND = 0.012
"""World units: within this much of both, shape and rod flow into one another."""


@dataclass(frozen=True)
class JoinedShape(CorrectedShape):
    """A corrected shape (a batch of one) and rods with round ends, in one.

    Attributes:
        rods: both ends and the radius of each, world units.
    """

    rods: Float[Tensor, "rods 7"]

    def sample(self, points: Float[Tensor, "batch points 3"]) -> Samples:
        samples = super().sample(points)
        return replace(samples, sdf=self._with_rods(samples.sdf, points))

    def sdf(self, points: Float[Tensor, "batch points 3"]) -> Float[Tensor, "batch points"]:
        return self._with_rods(super().sdf(points), points)

    def _with_rods(
        self, sdf: Float[Tensor, "batch points"], points: Float[Tensor, "batch points 3"]
    ) -> Float[Tensor, "batch points"]:
        to_rod = torch.full_like(sdf, torch.inf)
        for rod in self.rods.to(points):
            to_rod = to_rod.minimum(rod_distance(points, rod[:3], rod[3:6]) - rod[6])
        return smooth_minimum(sdf, to_rod, BLEND)


def rod_distance(
    points: Float[Tensor, "*batch 3"], start: Float[Tensor, "3"], end: Float[Tensor, "3"]
) -> Float[Tensor, "*batch"]:
    """Distance of points from a straight line between two ends."""
    along, apart = end - start, points - start
    share = (apart @ along / along.square().sum().clamp_min(1e-12)).clamp(0, 1)
    return (apart - share[..., None] * along).norm(dim=-1)


def smooth_minimum(
    first: Float[Tensor, "*batch"], second: Float[Tensor, "*batch"], blend: float
) -> Float[Tensor, "*batch"]:
    """The smaller of two distances; where they differ by less than `blend`, up to a quarter of it less: a quadratic polynomial (I. Quilez)."""
    near = (blend - (first - second).abs()).clamp_min(0)
    return first.minimum(second) - near.square() / (4 * blend)
