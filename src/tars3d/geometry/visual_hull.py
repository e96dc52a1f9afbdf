"""The visual hull of an object: what its silhouettes, seen from known cameras, leave of space. `data.hull` and `data.category_hull` sample it."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from tars3d.geometry.camera import Cameras


def hull_level(
    points: Float[Tensor, "points 3"], signed: Float[Tensor, "views size size"], cameras: Cameras
) -> Float[Tensor, "points"]:
    """Signed distance to the visual hull, up to the pictures' resolution; negative inside; world units.

    Inside, the hull's depth is the smallest distance to any silhouette's cone; outside, the largest such distance is a
    lower bound of the distance to the hull. As the object lies in its hull, the level is a lower bound of the object's
    own signed distance everywhere.

    Args:
        signed: distance to the silhouette's edge, pixels, negative on the object (Q13's binary masks).
    """
    size = signed.shape[-1]
    u, v, depth = cameras.project_shared(points)
    inside_u, inside_v = (pixel.clamp(0.5, size - 0.5) for pixel in (u, v))
    beyond = torch.hypot(u - inside_u, v - inside_v)
    where = torch.stack([inside_u, inside_v], dim=-1)[:, None].mul_(2 / size).sub_(1)
    found = F.grid_sample(signed[:, None], where, padding_mode="border", align_corners=False)[:, 0, 0]
    away = torch.where(beyond > 0, torch.maximum(found - beyond, beyond), found)  # as far as from the picture, at least
    reach = torch.where(cameras.perspective[:, None], depth, 1) / cameras.largest_focal[:, None]
    return (away * reach).amax(dim=0)
