"""Muon: matrices move along their momentum made orthogonal, so that every direction of a layer is learned at one pace.

After Jordan et al., *Muon: An optimizer for hidden layers in neural networks* (2024). PyTorch's own class takes neither convolutions nor float32,
and a CPU is slow in bfloat16. Called by `trainer`, for stages whose `optimizer` is "muon".
"""

import math
from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn

QUINTIC = (3.4445, -4.7750, 2.0315)
"""Coefficients of x, x³ and x⁵ in Jordan's iteration: singular values end between 0.7 and 1.2."""
ROUNDS = 5
ADAMS_STEP = 0.2
"""Root mean square of Adam's usual steps in units of the learning rate: matrices take steps of that size, so both share a rate (Liu et al., 2025)."""


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised; convolutions count as matrices of a row for each output channel.

    Args:
        parameters: of two dimensions or more.
        learning_rate: as Adam's.
        momentum: share of the running mean that a step keeps.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], learning_rate: float, momentum: float = 0.95):
        super().__init__(parameters, {"lr": learning_rate, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure=None) -> None:
        """Move all parameters that have a gradient."""
        for group in self.param_groups:
            momentum = group["momentum"]
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["momentum"] = torch.zeros_like(parameter)
                mean = state["momentum"].lerp_(parameter.grad, 1 - momentum)
                ahead = parameter.grad.lerp(mean, momentum).flatten(1)
                rate = group["lr"] * ADAMS_STEP * math.sqrt(max(ahead.shape))
                parameter.add_(orthogonal(ahead).view_as(parameter), alpha=-rate)


def orthogonal(matrix: Float[Tensor, "rows columns"]) -> Float[Tensor, "rows columns"]:
    """About U Vᵀ of the matrix's singular value decomposition U S Vᵀ.

    All rounds work on the smaller of its two Gram matrices; the matrix itself is multiplied once.
    """
    wide = matrix.shape[0] <= matrix.shape[1]
    gram = matrix @ matrix.T if wide else matrix.T @ matrix
    scale = gram.trace().clamp_min(1e-30)  # the squared norm: no singular value is larger
    gram = gram / scale
    first, third, fifth = QUINTIC
    root = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    for _ in range(ROUNDS):
        factor = torch.addmm(gram, gram, gram, beta=third, alpha=fifth)
        factor.diagonal().add_(first)
        root, gram = factor @ root, factor @ gram @ factor
    root = root * scale.rsqrt()
    return root @ matrix if wide else matrix @ root
