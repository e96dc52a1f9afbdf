"""Hulls of objects with one picture each, completed by what the category's other pictures show."""

import numpy as np
import torch
from torch import Tensor

from tars3d.data.bank import PictureBank
from tars3d.data.category_hull import CELLS, category_hull, direction_groups, roundness
from tars3d.data.hull import hull_samples
from tars3d.geometry.camera import Cameras, look_at_origin
from tars3d.geometry.distance_transform import distance_transform
from tars3d.geometry.visual_hull import hull_level

AXES, SIZE, SCALE = torch.tensor([0.15, 0.2, 0.42]), 64, 56.0


def eggs(azimuths: list[float], lengths: list[float] | None = None) -> PictureBank:
    """One orthographic picture each of eggs, longer than high and higher than wide, that differ in length."""
    count = len(azimuths)
    intrinsics = torch.tensor([[SCALE, 0, SIZE / 2], [0, SCALE, SIZE / 2], [0, 0, 1]]).expand(count, 3, 3)
    poses = torch.tensor(np.array([look_at_origin(azimuth, 5.0, 2.5) for azimuth in azimuths])).float()
    cameras = Cameras(intrinsics, poses, torch.zeros(count, dtype=torch.bool))
    rows, columns = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    pixels = (torch.stack([columns, rows], dim=-1) + 0.5).view(1, -1, 2).expand(count, -1, 2)
    origins, directions = cameras.rays(pixels)
    axes = AXES * torch.tensor([[1, 1, length] for length in lengths or [1.0] * count])[:, None]
    origins, directions = origins / axes, directions / axes
    along = (origins * directions).sum(-1) / directions.square().sum(-1)
    mask = ((origins - along[..., None] * directions).norm(dim=-1) < 1).view(count, SIZE, SIZE)
    return PictureBank(
        rgb=torch.full((count, SIZE, SIZE, 3), 90, dtype=torch.uint8),
        mask=mask,
        distance=torch.stack([torch.from_numpy(distance_transform(one.numpy())) for one in mask]),
        cameras=cameras,
        instance=torch.arange(count),
        instances=tuple(f"egg{number}" for number in range(count)),
        names=tuple(f"picture{number}" for number in range(count)),
    )


def silhouette(bank: PictureBank, number: int) -> tuple[Tensor, Cameras]:
    picture = torch.tensor([number])
    return torch.where(bank.mask[picture], -1.0, 1.0) * bank.distance[picture].float(), bank.cameras[picture]


def egg_iou(level: Tensor, points: Tensor) -> float:
    inside, true = level < 0, (points / AXES).norm(dim=-1) < 1
    return float((inside & true).sum() / (inside | true).sum())


def test_other_pictures_say_how_thick_an_object_is_that_has_one():
    bank = eggs([90, 84, 97, 270, 262, 278, 92, 60, 50, 40, 35, 140, 10, 5, 350, 20])
    category = category_hull(bank)
    points = 0.55 * (2 * torch.rand(20_000, 3, generator=torch.Generator().manual_seed(0)) - 1)
    for number in (0, 8, 12):  # from the side, between, from the front
        signed, cameras = silhouette(bank, number)
        alone = egg_iou(hull_level(points, signed, cameras), points)
        completed = egg_iou(category.completed(points, signed, cameras, category.guess(signed, cameras)), points)
        assert completed > max(0.6, alone + 0.15)


def test_a_categorys_hull_is_as_symmetric_as_its_objects_though_all_are_seen_from_one_side():
    grid = category_hull(eggs([30, 35, 50, 55, 60], lengths=[1.2, 0.8, 1, 1.1, 0.9])).grid
    assert torch.equal(grid, grid.flip(-1))


def test_a_completed_hull_keeps_its_silhouette():
    bank = eggs([90, 84, 97, 270, 262, 60, 50, 40, 10, 5], lengths=[1.3, 0.7, 1, 1, 0.8, 1.1, 1, 1, 1, 1])
    category = category_hull(bank)
    signed, cameras = silhouette(bank, 0)  # longer than the category
    rows, columns = torch.nonzero(torch.ones(SIZE, SIZE)).T
    origins, directions = cameras.rays((torch.stack([columns, rows], dim=-1) + 0.5)[None].float())
    depth = torch.linspace(1.8, 3.2, 141)
    points = (origins[0, :, None] + depth[:, None] * directions[0, :, None]).view(-1, 3)
    level = category.completed(points, signed, cameras, category.guess(signed, cameras))
    seen = (level.view(-1, len(depth)) < 0).any(dim=1).view(SIZE, SIZE)
    assert not bool((seen & ~bank.mask[0]).any())
    deep = bank.mask[0] & (bank.distance[0] > 1.5)
    assert bool(seen[deep].all())


def test_a_ball_is_as_thick_as_it_is_across():
    step = (torch.arange(CELLS) + 0.5) / CELLS - 0.5
    away = (step[:, None].square() + step.square()).sqrt()
    half = roundness((away - 0.3)[None], torch.tensor([1 / CELLS]))[0]
    true = (0.09 - away.square()).clamp_min(0).sqrt()
    assert float((half - true).abs().max()) < 0.1  # at the rim, where a cell is much
    assert float((half - true).abs()[away < 0.25].max()) < 0.02


def test_roundness_is_that_of_all_balls():
    level = torch.randn(1, CELLS, CELLS, generator=torch.Generator().manual_seed(0)) * 0.05
    half = roundness(level, torch.tensor([0.02]))[0]
    rows, columns = torch.meshgrid(torch.arange(CELLS), torch.arange(CELLS), indexing="ij")
    for row, column in ((3, 5), (40, 22), (63, 0)):
        apart = ((rows - row) ** 2 + (columns - column) ** 2) * 0.02**2
        best = torch.where(level[0] < 0, level[0] ** 2, 0.0) - apart
        expected = float(best.max().clamp_min(0).sqrt()) if level[0, row, column] < 0 else 0.0
        assert abs(float(half[row, column]) - expected) < 1e-6


def test_opposite_and_mirrored_directions_are_one():
    groups = direction_groups(eggs([90, 270, 92, 88, 45, 315, 135, 225]).cameras)
    assert len(set(groups[:4].tolist())) == len(set(groups[4:].tolist())) == 1
    assert groups[0] != groups[4]


def test_single_pictures_are_solid_with_a_category():
    bank = eggs([90, 80, 100, 45, 10])
    assert not hull_samples(bank, samples=64, colored=8).solid.any()
    assert hull_samples(bank, samples=64, colored=8, category=category_hull(bank)).solid.all()
