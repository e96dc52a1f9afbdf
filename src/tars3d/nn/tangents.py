"""Values and spatial derivatives of one coordinate network in one pass: numbers that carry their tangents along.

A stack [1 + K, n, d] holds the values of n points first, then their derivatives along K directions. Linear layers act on all
slices alike (the bias on the values only), and LayerNorm with ReLU has a closed form. `training.derivatives` builds on it, because
it needs first-order graphs only where double backward through autograd needs second-order ones.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from tars3d.nn.encoding import frequencies
from tars3d.nn.norm_relu import norm_backward, normalised


def encode_stack(
    stack: Float[Tensor, "slices points dims"], octaves: int, octave_weights: Float[Tensor, "octaves"] | None = None
) -> Float[Tensor, "slices points encoded"]:
    """γ of a stack; same order of columns as `encoding.positional_encoding`."""
    rates = frequencies(octaves, stack)
    scale = torch.ones_like(rates) if octave_weights is None else octave_weights.to(rates)
    angles = stack[0][..., None] * rates
    sines, cosines = angles.sin() * scale, angles.cos() * scale
    slope = stack[1:, ..., None] * rates
    moved = torch.stack([cosines * slope, -sines * slope], dim=-2)
    return torch.cat([torch.stack([sines, cosines], dim=-2)[None], moved]).flatten(start_dim=-3)


def with_bias_column(stack: Float[Tensor, "slices points dims"]) -> Float[Tensor, "slices points columns"]:
    """A column in front that is 1 for values and 0 for tangents: it meets row 0 of a layer, its bias."""
    column = torch.zeros_like(stack[..., :1])
    column[0] = 1
    return torch.cat([column, stack], dim=-1)


def trunk_stack(
    trunk: Sequence[Float[Tensor, "1 _rows width"]],
    encoded: Float[Tensor, "slices points encoded"],
) -> Float[Tensor, "slices points width"]:
    """`Field.features` of one network on stacks; `encoded` is E(x), seen by every layer."""
    seen = with_bias_column(encoded)
    width = trunk[0].shape[-1]
    hidden = _Layer.apply(None, seen, None, trunk[0][0])
    for layer in trunk[1:]:
        weight, skip = layer[0, 1 : 1 + width], torch.cat([layer[0, :1], layer[0, 1 + width :]])
        hidden = _Layer.apply(hidden, seen, weight, skip)
    return hidden


def linear_stack(
    layer: Float[Tensor, "rows outputs"], stack: Float[Tensor, "slices points dims"]
) -> Float[Tensor, "slices points outputs"]:
    """A layer (row 0 is the bias) without norm and activation."""
    moved = stack[1:] @ layer[1:]
    return torch.cat([torch.addmm(layer[0], stack[0], layer[1:])[None], moved])


class _Layer(Function):
    """relu(LayerNorm(hidden W + encoded V)) on a stack, with one buffer for the sum and no graph inside.

    The Jacobian of LayerNorm, J a = r (a - mean a - n mean(n a)) with n the normed values and r = 1/σ, is symmetric: the same
    kernel (LayerNorm's backward) carries tangents forward and gradients back. Of a tangent's image the values' gradient is
    -r (B J a + A J b + C n), where A = mean(n a), B = mean(n b), C = mean(b J a) and b is the gradient that arrives.
    """

    @staticmethod
    def forward(ctx, hidden: Tensor | None, encoded: Tensor, weight: Tensor | None, skip: Tensor) -> Tensor:
        width = skip.shape[-1]
        flat = encoded.flatten(0, 1) @ skip
        if hidden is not None and weight is not None:
            flat.addmm_(hidden.flatten(0, 1), weight)
        mixed = flat.view(*encoded.shape[:-1], width)
        normed, mean, scale = normalised(mixed[0])
        out, moved = torch.empty_like(mixed), torch.empty_like(mixed[1:])
        torch.clamp_min(normed, 0, out=out[0])
        for k, tangent in enumerate(mixed[1:]):
            moved[k] = norm_backward(tangent, mixed[0], mean, scale)
            out[k + 1] = torch.ops.aten.threshold_backward(moved[k], normed, 0)
        ctx.save_for_backward(hidden, encoded, weight, skip, mixed, normed, mean, scale, moved)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, arriving: Tensor):
        hidden, encoded, weight, skip, mixed, normed, mean, scale, moved = ctx.saved_tensors
        back = torch.empty_like(mixed)
        first = norm_backward(torch.ops.aten.threshold_backward(arriving[0], normed, 0), mixed[0], mean, scale)
        along_normed = None
        for k in range(len(moved)):
            gradient = torch.ops.aten.threshold_backward(arriving[k + 1], normed, 0)
            back[k + 1] = norm_backward(gradient, mixed[0], mean, scale)
            a = (normed * mixed[k + 1]).mean(-1, keepdim=True) * scale
            b = (normed * gradient).mean(-1, keepdim=True) * scale
            c = (gradient * moved[k]).mean(-1, keepdim=True) * scale
            first.addcmul_(moved[k], b, value=-1).addcmul_(back[k + 1], a, value=-1)
            along_normed = c if along_normed is None else along_normed + c
        if along_normed is not None:
            first.addcmul_(normed, along_normed, value=-1)
        back[0] = first
        flat = back.flatten(0, 1)
        to_hidden = to_weight = to_encoded = to_skip = None
        if hidden is not None and ctx.needs_input_grad[0]:
            to_hidden = (flat @ weight.T).view_as(hidden)
        if ctx.needs_input_grad[1]:
            to_encoded = (flat @ skip.T).view_as(encoded)
        if hidden is not None and ctx.needs_input_grad[2]:
            to_weight = hidden.flatten(0, 1).T @ flat
        if ctx.needs_input_grad[3]:
            to_skip = encoded.flatten(0, 1).T @ flat
        return to_hidden, to_encoded, to_weight, to_skip
