"""Colour jitter of a batch of pictures (FACTS §1.5): colours only; masks and cameras stay as they are."""

import torch
from jaxtyping import Float
from torch import Tensor

LUMA = (0.299, 0.587, 0.114)


def jitter_colors(
    images: Float[Tensor, "batch 3 height width"],
    strength: tuple[float, float, float, float],
    generator: torch.Generator,
) -> Float[Tensor, "batch 3 height width"]:
    """Random brightness, contrast, saturation and hue per picture, in random order; pure white (the ground) stays white.

    Args:
        images: in [-1, 1] on white.
        strength: brightness, contrast and saturation factors are uniform in 1 ± strength; the hue turns by ± strength
            of the colour circle (a rotation of the chroma plane, YIQ).
    """
    if not any(strength):
        return images
    brightness, contrast, saturation, hue = strength
    device = images.device
    ground = (images > 0.999).all(dim=1, keepdim=True)
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
    return torch.where(ground, images, pictures * 2 - 1)


def _turn_hue(
    pictures: Float[Tensor, "batch 3 height width"], angle: Float[Tensor, "batch 1 1 1"]
) -> Float[Tensor, "batch 3 height width"]:
    to_yiq = torch.tensor([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]]).to(pictures)
    y, i, q = torch.einsum("ij,bjhw->ibhw", to_yiq, pictures)
    cos, sin = angle.cos()[:, 0], angle.sin()[:, 0]
    turned = torch.stack([y, cos * i - sin * q, sin * i + cos * q], dim=1)
    return torch.einsum("ij,bjhw->bihw", torch.linalg.inv(to_yiq), turned)
