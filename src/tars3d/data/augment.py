"""Colour augmentation of a batch: colours only; masks and cameras stay as they are.

Called by the stages of training. Strengths of the published jitter: docs/paper-vs-code.md, C11.
"""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from tars3d.data.ray_batches import RayBatch
from tars3d.nn.encoder import white_ground

LUMA = (0.299, 0.587, 0.114)


def jitter_colors(
    images: Float[Tensor, "batch 3 height width"],
    strength: tuple[float, float, float, float],
    generator: torch.Generator,
) -> Float[Tensor, "batch 3 height width"]:
    """Random brightness, contrast, saturation and hue per picture, in random order; pure white (the background) stays white.

    Args:
        images: in [-1, 1] on white.
        strength: brightness, contrast and saturation factors are uniform in 1 ± strength; the hue turns by ± strength
            of the colour circle (a rotation of the chroma plane, YIQ).
    """
    if not any(strength):
        return images
    brightness, contrast, saturation, hue = strength
    device = images.device
    background = white_ground(images)
    pictures = (images + 1) / 2

    def factor(width: float) -> Tensor:
        return (1 + width * (2 * torch.rand(len(images), 1, 1, 1, generator=generator) - 1)).to(device)

    luma = torch.tensor(LUMA, device=device)[:, None, None]
    for operation in torch.randperm(4, generator=generator).tolist():
        if operation == 0:
            pictures = pictures * factor(brightness)
        elif operation == 1:
            grey = (pictures * luma).sum(1, keepdim=True).mean(dim=(2, 3), keepdim=True)
            pictures = grey + (pictures - grey) * factor(contrast)
        elif operation == 2:
            grey = (pictures * luma).sum(1, keepdim=True)
            pictures = grey + (pictures - grey) * factor(saturation)
        else:
            pictures = _turn_hue(pictures, 2 * torch.pi * (factor(hue) - 1))
        pictures = pictures.clamp(0, 1)
    return torch.where(background, images, pictures * 2 - 1)


def _turn_hue(
    pictures: Float[Tensor, "batch 3 height width"], angle: Float[Tensor, "batch 1 1 1"]
) -> Float[Tensor, "batch 3 height width"]:
    turn = _chroma_turn(angle.flatten(), torch.ones_like(angle.flatten()))
    return torch.einsum("bij,bjhw->bihw", turn.to(pictures), pictures)


def _chroma_turn(angle: Float[Tensor, "batch"], saturation: Float[Tensor, "batch"]) -> Float[Tensor, "batch 3 3"]:
    """Matrices that turn and scale the chroma plane of RGB colours (YIQ) and keep their luma."""
    to_yiq = torch.tensor([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]]).to(angle)
    cos, sin = saturation * angle.cos(), saturation * angle.sin()
    zero, one = torch.zeros_like(cos), torch.ones_like(cos)
    turn = torch.stack([one, zero, zero, zero, cos, -sin, zero, sin, cos], dim=-1).view(-1, 3, 3)
    return torch.linalg.inv_ex(to_yiq).inverse @ turn @ to_yiq


def recolored(batch: RayBatch, strength: tuple[float, float, float], generator: torch.Generator) -> RayBatch:
    """A batch whose objects have other colours, in the pictures and in what supervises them alike; the white background stays.

    Few objects have many pictures: without this an encoder knows the object by its colours, and its shape by heart.

    Args:
        strength: brightness and saturation factors are uniform in 1 ± strength, and the hue turns by ± strength of the colour
            circle; one draw a code.
    """
    if not any(strength):
        return batch
    count = len(batch.images)
    brightness, saturation, hue = (
        width * (2 * torch.rand(count, generator=generator) - 1).to(batch.images.device) for width in strength
    )
    matrix = (1 + brightness)[:, None, None] * _chroma_turn(2 * torch.pi * hue, 1 + saturation)

    def turned(colors: Float[Tensor, "batch points 3"]) -> Float[Tensor, "batch points 3"]:
        return (((colors + 1) / 2) @ matrix.transpose(1, 2)).clamp(0, 1) * 2 - 1

    background = white_ground(batch.images)
    pictures = turned(batch.images.flatten(2).transpose(1, 2)).transpose(1, 2).view_as(batch.images)
    hull = None if batch.hull is None else replace(batch.hull, rgb=turned(batch.hull.rgb))
    rgb = torch.where(batch.foreground[..., None], turned(batch.rgb), batch.rgb)
    return replace(batch, images=torch.where(background, batch.images, pictures), rgb=rgb, hull=hull)
