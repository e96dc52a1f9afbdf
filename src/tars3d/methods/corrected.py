"""A shape and what was added to its sdf on a grid: `photo.outline` bends reconstructions to their pictures with it."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from tars3d.methods.base import Samples, Shape


@dataclass(frozen=True)
class CorrectedShape(Shape):
    """A batch of one whose sdf is that of another shape plus a correction; colours and places on the canonical shape are the other's.

    Attributes:
        base: the shape as predicted.
        correction: added to its sdf at the corners of the cells of the cube [-bound, bound]³, world units, by z, y, x; trilinear between, and outside
            the cube as at its faces.
        bound: half side of that cube, world units.
    """

    base: Shape
    correction: Float[Tensor, "corners corners corners"]
    bound: float

    @property
    def batch_size(self) -> int:
        return self.base.batch_size

    def sample(self, points: Float[Tensor, "batch points 3"]) -> Samples:
        samples = self.base.sample(points)
        return replace(samples, sdf=samples.sdf + self._added(points))

    def sdf(self, points: Float[Tensor, "batch points 3"]) -> Float[Tensor, "batch points"]:
        return self.base.sdf(points) + self._added(points)

    def _added(self, points: Float[Tensor, "batch points 3"]) -> Float[Tensor, "batch points"]:
        return trilinear(self.correction, points.reshape(-1, 3), self.bound).reshape(points.shape[:-1])

    def color(self, points: Float[Tensor, "batch points 3"]) -> Float[Tensor, "batch points 3"]:
        return self.base.color(points)

    def canonical(self, points: Float[Tensor, "batch points 3"]) -> Float[Tensor, "batch points 3"]:
        return self.base.canonical(points)

    def features(self, points: Float[Tensor, "batch points 3"]) -> Float[Tensor, "batch points k"]:
        return self.base.features(points)


def trilinear(
    values: Float[Tensor, "corners corners corners"], points: Float[Tensor, "points 3"], bound: float
) -> Float[Tensor, "points"]:
    """Values at the corners of the cells of [-bound, bound]³ (by z, y, x) at points; differentiable by both."""
    found = torch.nn.functional.grid_sample(
        values[None, None], (points / bound)[None, None, None], align_corners=True, padding_mode="border"
    )
    return found[0, 0, 0, 0]
