"""Visual hulls: what silhouettes from all sides say about points of space, and what training draws of it."""

from dataclasses import fields, replace

import pytest
import torch
from torch import Tensor

from helpers import toy_camera
from tars3d.config import TrainingConfig
from tars3d.data.bank import PictureBank
from tars3d.data.hull import HullSamples, hull_samples, thinness
from tars3d.data.ray_batches import BatchSampler
from tars3d.geometry.camera import Cameras, look_at_origin
from tars3d.geometry.distance_transform import distance_transform
from tars3d.geometry.visual_hull import hull_level
from tars3d.training.hull_store import stored_hulls
from tars3d.training.run_folder import RunFolder

CENTRE, RADIUS, SIZE = torch.tensor([0.12, -0.1, 0.08]), 0.3, 64
PIXEL = 0.045  # at the object, world units, a little more than a pixel of either camera


def sphere_bank(
    model: str,
    views: int,
    radii: tuple[float, ...] = (RADIUS,),
    distance: float = 2.7,
    size: int = SIZE,
    squeezed: float = 1.0,
) -> PictureBank:
    """Pictures of spheres from all around, pixel by pixel; they are equally large from any distance, but as much lower as `squeezed` says."""
    poses = [
        (toy_camera(view, size, model)[0], look_at_origin(83.0 * view + 10, 60.0 - 37 * view % 120, distance))
        for view in range(views)
    ]
    for intrinsics, _ in poses:
        intrinsics[:2, :2] *= distance / 2.7
        intrinsics[1, 1] *= squeezed
    cameras = Cameras(
        torch.stack([torch.from_numpy(k).float() for k, _ in poses]),
        torch.stack([torch.from_numpy(rt).float() for _, rt in poses]),
        torch.full((views,), model == "perspective"),
    )
    rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    pixels = (torch.stack([columns, rows], dim=-1) + 0.5).view(1, -1, 2).expand(views, -1, 2)
    masks = torch.cat([(miss(cameras, pixels) < radius).view(views, size, size) for radius in radii])
    which = torch.arange(views).repeat(len(radii))
    return PictureBank(
        rgb=torch.full((len(masks), size, size, 3), 255, dtype=torch.uint8),
        mask=masks,
        distance=torch.stack([torch.from_numpy(distance_transform(mask.numpy())) for mask in masks]),
        cameras=cameras[which],
        instance=torch.arange(len(radii)).repeat_interleave(views),
        instances=tuple(f"sphere{number}" for number in range(len(radii))),
        names=tuple(f"picture{number}" for number in range(len(masks))),
    )


def miss(cameras: Cameras, pixels: Tensor) -> Tensor:
    """How far the rays through pixels pass from the sphere's centre, [views, pixels]."""
    origins, directions = cameras.rays(pixels)
    along = ((CENTRE - origins) * directions).sum(-1) / directions.square().sum(-1)
    return (origins + along[..., None] * directions - CENTRE).norm(dim=-1)


def level_of(bank: PictureBank, points: Tensor) -> Tensor:
    return hull_level(points, torch.where(bank.mask, -1.0, 1.0) * bank.distance.float(), bank.cameras)


def cube(count: int, half_side: float = 1.2) -> Tensor:
    return half_side * (2 * torch.rand(count, 3, generator=torch.Generator().manual_seed(0)) - 1)


@pytest.mark.parametrize("views", [1, 3, 12])
@pytest.mark.parametrize("model", ["perspective", "orthographic"])
def test_the_level_is_a_lower_bound_of_the_signed_distance_up_to_a_pixel(model, views):
    bank, points = sphere_bank(model, views), cube(20_000)
    sdf = (points - CENTRE).norm(dim=-1) - RADIUS
    assert (level_of(bank, points) - sdf).max() < PIXEL


def test_the_level_stays_below_the_distance_to_slanted_cones_of_near_cameras():
    bank, points = sphere_bank("perspective", 12, distance=1.1, size=256), cube(20_000, 0.6)
    sdf = (points - CENTRE).norm(dim=-1) - RADIUS
    assert (level_of(bank, points) - sdf).max() < PIXEL / 4


@pytest.mark.parametrize("model", ["perspective", "orthographic"])
def test_the_level_is_a_lower_bound_inside_as_well_where_pixels_are_no_squares(model):
    bank, points = sphere_bank(model, 12, squeezed=0.6), cube(20_000, 0.6)
    sdf = (points - CENTRE).norm(dim=-1) - RADIUS
    assert (level_of(bank, points) - sdf).max() < PIXEL


@pytest.mark.parametrize("views", [1, 3, 12])
@pytest.mark.parametrize("model", ["perspective", "orthographic"])
def test_the_level_is_negative_where_every_silhouette_covers_and_nowhere_else(model, views):
    bank, points = sphere_bank(model, views), cube(20_000)
    reach = miss(bank.cameras, bank.cameras.project(points.expand(views, -1, -1))[0]).amax(dim=0)
    level = level_of(bank, points)
    assert (level[reach < RADIUS - PIXEL] < 0).all()
    assert (level[reach > RADIUS + PIXEL] > 0).all()


@pytest.mark.parametrize("model", ["perspective", "orthographic"])
def test_many_silhouettes_give_the_distance_itself_near_the_surface(model):
    bank, points = sphere_bank(model, 40), cube(20_000, 0.5)
    sdf = (points - CENTRE).norm(dim=-1) - RADIUS
    near = (sdf > -0.2) & (sdf < 0.05)
    assert (level_of(bank, points) - sdf)[near].abs().mean() < PIXEL / 2


def test_samples_crowd_around_the_surface_and_repeat_with_the_seed():
    bank = sphere_bank("perspective", 12, radii=(0.3, 0.15))
    hulls = hull_samples(bank, samples=512)
    near = (hulls.level.abs() < 0.05).float().mean(dim=1)
    uniform = level_of(sphere_bank("perspective", 12), cube(5_000, 0.6)).abs().lt(0.05).float().mean()
    assert (near > 2 * uniform).all()
    assert (hulls.level < 0).any(dim=1).all()
    assert (hulls.level > 0.2).any(dim=1).all(), "nothing holds the field down far away"
    for one, other in ((0.3, 0), (0.15, 1)):
        sdf = (hulls.points[other].float() - CENTRE).norm(dim=-1) - one
        assert (hulls.level[other].float() - sdf).max() < PIXEL, "an object got the points of another"
    assert torch.equal(hull_samples(bank, samples=512).points, hulls.points)
    assert not torch.equal(hull_samples(bank, samples=512, seed=1).points, hulls.points)


def test_thin_parts_are_told_from_thick_ones():
    def plate(half_thickness: float):
        half = torch.tensor([0.3, half_thickness, 0.3])
        return lambda points: (points.abs() - half).amax(dim=-1)

    points = torch.tensor([0.6, 0.02, 0.6]) * (torch.rand(500, 3, generator=torch.Generator().manual_seed(0)) - 0.5)
    for half_thickness, thin in ((0.01, True), (0.1, False)):
        level_of = plate(half_thickness)
        found = thinness(level_of, points, level_of(points), torch.Generator().manual_seed(1))
        assert ((found > 0.5) == thin).float().mean() > 0.98
    beyond = points + torch.tensor([0.0, 0.3, 0.0])
    assert not thinness(level_of, beyond, level_of(beyond), torch.Generator().manual_seed(1)).any()


def test_one_picture_does_not_make_a_solid():
    assert hull_samples(sphere_bank("perspective", 1), samples=64).solid.tolist() == [False]
    assert hull_samples(sphere_bank("perspective", 12), samples=64).solid.tolist() == [True]


def test_a_batch_brings_the_points_of_its_objects_mirrored_with_its_pictures():
    bank = sphere_bank("perspective", 4, radii=(0.3, 0.3))
    number = torch.arange(2.0)[:, None, None]
    hulls = HullSamples(
        torch.cat([number + 1, number, number], dim=-1).expand(2, 50, 3).half(),
        torch.arange(2.0)[:, None].expand(2, 50).half(),
        (torch.arange(2.0)[:, None] / 2).expand(2, 50).half(),
        torch.tensor([True, False]),
        torch.cat([number + 3, number, number], dim=-1).expand(2, 60, 3).half(),
        (100 * number).expand(2, 60, 3).byte(),
    )
    settings = {"batch": 4, "views": 1, "rays": 0, "boundary_rays": 0.0, "flip": True, "seed": 3}
    sampler = BatchSampler(bank, hulls=hulls, hull_points=8, **settings)
    signs = set()
    for step in range(6):
        batch = sampler.draw(step)
        assert batch.hull is not None
        which = bank.instance[batch.index]
        assert torch.equal(batch.hull.level, which[:, None].float().expand(4, 8))
        assert torch.equal(batch.hull.thin, which[:, None].float().expand(4, 8) / 2)
        assert torch.equal(batch.hull.solid, which == 0)
        assert torch.equal(torch.sign(batch.hull.points[..., 0]).amin(1), torch.sign(batch.hull.seen[..., 0]).amin(1))
        assert torch.equal(batch.hull.points[..., 0].abs(), which[:, None].float().expand(4, 8) + 1)
        assert torch.equal(batch.hull.seen[..., 0].abs(), which[:, None].float().expand(4, 2) + 3)
        assert torch.equal(batch.hull.rgb, (which * 100 / 127.5 - 1)[:, None, None].expand(4, 2, 3))
        mirrored = (batch.cameras.extrinsics - bank.cameras.extrinsics[batch.index]).abs().flatten(1).amax(1) > 1e-6
        assert torch.equal(batch.hull.points[:, 0, 0] < 0, mirrored)
        signs |= set(mirrored.tolist())
    assert signs == {False, True}
    assert sampler.draw(2).hull is not None
    assert torch.equal(
        sampler.draw(2).hull.points, BatchSampler(bank, hulls=hulls, hull_points=8, **settings).draw(2).hull.points
    )


@pytest.mark.parametrize("model", ["perspective", "orthographic"])
def test_colours_lie_on_the_side_of_the_hull_that_shows_them(model):
    bank = sphere_bank(model, 12)
    tinted = torch.zeros_like(bank.rgb) + (20 * torch.arange(12, dtype=torch.uint8))[:, None, None, None]
    hulls = hull_samples(replace(bank, rgb=tinted), samples=64, colored=600)
    seen, view = hulls.seen[0].float(), (hulls.rgb[0, :, 0] // 20).long()
    assert view.unique().tolist() == list(range(12)), "a picture shows nothing"
    away = (seen - CENTRE).norm(dim=-1)
    assert (away - RADIUS).abs().quantile(0.9) < 2 * PIXEL
    forward = bank.cameras.extrinsics[view, 2, :3]
    assert (((seen - CENTRE) * forward).sum(-1) < PIXEL).float().mean() > 0.95, "colours of the far side"
    pixels, _ = bank.cameras[view].project(seen[:, None])
    column, row = pixels[:, 0].long().clamp(0, SIZE - 1).unbind(-1)
    assert bank.mask[view, row, column].float().mean() > 0.97


def test_pixels_at_the_outline_lend_no_colours():
    """They mix with the background."""
    bank = sphere_bank("perspective", 3)
    rim = bank.mask & (bank.distance <= 1)
    rgb = torch.where(rim, 250, 10).byte()[..., None].expand(-1, -1, -1, 3).contiguous()
    assert rim.flatten(1).any(dim=1).all()
    assert (hull_samples(replace(bank, rgb=rgb), samples=64, colored=300).rgb == 10).all()


def test_a_run_draws_its_hulls_once_and_again_when_its_pictures_change(tmp_path):
    run, bank = RunFolder(tmp_path), sphere_bank("perspective", 6)
    first = stored_hulls(run, bank, TrainingConfig())
    written = run.hulls.stat().st_mtime_ns
    again = stored_hulls(run, bank, TrainingConfig())
    assert run.hulls.stat().st_mtime_ns == written, "drawn again"
    assert all(torch.equal(getattr(first, field.name), getattr(again, field.name)) for field in fields(first))
    other = stored_hulls(run, bank, TrainingConfig(seed=1))
    assert not torch.equal(other.points, first.points), "another seed draws other points"
    changed = stored_hulls(run, sphere_bank("perspective", 6, (0.2,)), TrainingConfig())
    assert not torch.equal(changed.points, first.points)
    run.hulls.write_bytes(b"cut")
    assert torch.equal(stored_hulls(run, bank, TrainingConfig()).points, first.points)


def test_a_run_completes_its_hulls_where_its_settings_say_so_and_draws_them_anew_when_that_changes(tmp_path):
    run, bank = RunFolder(tmp_path), sphere_bank("orthographic", 1, (0.3, 0.25, 0.2))
    for completed in (False, True, False):
        found = stored_hulls(run, bank, TrainingConfig(category_hull=completed))
        assert found.solid.tolist() == 3 * [completed]
