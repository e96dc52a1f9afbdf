"""The visual hull of a category: what the pictures of all its objects say together, for objects that have one picture each.

One silhouette bounds its object across the line of sight and says nothing along it. Pictures of other objects from other sides
do: roughly, but for all. Called by `data.hull`; takes a category whose objects stand in one frame and are symmetric at x = 0.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from tars3d.data.bank import PictureBank
from tars3d.geometry.camera import Cameras, pixel_centres
from tars3d.geometry.visual_hull import hull_level

HALF_SIDE = 0.6
"""Of the cube in which hulls are carved and sampled, world units."""
SIDE = 48
"""Grid cells along each axis."""
DIRECTIONS = 8
"""Groups of viewing directions; in each, the median object counts."""
NEAR = 0.2
"""Distance of viewing directions (of length 1) below which they are no two groups."""
FEWEST = 4
"""Pictures of a group; smaller ones join the nearest: a single picture is no median."""
MOST = 256
"""Pictures of a group that take part, evenly chosen: more hardly move a median."""
CELLS = 64
"""Of the pictures that stand in for depth, along each axis."""
DEPTHS = 48
"""Points along a ray."""
SOFTNESS = 0.02
"""World units of level that a place along a ray may be worse than the best one and still count towards the middle."""
FACTORS = (0.8, 4.0)
"""Range of an object's thickness along the line of sight, in terms of what it is across."""


@dataclass(frozen=True)
class CategoryHull:
    """Level of the category's hull on a grid over the cube (indexed z, y, x): about the signed distance, negative inside, world units."""

    grid: Float[Tensor, "side side side"]

    def level(self, points: Float[Tensor, "points 3"]) -> Float[Tensor, "points"]:
        """Trilinear; beyond the cube that of its nearest point."""
        where = (points / HALF_SIDE).view(1, -1, 1, 1, 3)
        return F.grid_sample(self.grid[None, None], where, padding_mode="border", align_corners=True).flatten()

    def completed(
        self,
        points: Float[Tensor, "points 3"],
        signed: Float[Tensor, "views size size"],
        cameras: Cameras,
        guess: Float[Tensor, "views 3 cells cells"],
    ) -> Float[Tensor, "points"]:
        """Level of an object's own hull, cut by the category's and by roundness; its silhouettes stay what they are.

        Args:
            signed: as in `hull_level`.
            guess: of `guess`, for the same pictures.
        """
        u, v, depth = cameras.project_shared(points)
        slack, middle, half = _read(guess, torch.stack([u, v], dim=-1), signed.shape[-1]).unbind(1)
        along = torch.maximum(self.level(points) - slack, (depth - cameras.object_depth[:, None] - middle).abs() - half)
        return torch.maximum(hull_level(points, signed, cameras), along.amin(dim=0))

    def silhouette(self, cameras: Cameras, size: int) -> Float[Tensor, "views cells cells"]:
        """Least level on the rays through the cells of pictures `size` pixels wide: about the distance to the silhouette's edge,
        negative on it, world units."""
        least = self._along_rays(cameras, size)[0].amin(dim=-1)
        return least.clamp_max(2 * HALF_SIDE).view(-1, CELLS, CELLS)

    def _along_rays(
        self, cameras: Cameras, size: int
    ) -> tuple[Float[Tensor, "views rays depths"], Float[Tensor, "depths"]]:
        """Levels on the cells' rays, infinite outside the cube, and where along a ray they are, from the object's centre."""
        origins, directions = _rays(cameras, size)
        offset = torch.linspace(-1.7, 1.7, DEPTHS, device=origins.device) * HALF_SIDE
        depth = cameras.object_depth[:, None, None] + offset
        points = origins[:, :, None] + depth[..., None] * directions[:, :, None]
        level = self.level(points.view(-1, 3)).view(points.shape[:-1])
        return torch.where(points.abs().amax(dim=-1) > HALF_SIDE, torch.inf, level), offset

    def guess(self, signed: Float[Tensor, "views size size"], cameras: Cameras) -> Float[Tensor, "views 3 cells cells"]:
        """What stands in for depth in each pixel: by how much the category's hull must yield, so that every ray through the object keeps
        the place where the category most likely is; the depth of that place, from the object's centre; and how thick the object is
        about it, as thick as it is across (`roundness`), times what the category's thickness is of its own roundness there."""
        views = len(signed)
        own = _of_cells(signed, cameras)
        level, offset = self._along_rays(cameras, signed.shape[-1])
        least = level.amin(dim=-1)
        least = torch.where(least.isfinite(), least, torch.full_like(least, 2 * HALF_SIDE))
        middle = ((-(level - least[..., None]) / SOFTNESS).softmax(dim=-1) * offset).sum(dim=-1)
        slack = torch.where(own < 0, (least - own).clamp_min(0), torch.zeros_like(own))
        half = roundness(own.view(views, CELLS, CELLS), _cell(signed.shape[-1], cameras))
        category = roundness(least.view(views, CELLS, CELLS), _cell(signed.shape[-1], cameras)).flatten(1)
        thick = (level < 0).sum(dim=-1) * (offset[1] - offset[0]) / 2
        deep = (least < 0) & (category > category.amax(dim=1, keepdim=True) / 2)
        factor = (thick * deep).sum(dim=1) / (category * deep).sum(dim=1).clamp_min(1e-6)
        half = half.flatten(1) * factor.clamp(*FACTORS)[:, None]
        maps = torch.stack([slack, middle.nan_to_num(0.0), half], dim=1).view(views, 3, CELLS, CELLS)
        return torch.cat([F.max_pool2d(maps[:, :1], 3, 1, 1), F.avg_pool2d(maps[:, 1:2], 5, 1, 2), maps[:, 2:]], dim=1)


def roundness(
    level: Float[Tensor, "views cells cells"], cell: Float[Tensor, "views"]
) -> Float[Tensor, "views cells cells"]:
    """Half the thickness of the union of balls, each about a pixel and as large as fits into the silhouette: round where nothing is known.

    Args:
        level: signed distance to the silhouette's edge, negative inside, world units.
        cell: side of a cell, world units.
    """
    step = torch.arange(CELLS, device=level.device, dtype=level.dtype)
    apart = (step[:, None] - step).square() * cell[:, None, None] ** 2  # of rows, or of columns
    square = torch.where(level < 0, level.square(), torch.zeros_like(level))
    # max over q of d_q^2 - |p - q|^2, first along rows, then along columns
    along = (square[:, :, None, :] - apart[:, None]).amax(dim=-1)
    both = (along[:, None] - apart[:, :, :, None]).amax(dim=2)
    return torch.where(level < 0, both.clamp_min(0).sqrt(), torch.zeros_like(level))


def _cell(size: int, cameras: Cameras) -> Float[Tensor, "views"]:
    reach = torch.where(cameras.perspective, cameras.object_depth, torch.ones_like(cameras.object_depth))
    return reach / cameras.largest_focal * size / CELLS


def _of_cells(signed: Float[Tensor, "views size size"], cameras: Cameras) -> Float[Tensor, "views rays"]:
    """Distance of the cells' centres to the silhouette, world units."""
    size = signed.shape[-1]
    own = F.interpolate(signed[:, None], (CELLS, CELLS), mode="area").flatten(1)
    return own * (_cell(size, cameras) * CELLS / size)[:, None]


def _read(
    maps: Float[Tensor, "views channels cells cells"], pixels: Float[Tensor, "views points 2"], size: int
) -> Float[Tensor, "views channels points"]:
    """Maps of cells at pixels of pictures `size` pixels wide, bilinearly; beyond the border its value."""
    where = (2 * pixels / size - 1)[:, None]
    return F.grid_sample(maps, where, padding_mode="border", align_corners=False)[:, :, 0]


def _rays(cameras: Cameras, size: int) -> tuple[Float[Tensor, "views rays 3"], Float[Tensor, "views rays 3"]]:
    """Origins and directions of the rays through the cells' centres."""
    pixels = pixel_centres(CELLS, cameras.intrinsics.device) * size / CELLS
    return cameras.rays(pixels.view(1, -1, 2).expand(len(cameras), -1, 2))


@torch.no_grad()
def category_hull(bank: PictureBank) -> CategoryHull:
    """Carve the category: the median level in each group of viewing directions, and of these the largest.

    The groups keep a side that few pictures show from being outvoted by one that most show. In the largest group objects are
    taken to be as thick as they are across, about the plane of symmetry, as silhouettes from one side alone bound nothing along it.
    """
    step = torch.linspace(-HALF_SIDE, HALF_SIDE, SIDE, device=bank.device)
    z, y, x = torch.meshgrid(step, step, step, indexing="ij")
    points = torch.stack([x, y, z], dim=-1).view(-1, 3)
    group = direction_groups(bank.cameras)
    largest = torch.bincount(group).argmax()
    grid = torch.full((SIDE, SIDE, SIDE), -torch.inf, device=bank.device)
    for number in group.unique():
        levels = []
        members = torch.nonzero(group == number)[:, 0]
        for picture in members[:: -(-len(members) // MOST)].split(1):
            signed, cameras = bank.signed_distance(picture), bank.cameras[picture]
            level = hull_level(points, signed, cameras)
            if number == largest:
                half = roundness(_of_cells(signed, cameras).view(1, CELLS, CELLS), _cell(signed.shape[-1], cameras))
                pixels, _ = cameras.project(points[None])
                half = _read(half[:, None], pixels, bank.size).flatten()
                level = torch.maximum(level, points[:, 0].abs() - half)
            level = level.view(SIDE, SIDE, SIDE).half()
            levels += [level, level.flip(-1)]
        grid = torch.maximum(grid, torch.stack(levels).float().median(dim=0).values)
    return CategoryHull(grid)


def direction_groups(cameras: Cameras) -> Int[Tensor, "pictures"]:
    """Pictures by viewing direction: the nearest of a few that lie far apart. Opposite directions and mirrored ones are one, as their
    silhouettes (nearly) are."""
    forward = cameras.extrinsics[:, 2, :3]
    forward = torch.where(forward[:, 2:] < 0, -forward, forward)
    folded = torch.stack([forward[:, 0].abs(), forward[:, 1], forward[:, 2]], dim=-1)
    chosen = [0]
    for _ in range(min(DIRECTIONS, len(folded)) - 1):
        distance = torch.cdist(folded, folded[chosen]).amin(dim=1)
        if distance.max() < NEAR:
            break
        chosen.append(int(distance.argmax()))
    to_group = torch.cdist(folded, folded[chosen])
    small = torch.bincount(to_group.argmin(dim=1), minlength=len(chosen)) < min(FEWEST, len(folded))
    if not bool(small.all()):
        to_group[:, small] = torch.inf
    return to_group.argmin(dim=1)
