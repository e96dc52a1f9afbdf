"""What all pictures of an object say together: points of space with their signed distance to its visual hull, and colours on it.

Built once, from masks and cameras alone, when training starts; each step then draws from it at no cost. Rays constrain a
field where they pass, these points constrain it everywhere. Called by `training.hull_store` and `data.pack`.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from tars3d.data.bank import PictureBank
from tars3d.data.category_hull import HALF_SIDE, CategoryHull
from tars3d.geometry.visual_hull import hull_level
from tars3d.seeding import Stream, torch_generator

Level = Callable[[Tensor], Tensor]
"""Points [points, 3] to their levels."""
CANDIDATES = 32_768  # in each of the two rounds of `_informative_points`
HULL_FORMAT = "tars3d-hulls-4"  # of stored samples: raised where levels come to mean something else
MOST_SAMPLES = 2 * CANDIDATES  # an object
NEARNESS = 0.02  # world units: points within this of the hull's surface are drawn most
PICTURES = 48  # of an object at most; more hardly change its hull
SOLID_FROM = 6  # pictures that an object needs for its hull to count as solid
THIN = 0.02  # world units: hulls whose inside is nowhere deeper than this around a point are thin there
AROUND = ((10, 0.04), (4, 0.02))  # how many places around a point are asked for that, and how far from it, world units
RAY_STEPS = 64  # between the two ends of the cube along a ray; a step is about a hull's resolution


@dataclass(frozen=True)
class HullBatch:
    """What a step draws of the hulls of its objects.

    Attributes:
        points: world units.
        level: signed distance to the hull at them, see `geometry.visual_hull.hull_level`.
        thin: from 0 to 1, how surely the hull is thin there: a leg, a slat, a panel; 0 outside it.
        solid: objects with pictures enough that the hull's inside stands for the object's.
        seen: points of the hull's surface that a picture sees, world units.
        rgb: their colours in that picture, in [-1, 1].
    """

    points: Float[Tensor, "batch points 3"]
    level: Float[Tensor, "batch points"]
    thin: Float[Tensor, "batch points"]
    solid: Bool[Tensor, "batch"]
    seen: Float[Tensor, "batch colored 3"]
    rgb: Float[Tensor, "batch colored 3"]


@dataclass(frozen=True)
class HullSamples:
    """Points around each object of a bank, most of them near its visual hull's surface. Attributes as in `HullBatch`."""

    points: Float[Tensor, "objects samples 3"]
    level: Float[Tensor, "objects samples"]
    thin: Float[Tensor, "objects samples"]
    solid: Bool[Tensor, "objects"]
    seen: Float[Tensor, "objects colored 3"]
    rgb: UInt8[Tensor, "objects colored 3"]

    def to(self, device: torch.device | str) -> "HullSamples":
        """The same samples on another device."""
        return HullSamples(*(getattr(self, field.name).to(device) for field in fields(self)))

    def draw(
        self, instance: Int[Tensor, "batch"], count: int, flipped: Bool[Tensor, "batch"], generator: torch.Generator
    ) -> HullBatch:
        """`count` points around each object, and a quarter as many with colours; `flipped` objects are mirrored at x = 0."""
        device, rows = self.points.device, instance[:, None]
        pick = torch.randint(self.points.shape[1], (len(instance), count), generator=generator).to(device)
        colored = torch.randint(self.seen.shape[1], (len(instance), count // 4), generator=generator).to(device)
        sign = torch.where(flipped.to(device), -1.0, 1.0)
        mirror = torch.stack([sign, torch.ones_like(sign), torch.ones_like(sign)], dim=-1)[:, None]
        return HullBatch(
            self.points[rows, pick].float() * mirror,
            self.level[rows, pick].float(),
            self.thin[rows, pick].float(),
            self.solid[instance],
            self.seen[rows, colored].float() * mirror,
            self.rgb[rows, colored].float() / 127.5 - 1.0,
        )


@torch.no_grad()
def hull_samples(
    bank: PictureBank,
    *,
    samples: int = 8192,
    colored: int = 512,
    category: CategoryHull | None = None,
    seed: int = 0,
    track: Callable[[Sequence[Tensor]], Iterable[Tensor]] = iter,
) -> HullSamples:
    """Sample the visual hulls of a bank's objects.

    Args:
        samples: points an object, `MOST_SAMPLES` at most.
        colored: points an object that have a colour besides.
        category: completes the hulls of objects with fewer pictures than `SOLID_FROM`, which then count as solid too.
        track: shows progress over the objects.

    Raises:
        UserError: a framed picture shows no object.
    """
    bank.check_foreground()
    order = torch.argsort(bank.instance, stable=True).split(torch.bincount(bank.instance).tolist())
    columns: tuple[list[Tensor], ...] = ([], [], [], [], [])
    for number, pictures in enumerate(track(order)):
        generator = torch_generator(seed, Stream.HULL, number)
        if len(pictures) > PICTURES:
            pictures = pictures[torch.randperm(len(pictures), generator=generator)[:PICTURES]]
        signed, cameras = bank.signed_distance(pictures), bank.cameras[pictures]
        if category is not None and len(pictures) < SOLID_FROM:
            level_of = partial(
                category.completed, signed=signed, cameras=cameras, guess=category.guess(signed, cameras)
            )
        else:
            level_of = partial(hull_level, signed=signed, cameras=cameras)
        chosen = _informative_points(level_of, samples, generator, signed.device).half()
        level = level_of(chosen.float())
        thin = thinness(level_of, chosen.float(), level, generator)
        seen, rgb = _seen_surface(level_of, bank, pictures, signed, colored, generator)
        for column, values in zip(columns, (chosen, level.half(), thin.half(), seen.half(), rgb), strict=True):
            column.append(values)
    points, level, thin, seen, rgb = (torch.stack(column) for column in columns)
    enough = [category is not None or len(pictures) >= SOLID_FROM for pictures in order]
    solid = torch.tensor(enough, device=bank.device)
    return HullSamples(points, level, thin, solid, seen, rgb)


def thinness(
    level_of: Level, points: Float[Tensor, "points 3"], level: Float[Tensor, "points"], generator: torch.Generator
) -> Float[Tensor, "points"]:
    """From 0 to 1, how surely a hull is thin at points inside it: none of the places around them lies deeper than `THIN`. Outside 0.

    Args:
        level: at the points themselves.
    """
    inside = level < 0
    places, deepest = points[inside], level[inside]
    count = sum(number for number, _ in AROUND)
    away = F.normalize(torch.randn(count, 3, generator=generator), dim=1).to(points.device)
    away *= torch.cat([torch.full((number, 1), reach) for number, reach in AROUND]).to(points.device)
    for offset in away:
        deepest = torch.minimum(deepest, level_of(places + offset))
    thin = torch.zeros_like(level)
    thin[inside] = torch.sigmoid((deepest + THIN) / (THIN / 5))
    return thin


def _seen_surface(
    level_of: Level,
    bank: PictureBank,
    pictures: Int[Tensor, "views"],
    signed: Float[Tensor, "views size size"],
    count: int,
    generator: torch.Generator,
) -> tuple[Float[Tensor, "count 3"], UInt8[Tensor, "count 3"]]:
    """Where rays through random object pixels first meet the hull, and the pixels' colours.

    The object's own surface may lie behind, but on the same ray: a colour field without high frequencies learns its colours
    from the hull's surface as well.
    """
    device, size, cameras = signed.device, bank.size, bank.cameras[pictures]
    each = -(-count // len(pictures))
    odds = torch.where(signed < -1.0, 1.0, 1e-4 * (signed < 0))  # the pixels of the edge mix with the background
    pixel = torch.multinomial(odds.flatten(1).cpu(), each, replacement=True, generator=generator).to(device)
    position = torch.stack([pixel % size, pixel // size], dim=-1).float() + 0.5
    origins, directions = cameras.rays(position)
    reach = math.sqrt(3) * HALF_SIDE
    offset = torch.linspace(-reach, reach, RAY_STEPS, device=device)
    depth = cameras.object_depth[:, None, None] + offset
    points = origins[:, :, None] + depth[..., None] * directions[:, :, None]
    level = level_of(points.reshape(-1, 3)).view(depth.shape[0], -1, RAY_STEPS)
    level = torch.where(points.abs().amax(dim=-1) > HALF_SIDE, torch.inf, level)
    entered = level < reach / RAY_STEPS  # half a step: thin parts may lie between two points
    first = torch.where(entered.any(dim=-1), entered.int().argmax(dim=-1), level.argmin(dim=-1))
    surface = points.gather(2, first[..., None, None].expand(-1, -1, 1, 3))[:, :, 0]
    colors = bank.rgb[pictures].flatten(1, 2).gather(1, pixel[..., None].expand(-1, -1, 3))
    return surface.flatten(0, 1)[:count], colors.flatten(0, 1)[:count]


def _informative_points(
    level_of: Level, count: int, generator: torch.Generator, device: torch.device
) -> Float[Tensor, "count 3"]:
    """Half of them drawn from the whole cube, the other half around those, each time preferring points near the surface."""
    cube = HALF_SIDE * (2 * torch.rand(CANDIDATES, 3, generator=generator) - 1)
    first = _prefer_near(cube.to(device), level_of, count - count // 2, generator)
    turn = torch.randint(len(first), (CANDIDATES,), generator=generator).to(device)
    around = first[turn] + 0.03 * torch.randn(CANDIDATES, 3, generator=generator).to(device)
    second = _prefer_near(around.clamp(-HALF_SIDE, HALF_SIDE), level_of, count // 2, generator)
    return torch.cat([first, second])


def _prefer_near(
    points: Float[Tensor, "candidates 3"], level_of: Level, count: int, generator: torch.Generator
) -> Float[Tensor, "count 3"]:
    """A weighted draw without replacement (exponential race), weights falling with the distance to the surface."""
    weight = (level_of(points).abs() + NEARNESS) ** -1.5
    race = -torch.rand(len(points), generator=generator).clamp_min(1e-12).log().to(points.device) / weight
    return points[race.topk(count, largest=False).indices]
