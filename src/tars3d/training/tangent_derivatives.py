"""Exact spatial derivatives of TARS's shapes with first-order graphs only; `derivatives` calls it, one object at a time.

g has 3 + k outputs and 3 inputs: its derivatives come by tangents (`nn.tangents`). f has one output: its gradient comes by
reverse mode, and the loss's way back through that gradient is one tangent along the direction that arrives, because
v · ∇f is the derivative of f along v. On a CPU this costs about two thirds of the operations of tangents alone, and none of
double backward's temporaries.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from tars3d.methods.tars import CanonicalField, DeformedShape, ObjectSpaceShape
from tars3d.nn.encoding import encode_points, positional_encoding
from tars3d.nn.fields import Field
from tars3d.nn.tangents import encode_stack, linear_layers, linear_stack, mlp_stack, trunk_stack


class ObjectDerivatives(NamedTuple):
    """One object's sdf, its gradient, the displacement's Jacobian (rows are components) and the sdf's correction."""

    sdf: Float[Tensor, "points"]
    gradient: Float[Tensor, "points 3"]
    jacobian: Float[Tensor, "points 3 3"] | None
    correction: Float[Tensor, "points"] | None


def object_derivatives(shape: DeformedShape | ObjectSpaceShape, points: Float[Tensor, "points 3"]) -> ObjectDerivatives:
    """Derivatives of a shape (a batch of one) at points, with a graph to train through once."""
    points = points.detach()
    if isinstance(shape, ObjectSpaceShape):
        return ObjectDerivatives(*_field_gradient(shape.generator, points, None)[:2], None, None)
    directions = torch.eye(3).to(points)[:, None].expand(3, len(points), 3)
    position = torch.cat([points[None], directions])
    template, heads = shape.template, shape.deformation.heads
    trunk = trunk_stack(shape.deformation.trunk, _encode(position, template))
    names = [name for name in ("deformation", "features", "correction") if name in heads]
    sizes = [heads[name].shape[-1] for name in names]
    outputs = linear_stack(torch.cat([heads[name][0] for name in names], dim=-1), trunk)
    found = dict(zip(names, outputs.split(sizes, dim=-1), strict=True))

    replaced = shape.replace is not None and bool(shape.replace.all())
    features = None if replaced or template.unconditioned is None else found.get("features")
    moved = position + found["deformation"]
    sdf, along_position, along_features = _field_gradient(
        template, moved[0], None if features is None else features[0]
    )
    gradient = (moved[1:] * along_position).sum(-1)
    if features is not None and along_features is not None:
        gradient = gradient + (features[1:] * along_features).sum(-1)
    correction = None
    if "correction" in found:
        correction = found["correction"][0, :, 0]
        sdf, gradient = sdf + correction, gradient + found["correction"][1:, :, 0]
    return ObjectDerivatives(sdf, gradient.T, found["deformation"][1:].permute(1, 2, 0), correction)


def _encode(stack: Float[Tensor, "slices points 3"], template: CanonicalField) -> Tensor:
    return torch.cat([encode_stack(stack, template.octaves, template.octave_weights), stack], dim=-1)


def _field_gradient(
    field: CanonicalField, points: Float[Tensor, "points 3"], features: Float[Tensor, "points k"] | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """f at points [n, 3] and features [n, k] (None: u's): sdf [n] and its gradient along both, [n, 3] and [n, k]."""
    own = [] if field.unconditioned is None else [part for pair in linear_layers(field.unconditioned) for part in pair]

    def rebuilt(tensors: tuple[Tensor, ...]) -> tuple[Field, list[tuple[Tensor, Tensor]]]:
        depth = len(field.field.trunk)
        small = tensors[depth + 1 :]
        return (
            Field(tensors[:depth], {"level": tensors[depth]}),
            list(zip(small[::2], small[1::2], strict=True)),
        )

    def value(points: Tensor, features: Tensor | None, tensors: tuple[Tensor, ...]) -> Tensor:
        made, small = rebuilt(tensors)
        encoded = encode_points(points, field.octaves, field.octave_weights)[None]
        if small and features is None:
            features = mlp_stack(small, encoded)[0]
        extra = None if features is None else positional_encoding(features, field.feature_octaves)[None]
        return made.head("level", made.features(encoded, extra))[0, :, 0]

    def stacked(points: Tensor, features: Tensor | None, tensors: tuple[Tensor, ...]) -> Tensor:
        made, small = rebuilt(tensors)
        encoded = _encode(points, field)
        if small and features is None:
            features = mlp_stack(small, encoded)
        extra = None if features is None else encode_stack(features, field.feature_octaves)
        return linear_stack(made.heads["level"][0], trunk_stack(made.trunk, encoded, extra))[..., 0]

    return _FieldGradient.apply(value, stacked, points, features, *field.field.trunk, field.field.heads["level"], *own)


class _FieldGradient(Function):
    """A scalar field and its gradient by reverse mode; backward is one tangent along the gradient that arrives."""

    @staticmethod
    def forward(ctx, value: Callable, stacked: Callable, points: Tensor, features: Tensor | None, *tensors: Tensor):
        ctx.stacked = stacked
        ctx.save_for_backward(points, features, *tensors)
        with torch.enable_grad():
            inputs = [points.detach().requires_grad_(True)]
            if features is not None:
                inputs.append(features.detach().requires_grad_(True))
            sdf = value(inputs[0], inputs[1] if features is not None else None, tuple(t.detach() for t in tensors))
            gradients = torch.autograd.grad(sdf.sum(), inputs)
        return sdf.detach(), gradients[0], gradients[1] if features is not None else None

    @staticmethod
    @once_differentiable
    def backward(ctx, to_sdf: Tensor, to_gradient: Tensor, to_feature_gradient: Tensor | None):
        points, features, *tensors = ctx.saved_tensors
        needs = ctx.needs_input_grad[2:]
        with torch.enable_grad():
            leaves = [
                None if leaf is None else leaf.detach().requires_grad_(needed)
                for leaf, needed in zip([points, features, *tensors], needs, strict=True)
            ]
            pair = None
            if leaves[1] is not None:
                direction = torch.zeros_like(leaves[1]) if to_feature_gradient is None else to_feature_gradient
                pair = torch.stack([leaves[1], direction])
            found = ctx.stacked(torch.stack([leaves[0], to_gradient]), pair, tuple(leaves[2:]))
            loss = (found[0] * to_sdf).sum() + found[1].sum()
            wanted = [leaf for leaf in leaves if leaf is not None and leaf.requires_grad]
            gradients = iter(torch.autograd.grad(loss, wanted, allow_unused=True))
        back = [next(gradients) if leaf is not None and leaf.requires_grad else None for leaf in leaves]
        return None, None, *back
