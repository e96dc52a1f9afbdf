"""Positional encoding of points and point features (paper §A.2; docs/paper-vs-code.md, C1).

Optional weights fade octaves in during training. Called by `methods.tars`; `nn.tangents` is the same with derivatives.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor


def frequencies(octaves: int, like: Tensor) -> Float[Tensor, "octaves"]:
    """2^l π for l = 0 .. octaves-1, of the type and on the device of `like`."""
    return math.pi * 2.0 ** torch.arange(octaves, device=like.device, dtype=like.dtype)


def positional_encoding(
    values: Float[Tensor, "*batch dims"], octaves: int, octave_weights: Float[Tensor, "octaves"] | None = None
) -> Float[Tensor, "*batch encoded"]:
    """γ(v): per coordinate the sines, then the cosines, of 2^l π v for l = 0 .. octaves-1; the raw value is not inside.

    Args:
        octave_weights: multiplies each octave's sine and cosine; None means all ones (as published).

    Returns:
        2 · dims · octaves values, coordinate by coordinate.
    """
    angles = values[..., None] * frequencies(octaves, values)
    waves = torch.stack([angles.sin(), angles.cos()], dim=-2)
    if octave_weights is not None:
        waves = waves * octave_weights
    return waves.flatten(start_dim=-3)


def encode_points(
    points: Float[Tensor, "*batch 3"], octaves: int, octave_weights: Float[Tensor, "octaves"] | None = None
) -> Float[Tensor, "*batch encoded"]:
    """E(x) = [γ(x), x]: the encoding first, the raw coordinates last; 33 values at the published 5 octaves."""
    return torch.cat([positional_encoding(points, octaves, octave_weights), points], dim=-1)


def annealed_octaves(octaves: int, progress: float) -> Float[Tensor, "octaves"]:
    """Weights that switch octaves on one after the other while `progress` runs from 0 to 1.

    The first three octaves are always on; each later one rises along half a cosine, as in BARF (Lin et al., ICCV 2021, eq. 14).
    """
    position = 3.0 + progress * max(octaves - 3, 0)
    steps = (position - torch.arange(octaves, dtype=torch.float32)).clamp(0.0, 1.0)
    return (1.0 - torch.cos(math.pi * steps)) / 2.0
