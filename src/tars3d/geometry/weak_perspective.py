"""The weak-perspective camera that lies nearest to a given one: what CMR's camera prediction is compared with (FACTS §4)."""

import torch
from jaxtyping import Float
from scipy.spatial.transform import Rotation
from torch import Tensor

from tars3d.geometry.camera import Cameras


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


def screen(
    cameras: Cameras, points: Float[Tensor, "batch points 3"], size: int
) -> tuple[Float[Tensor, "batch points 2"], Float[Tensor, "batch points"]]:
    """World points on the screen (-1 to 1 over the picture, y down), and their depth."""
    pixels, depth = cameras.project(points)
    return 2 * pixels / size - 1, depth
