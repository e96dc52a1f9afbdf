"""Spatial derivatives of a shape at points: exact, by automatic differentiation, or by central differences.

Exact ones of deformed shapes come from `tangent_derivatives`; of any other shape by reverse mode, which needs second-order graphs
to train through but is the faster way for one output. Differences need only function values, and their step sets the finest detail
that the eikonal term sees.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from tars3d.methods.base import Shape
from tars3d.methods.tars import DeformedShape
from tars3d.training.tangent_derivatives import object_derivatives


@dataclass(frozen=True)
class Derivatives:
    """Derivatives at points.

    Attributes:
        sdf: the value itself, where the way of computing it gave it for free.
        gradient: of the sdf.
        jacobian: of the displacement, rows are components; None without a canonical space or where not asked for.
        laplacian: of the sdf; None from exact derivatives.
        correction: the sdf's correction itself, where the shape has one.
    """

    sdf: Float[Tensor, "batch points"]
    gradient: Float[Tensor, "batch points 3"]
    jacobian: Float[Tensor, "batch points 3 3"] | None
    laplacian: Float[Tensor, "batch points"] | None
    correction: Float[Tensor, "batch points"] | None = None


def exact_derivatives(shape: Shape, points: Float[Tensor, "batch points 3"], *, jacobian: bool = True) -> Derivatives:
    """Exact to rounding, the fastest way there is for the shape, with a graph to train through."""
    if not isinstance(shape, DeformedShape):
        return reverse_derivatives(shape, points, jacobian=jacobian)
    found = [object_derivatives(shape.object(i), part) for i, part in enumerate(points)]
    corrections = [one.correction for one in found if one.correction is not None]
    return Derivatives(
        torch.stack([one.sdf for one in found]),
        torch.stack([one.gradient for one in found]),
        torch.stack([one.jacobian for one in found]) if jacobian else None,
        None,
        torch.stack(corrections) if corrections else None,
    )


def reverse_derivatives(shape: Shape, points: Float[Tensor, "batch points 3"], *, jacobian: bool = True) -> Derivatives:
    """By reverse-mode differentiation, with a graph to train through: any shape, and the plain twin of the fast way."""
    points = points.detach().requires_grad_(True)
    samples = shape.sample(points)

    def gradient(values: Tensor) -> Tensor:
        return torch.autograd.grad(values.sum(), points, create_graph=True)[0]

    rows = None
    if jacobian and samples.displacement is not None:
        rows = torch.stack([gradient(samples.displacement[..., i]) for i in range(3)], dim=-2)
    return Derivatives(samples.sdf, gradient(samples.sdf), rows, None, samples.correction)


def central_differences(
    shape: Shape, points: Float[Tensor, "batch points 3"], step: float, *, jacobian: bool = True
) -> Derivatives:
    """From the values at a point and at its six neighbours `step` away: gradient, Jacobian and Laplacian in one evaluation."""
    axes = torch.eye(3, dtype=points.dtype, device=points.device)
    offsets = step * torch.cat([torch.zeros_like(axes[:1]), axes, -axes])
    stencil = points[..., None, :] + offsets
    samples = shape.sample(stencil.flatten(1, 2))
    sdf = samples.sdf.unflatten(1, (-1, 7))
    centre, ahead, behind = sdf[..., 0], sdf[..., 1:4], sdf[..., 4:7]
    rows = None
    if jacobian and samples.displacement is not None:
        moved = samples.displacement.unflatten(1, (-1, 7))
        rows = ((moved[..., 1:4, :] - moved[..., 4:7, :]) / (2 * step)).transpose(-1, -2)
    laplacian = (ahead + behind).sum(-1).sub(6 * centre) / step**2
    correction = None if samples.correction is None else samples.correction.unflatten(1, (-1, 7))[..., 0]
    return Derivatives(centre, (ahead - behind) / (2 * step), rows, laplacian, correction)
