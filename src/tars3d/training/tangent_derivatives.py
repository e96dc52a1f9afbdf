"""Exact spatial derivatives of deformed shapes, each network in the cheaper direction; `derivatives` calls it.

g has 3 + k outputs and 3 inputs: its derivatives come by tangents (`nn.tangents`), with a first-order graph. f has one output:
its gradient comes by reverse mode. The chain rule joins them. Against reverse mode alone, this spares double backward through g
for each component of the deformation.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from tars3d.methods.tars import CanonicalField, DeformedShape
from tars3d.nn.tangents import encode_stack, linear_stack, trunk_stack


class ObjectDerivatives(NamedTuple):
    """One object's sdf, its gradient, the displacement's Jacobian (rows are components) and the sdf's correction."""

    sdf: Float[Tensor, "points"]
    gradient: Float[Tensor, "points 3"]
    jacobian: Float[Tensor, "points 3 3"]
    correction: Float[Tensor, "points"] | None


def object_derivatives(shape: DeformedShape, points: Float[Tensor, "points 3"]) -> ObjectDerivatives:
    """Derivatives of a shape (a batch of one) at points, with a graph to train through."""
    template, heads = shape.template, shape.deformation.heads
    axes = torch.eye(3, dtype=points.dtype, device=points.device)
    position = torch.cat([points.detach()[None], axes[:, None].expand(3, len(points), 3)])
    encoded = torch.cat([encode_stack(position, template.octaves, template.octave_weights), position], dim=-1)
    trunk = trunk_stack(shape.deformation.trunk, encoded)
    names = [name for name in ("deformation", "features", "correction") if name in heads]
    outputs = linear_stack(torch.cat([heads[name][0] for name in names], dim=-1), trunk)
    sizes = [heads[name].shape[-1] for name in names]
    found = dict(zip(names, outputs.split(sizes, dim=-1), strict=True))

    replaced = shape.replace is not None and bool(shape.replace.all())
    features = None if replaced or template.unconditioned is None else found.get("features")
    moved = position + found["deformation"]
    inputs = moved if features is None else torch.cat([moved, features], dim=-1)
    sdf, slope = _field_gradient(template, inputs[0])
    gradient = (inputs[1:] * slope).sum(-1)
    correction = None
    if "correction" in found:
        correction = found["correction"][0, :, 0]
        sdf, gradient = sdf + correction, gradient + found["correction"][1:, :, 0]
    return ObjectDerivatives(sdf, gradient.T, found["deformation"][1:].permute(1, 2, 0), correction)


def _field_gradient(
    template: CanonicalField, inputs: Float[Tensor, "points inputs"]
) -> tuple[Float[Tensor, "points"], Float[Tensor, "points inputs"]]:
    """f and its gradient along its inputs: canonical positions and, unless they are left to u, point features."""
    if not inputs.requires_grad:
        inputs = inputs.detach().requires_grad_(True)
    features = inputs[None, :, 3:] if inputs.shape[-1] > 3 else None
    trunk = template.lifted(template.encode(inputs[None, :, :3]), features)
    sdf = template.field.head("level", trunk)[0, :, 0]
    return sdf, torch.autograd.grad(sdf.sum(), inputs, create_graph=True)[0]
