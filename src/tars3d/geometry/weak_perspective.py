"""The weak-perspective camera nearest to a given one, and back: what CMR's camera prediction is compared with.

Called by `methods.cmr` and `training.mesh_stages`.
"""

import torch
from jaxtyping import Float
from scipy.spatial.transform import Rotation
from torch import Tensor

from tars3d.geometry.camera import Cameras

IN_FRONT = 2.0
"""Depth of the world's origin in orthographic cameras, world units."""


def weak_perspective(cameras: Cameras, size: int) -> Float[Tensor, "batch 7"]:
    """[s, tx, ty, q]: a world point X lies at s (R(q) X)_xy + t on the screen, which spans -1 to 1, x right and y down.

    A perspective camera is taken at the depth of the world's origin. q has its real part first; its sign means nothing.
    """
    origin = torch.zeros(len(cameras), 1, 3, dtype=cameras.extrinsics.dtype, device=cameras.extrinsics.device)
    shift = 2 * cameras.project(origin)[0][:, 0] / size - 1
    depth = torch.where(cameras.perspective, cameras.object_depth, torch.ones_like(cameras.object_depth))
    scale = 2 * cameras.focal / (size * depth)
    turns = Rotation.from_matrix(cameras.extrinsics[:, :, :3].double().cpu().numpy()).as_quat()
    quaternion = torch.from_numpy(turns[:, [3, 0, 1, 2]]).to(shift)
    return torch.cat([scale[:, None], shift, quaternion], dim=1)


def weak_cameras(values: Float[Tensor, "batch 7"], size: int) -> Cameras:
    """The inverse of `weak_perspective`: orthographic cameras of pictures `size` pixels wide. q has length 1.

    Their depth has no meaning; it puts the unit cube in front of them.
    """
    scale, shift = values[:, 0] * size / 2, (values[:, 1:3] + 1) * size / 2
    zero, one = torch.zeros_like(scale), torch.ones_like(scale)
    rows = [scale, zero, shift[:, 0], zero, scale, shift[:, 1], zero, zero, one]
    turns = Rotation.from_quat(values[:, [4, 5, 6, 3]].detach().double().cpu().numpy()).as_matrix()
    ahead = torch.stack([zero, zero, IN_FRONT * one], dim=-1)[..., None]
    extrinsics = torch.cat([torch.from_numpy(turns).to(values), ahead], dim=-1)
    orthographic = torch.zeros(len(values), dtype=torch.bool, device=values.device)
    return Cameras(torch.stack(rows, dim=-1).view(-1, 3, 3), extrinsics, orthographic)


def screen(
    cameras: Cameras, points: Float[Tensor, "batch points 3"], size: int
) -> tuple[Float[Tensor, "batch points 2"], Float[Tensor, "batch points"]]:
    """World points on the screen (-1 to 1 over the picture, y down), and their depth."""
    pixels, depth = cameras.project(points)
    return 2 * pixels / size - 1, depth
