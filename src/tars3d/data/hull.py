"""What all silhouettes of an object say together: points of space with their signed distance to the object's visual hull.

Built once, from masks and cameras alone, when training starts; each step then draws from it at no cost. Rays constrain a
field where they pass, these points constrain it everywhere. Called by `training.trainer`.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tars3d.data.bank import PictureBank
from tars3d.geometry.camera import Cameras

CANDIDATES = 32_768  # in each of the two rounds of `_informative_points`
NEARNESS = 0.02  # world units: points within this of the hull's surface are drawn most
PICTURES = 48  # of an object at most; more hardly change its hull


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
    pixels, depth = cameras.project(points.expand(len(signed), -1, -1))
    inside = pixels.clamp(0.5, size - 0.5)
    beyond = (pixels - inside).norm(dim=-1)
    where = (2 * inside / size - 1)[:, None]
    found = F.grid_sample(signed[:, None], where, padding_mode="border", align_corners=False)[:, 0, 0]
    away = torch.where(beyond > 0, torch.maximum(found - beyond, beyond), found)  # as far as from the picture, at least
    reach = torch.where(cameras.perspective[:, None], depth, torch.ones_like(depth))
    return (away * reach / cameras.largest_focal[:, None]).amax(dim=0)


@dataclass(frozen=True)
class HullBatch:
    """What a step draws of the hulls of its objects.

    Attributes:
        points: world units.
        level: signed distance to the hull at them, see `hull_level`.
        solid: objects with pictures enough that the hull's inside stands for the object's.
    """

    points: Float[Tensor, "batch points 3"]
    level: Float[Tensor, "batch points"]
    solid: Bool[Tensor, "batch"]


@dataclass(frozen=True)
class HullSamples:
    """Points around each object of a bank, most of them near its visual hull's surface. Attributes as in `HullBatch`."""

    points: Float[Tensor, "objects samples 3"]
    level: Float[Tensor, "objects samples"]
    solid: Bool[Tensor, "objects"]

    def draw(
        self, instance: Int[Tensor, "batch"], count: int, flipped: Bool[Tensor, "batch"], generator: torch.Generator
    ) -> HullBatch:
        """`count` points around each object; `flipped` objects are mirrored at x = 0."""
        pick = torch.randint(self.points.shape[1], (len(instance), count), generator=generator).to(self.points.device)
        points = self.points[instance[:, None], pick].float()
        sign = torch.where(flipped.to(points.device), -1.0, 1.0)
        mirror = torch.stack([sign, torch.ones_like(sign), torch.ones_like(sign)], dim=-1)
        level = self.level[instance[:, None], pick].float()
        return HullBatch(points * mirror[:, None], level, self.solid[instance])


@torch.no_grad()
def hull_samples(
    bank: PictureBank, *, samples: int = 8192, half_side: float = 0.6, solid_from: int = 6, seed: int = 0
) -> HullSamples:
    """Sample the visual hulls of a bank's objects.

    Args:
        samples: points an object.
        half_side: of the cube in which they lie, world units.
        solid_from: pictures that an object needs for its hull to count as solid.
    """
    order = torch.argsort(bank.instance, stable=True).split(torch.bincount(bank.instance).tolist())
    points, level = [], []
    for number, pictures in enumerate(order):
        generator = torch.Generator().manual_seed(hash((seed, 4, number)) & 0x7FFFFFFF)
        if len(pictures) > PICTURES:
            pictures = pictures[torch.randperm(len(pictures), generator=generator)[:PICTURES]]
        signed = torch.where(bank.mask[pictures], -1.0, 1.0) * bank.distance[pictures].float()
        cameras = bank.cameras[pictures]
        chosen = _informative_points(signed, cameras, samples, half_side, generator).half()
        points.append(chosen)
        level.append(hull_level(chosen.float(), signed, cameras).half())
    solid = torch.tensor([len(pictures) >= solid_from for pictures in order], device=bank.rgb.device)
    return HullSamples(torch.stack(points), torch.stack(level), solid)


def _informative_points(
    signed: Float[Tensor, "views size size"],
    cameras: Cameras,
    count: int,
    half_side: float,
    generator: torch.Generator,
) -> Float[Tensor, "count 3"]:
    """Half of them drawn from the whole cube, the other half around those, each time preferring points near the surface."""
    device = signed.device
    cube = half_side * (2 * torch.rand(CANDIDATES, 3, generator=generator) - 1)
    first = _prefer_near(cube.to(device), signed, cameras, count - count // 2, generator)
    turn = torch.randint(len(first), (CANDIDATES,), generator=generator).to(device)
    around = first[turn] + 0.03 * torch.randn(CANDIDATES, 3, generator=generator).to(device)
    second = _prefer_near(around.clamp(-half_side, half_side), signed, cameras, count // 2, generator)
    return torch.cat([first, second])


def _prefer_near(
    points: Float[Tensor, "candidates 3"],
    signed: Float[Tensor, "views size size"],
    cameras: Cameras,
    count: int,
    generator: torch.Generator,
) -> Float[Tensor, "count 3"]:
    """A weighted draw without replacement (exponential race), weights falling with the distance to the surface."""
    weight = (hull_level(points, signed, cameras).abs() + NEARNESS) ** -1.5
    race = -torch.rand(len(points), generator=generator).clamp_min(1e-12).log().to(points.device) / weight
    return points[race.topk(count, largest=False).indices]
