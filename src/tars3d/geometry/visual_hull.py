"""What silhouettes, seen from known cameras, say of space: how far off the object must be, and its visual hull.

`data.hull` and `data.category_hull` sample the hull, `training.step` bounds the sdf along rays.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from tars3d.geometry.camera import Cameras


def silhouette_bound(
    plane: Float[Tensor, "batch rays 2"],
    distance: Float[Tensor, "batch rays"],
    depths: Float[Tensor, "batch rays samples"],
    perspective: Bool[Tensor, "batch rays"],
) -> Float[Tensor, "batch rays samples"]:
    """Lower bound of the true sdf at depths along background rays, from the silhouette's distance transform.

    No surface projects closer than `distance` to the pixel. In an orthographic camera that distance is the bound; in a
    perspective one it is the distance, at each depth, to the ray pushed outwards from the principal axis by that much
    (paper §3.4, after SDF-SRN; docs/paper-vs-code.md, C5).

    Args:
        plane: the pixel on the camera's plane, (x/z, y/z) or (x, y).
        distance: to the silhouette, in units of that plane.
        depths: along the camera's z axis, world units.
        perspective: which camera model each ray has.
    """
    ray = torch.cat([plane, torch.ones_like(plane[..., :1])], dim=-1)
    outward = plane / plane.norm(dim=-1, keepdim=True).clamp_min(1e-12)
    pushed = torch.cat([plane + distance[..., None] * outward, torch.ones_like(plane[..., :1])], dim=-1)
    along = (ray * pushed).sum(-1, keepdim=True) / pushed.square().sum(-1, keepdim=True)
    per_depth = (ray - along * pushed).norm(dim=-1)
    return torch.where(perspective[..., None], depths * per_depth[..., None], distance[..., None].expand_as(depths))


def hull_level(
    points: Float[Tensor, "points 3"], signed: Float[Tensor, "views size size"], cameras: Cameras
) -> Float[Tensor, "points"]:
    """Signed distance to the visual hull, up to the pictures' resolution; negative inside; world units.

    Inside, the hull's depth is the smallest distance to any silhouette's cone; outside, the largest such distance is a
    lower bound of the distance to the hull. As the object lies in its hull, the level is a lower bound of the object's
    own signed distance everywhere.

    Args:
        signed: distance to the silhouette's edge, pixels, negative on the object. Masks are binary
            (docs/paper-vs-code.md, Q13).
    """
    size = signed.shape[-1]
    u, v, depth = cameras.project_shared(points)
    inside_u, inside_v = (pixel.clamp(0.5, size - 0.5) for pixel in (u, v))
    beyond = torch.hypot(u - inside_u, v - inside_v)
    where = torch.stack([inside_u, inside_v], dim=-1)[:, None].mul_(2 / size).sub_(1)
    found = F.grid_sample(signed[:, None], where, padding_mode="border", align_corners=False)[:, 0, 0]
    away = torch.where(beyond > 0, torch.maximum(found - beyond, beyond), found)  # as far as from the picture, at least
    # Where a pixel is no square, each side of the edge is led by the focal that errs towards it.
    away = away / torch.where(away > 0, cameras.largest_focal[:, None], cameras.smallest_focal[:, None])
    perspective = cameras.perspective[:, None].expand_as(away)
    plane = cameras.image_plane(torch.stack([u, v], dim=-1))
    # A cone slants away from its axis: across the axis it is farther than it is.
    outside = silhouette_bound(plane, away.clamp_min(0), depth[..., None], perspective)[..., 0]
    return torch.where(away > 0, outside, away * torch.where(perspective, depth, 1)).amax(dim=0)
