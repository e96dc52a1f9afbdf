"""The camera of a framed picture as numbers that a network predicts: a rotation, and where the object stands in the picture.

`nn.camera_head` predicts them, `objectives.camera_loss` compares them, `methods.inference` makes cameras of them again.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from tars3d.geometry.camera import Cameras

ORTHOGRAPHIC = 0.05  # an inverse depth below this, 1 / world units, counts as none


def rotation_from_rows(first: Float[Tensor, "batch 3"], second: Float[Tensor, "batch 3"]) -> Float[Tensor, "batch 3 3"]:
    """The rotation whose first row has the direction of `first`, and whose second lies in the plane of both."""
    x = F.normalize(first, dim=-1)
    y = F.normalize(second - (x * second).sum(-1, keepdim=True) * x, dim=-1)
    return torch.stack([x, y, torch.linalg.cross(x, y)], dim=1)


def placement(cameras: Cameras, size: int) -> Float[Tensor, "batch 4"]:
    """Logarithm of the object's scale, its place, and its inverse depth.

    Scale is the width of the picture's share that a world unit at the origin takes; place is the origin's pixel, as a share of
    the picture from its middle (right, down); inverse depth is in 1 / world units, 0 in orthographic cameras.
    """
    origin, depth = cameras.project(torch.zeros(len(cameras), 1, 3, device=cameras.intrinsics.device))
    inverse = torch.where(cameras.perspective, 1 / depth[:, 0], torch.zeros_like(depth[:, 0]))
    scale = cameras.focal / size * torch.where(cameras.perspective, inverse, torch.ones_like(inverse))
    return torch.cat([scale.log()[:, None], origin[:, 0] / size - 0.5, inverse[:, None]], dim=-1)


def mean_over_mirror_images(
    picture: tuple[Float[Tensor, "batch 3 3"], Float[Tensor, "batch 4"]],
    mirrored: tuple[Float[Tensor, "batch 3 3"], Float[Tensor, "batch 4"]],
) -> tuple[Float[Tensor, "batch 3 3"], Float[Tensor, "batch 4"]]:
    """Rotations and placements of pictures, in the mean of two answers: that for the picture, and that for its left-right mirror image,
    taken back to the picture. Objects mirror at x = 0. Where the two are turned by more than 90 degrees, their mean is like neither, and the
    picture's own answer stays."""
    flip = picture[0].new_tensor([-1.0, 1.0, 1.0])
    turned = flip[:, None] * mirrored[0] * flip
    mean = (picture[0] + turned) / 2
    place = (picture[1] + mirrored[1] * mirrored[1].new_tensor([1.0, -1.0, 1.0, 1.0])) / 2
    alike = (picture[0] * turned).sum(dim=(1, 2)) > 1  # the trace of the turn between them: 1 + 2 cos
    rotation = torch.where(alike[:, None, None], mean, picture[0])
    return rotation_from_rows(rotation[:, 0], rotation[:, 1]), torch.where(alike[:, None], place, picture[1])


def placed_cameras(rotation: Float[Tensor, "batch 3 3"], place: Float[Tensor, "batch 4"], size: int) -> Cameras:
    """The inverse of `placement`, for cameras whose optical axes pass through the world's origin."""
    perspective = place[:, 3] > ORTHOGRAPHIC
    depth = 1 / place[:, 3].clamp_min(ORTHOGRAPHIC)
    focal = place[:, 0].exp() * size * torch.where(perspective, depth, torch.ones_like(depth))
    centre = (place[:, 1:3] + 0.5) * size
    zero, one = torch.zeros_like(focal), torch.ones_like(focal)
    intrinsics = torch.stack([focal, zero, centre[:, 0], zero, focal, centre[:, 1], zero, zero, one], dim=-1)
    translation = torch.stack([zero, zero, depth], dim=-1)
    return Cameras(intrinsics.view(-1, 3, 3), torch.cat([rotation, translation[..., None]], dim=-1), perspective)
