"""Pictures turned in their plane before the encoder sees them; called by `training.stages`. Shapes and their targets stay."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from tars3d.geometry.camera import Cameras


def turn_pictures(
    images: Float[Tensor, "batch 3 size size"],
    cameras: Cameras,
    degrees: float,
    padding: float,
    generator: torch.Generator,
) -> tuple[Float[Tensor, "batch 3 size size"], Cameras]:
    """Pictures turned by up to `degrees` either way and framed to their object again, with the cameras that take them.

    Objects lean in photos: the same shape is to be read from all of these pictures.

    Args:
        images: in [-1, 1] on white.
        cameras: with square pixels.
        padding: side of the frame over the longer side of the object's box.
    """
    if not degrees:
        return images, cameras
    size, device = images.shape[-1], images.device
    angle = (math.radians(degrees) * (2 * torch.rand(len(images), generator=generator) - 1)).to(device)
    turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], dim=-1).view(-1, 2, 2)
    centre = torch.arange(size, device=device) + 0.5
    pixels = torch.stack(torch.meshgrid(centre, centre, indexing="xy"), dim=-1).view(1, -1, 2)
    turned = pixels @ turn.transpose(1, 2)
    object_ = (images < 0.99).any(dim=1).flatten(1)[..., None]
    low = torch.where(object_, turned, torch.inf).amin(dim=1) - 0.5
    high = torch.where(object_, turned, -torch.inf).amax(dim=1) + 0.5
    seen = object_.any(dim=1)
    middle = torch.where(seen, (low + high) / 2, pixels.mean(dim=1) @ turn[0].T)
    side = torch.where(seen, high - low, torch.full_like(low, size / padding)).amax(dim=1)
    scale = size / (padding * side)
    # a turned picture's pixel p shows the old picture's pixel turn^T ((p - size / 2) / scale + middle)
    source = ((pixels - size / 2) / scale[:, None, None] + middle[:, None]) @ turn
    grid = (2 * source / size - 1).view(len(images), size, size, 2)
    framed = F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)

    intrinsics, extrinsics = cameras.intrinsics.clone(), cameras.extrinsics.clone()
    extrinsics[:, :2] = turn @ cameras.extrinsics[:, :2]
    intrinsics[:, :2, :2] *= scale[:, None, None]
    old = (turn @ cameras.intrinsics[:, :2, 2:])[..., 0]
    intrinsics[:, :2, 2] = scale[:, None] * (old - middle) + size / 2
    return framed, Cameras(intrinsics, extrinsics, cameras.perspective)
