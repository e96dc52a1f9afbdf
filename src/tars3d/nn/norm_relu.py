"""ReLU of LayerNorm without affine, the activation of every trunk, with first and second derivatives in closed form.

`fields` calls it. PyTorch's own LayerNorm takes three times as long forward on a CPU as its parts do, and its second derivative, which the
eikonal term of stage 1 trains through, is made of some thirty operations.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

EPSILON = 1e-5  # as published
Rows = Float[Tensor, "*rows width"]


def norm_relu(values: Rows) -> Rows:
    """relu((x - mean) / σ) along the last dimension, σ² = variance + 1e-5; can be differentiated twice."""
    return _NormRelu.apply(values)


def normalised(values: Rows) -> tuple[Rows, Float[Tensor, "*rows 1"], Float[Tensor, "*rows 1"]]:
    """(x - mean) / σ, the mean and 1 / σ, as `torch.native_layer_norm` gives them."""
    width = values.shape[-1]
    if values.device.type != "cpu":  # one kernel
        return torch.native_layer_norm(values, (width,), None, None, EPSILON)
    mean = values.mean(-1, keepdim=True)
    normed = values - mean
    scale = torch.linalg.vector_norm(normed, dim=-1, keepdim=True)
    scale = scale.square_().div_(width).add_(EPSILON).rsqrt_()
    return normed.mul_(scale), mean, scale


def norm_backward(gradient: Rows, values: Rows, mean: Tensor, scale: Tensor) -> Rows:
    """J a of LayerNorm at `values`: r (a - mean a - n mean(n a)), with n the normed values and r = 1/σ. J is symmetric."""
    return torch.ops.aten.native_layer_norm_backward(
        gradient, values, [values.shape[-1]], mean, scale, None, None, [True, False, False]
    )[0]


class _NormRelu(Function):
    @staticmethod
    def forward(ctx, values: Tensor) -> Tensor:
        out, mean, scale = normalised(values)
        out = out.clamp_min_(0)
        ctx.save_for_backward(values, out, mean, scale)
        return out

    @staticmethod
    def backward(ctx, arriving: Tensor) -> Tensor:
        return _NormReluBackward.apply(arriving, *ctx.saved_tensors)


class _NormReluBackward(Function):
    """b -> J b with b the gradient that arrives where ReLU lets it through.

    Of a gradient a that arrives for this, b receives J a; and x receives -r (B J a + A J b + C n), where A = mean(n a),
    B = mean(n b), C = mean(b J a).
    """

    @staticmethod
    def forward(ctx, arriving: Tensor, values: Tensor, out: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
        passed = torch.ops.aten.threshold_backward(arriving, out, 0)
        result = norm_backward(passed, values, mean, scale)
        ctx.save_for_backward(passed, values, out, mean, scale, result)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx, arriving: Tensor):
        passed, values, out, mean, scale, result = ctx.saved_tensors
        turned = norm_backward(arriving, values, mean, scale)
        normed = (values - mean).mul_(scale)
        along = (normed * passed).mean(-1, keepdim=True).mul_(scale)
        to_values = (turned * -along).addcmul_(result, (normed * arriving).mean(-1, keepdim=True).mul_(scale), value=-1)
        to_values.addcmul_(normed, (passed * turned).mean(-1, keepdim=True).mul_(scale), value=-1)
        return torch.ops.aten.threshold_backward(turned, out, 0), to_values, None, None, None
