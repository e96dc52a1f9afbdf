"""Batches of rays: what a step draws, and that flips are consistent."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from helpers import coded_bank, toy_mesh, write_toy_collection
from tars3d.data.augment import jitter_colors, recolored
from tars3d.data.bank import PictureBank, load_bank
from tars3d.data.collection import load_collection
from tars3d.data.hull import hull_samples
from tars3d.data.ray_batches import BatchSampler, RayBatch
from tars3d.errors import UserError
from tars3d.seeding import Stream, derived_seed, torch_generator

MIRROR = torch.tensor([-1.0, 1.0, 1.0])


def sampler(bank: PictureBank, **changes) -> BatchSampler:
    settings = {"batch": 4, "views": 2, "rays": 32, "boundary_rays": 0.5, "flip": True, "seed": 7}
    return BatchSampler(bank, **{**settings, **changes})


def tensors_of(batch: RayBatch) -> dict[str, Tensor]:
    named = {name: value for name, value in vars(batch).items() if isinstance(value, Tensor)}
    return named | {"k": batch.cameras.intrinsics, "rt": batch.cameras.extrinsics}


def same(one: RayBatch, other: RayBatch) -> bool:
    other_tensors = tensors_of(other)
    return all(torch.equal(value, other_tensors[name]) for name, value in tensors_of(one).items())


def test_a_batch_is_a_function_of_seed_and_step():
    bank = coded_bank()
    first = sampler(bank)
    batches = [first.draw(step) for step in range(5)]
    fresh = sampler(bank)
    for step in (3, 0, 4):  # in any order, from any sampler, whatever the global generator did
        torch.rand(3)
        assert same(fresh.draw(step), batches[step])
    assert not same(batches[0], batches[1])
    assert not same(sampler(bank, seed=8).draw(0), batches[0])


def test_streams_draw_what_existing_runs_have_drawn():
    drawn = [torch.randint(1000, (3,), generator=torch_generator(7, stream, 5)).tolist() for stream in Stream]
    assert drawn == [
        [566, 568, 581],
        [160, 604, 269],
        [592, 232, 864],
        [249, 617, 745],
        [384, 542, 693],
        [10, 35, 15],
        [456, 201, 678],
    ]
    assert derived_seed(7, 5, 1) == hash((7, 5, 1))


def test_every_picture_once_an_epoch():
    bank = coded_bank(objects=3, views=3)
    drawn = sampler(bank, batch=2)
    epochs = [torch.cat([drawn.pictures(4 * epoch + step) for step in range(4)]).tolist() for epoch in range(3)]
    for epoch in epochs:
        assert len(set(epoch)) == 8, "a picture twice in an epoch"
    assert len({tuple(epoch) for epoch in epochs}) == 3, "epochs repeat their order"


def test_a_batch_is_never_larger_than_the_bank():
    bank = coded_bank(objects=1, views=2)
    assert sorted(sampler(bank, batch=16).draw(5).index.tolist()) == [0, 1]


def picture_numbers(batch: RayBatch, bank: PictureBank) -> Tensor:
    """Which pictures supervise, by their cameras: [batch, views]."""
    found = torch.cdist(batch.cameras.extrinsics.flatten(1), bank.cameras.extrinsics.flatten(1)).argmin(dim=1)
    return found.unflatten(0, (len(batch.index), -1))


def test_views_are_of_the_same_object_and_the_first_is_the_encoded_picture():
    bank = coded_bank(objects=4, views=3)
    others = set()
    for step in range(20):
        batch = sampler(bank, views=3, flip=False).draw(step)
        views = picture_numbers(batch, bank)
        assert torch.equal(views[:, 0], batch.index)
        assert (bank.instance[views] == bank.instance[batch.index][:, None]).all()
        assert torch.equal(batch.images, bank.images(batch.index))
        others |= {(a, b) for a, *rest in views.tolist() for b in rest}
    assert len(others) == 4 * 3 * 3, "some view of an object never supervises another"


def pixels_of(batch: RayBatch) -> Tensor:
    """The pixel of each ray, found by projecting a point on it: [batch * views, rays, 2], integers."""
    views = len(batch.cameras) // len(batch.index)
    points = batch.origins + batch.object_depth[..., None] * batch.directions
    per_view = points.unflatten(1, (views, -1)).flatten(0, 1)
    pixels, depth = batch.cameras.project(per_view)
    expected = batch.object_depth.unflatten(1, (views, -1)).flatten(0, 1)
    torch.testing.assert_close(depth, expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(pixels, pixels.floor() + 0.5, atol=1e-3, rtol=0)
    return pixels.floor().long()


@pytest.mark.parametrize("model", ["perspective", "orthographic"])
@pytest.mark.parametrize("boundary_rays", [0.0, 0.7, 1.0])
def test_pixels_are_drawn_without_replacement(boundary_rays, model):
    bank = coded_bank(model=model)
    batch = sampler(bank, rays=60, boundary_rays=boundary_rays).draw(0)
    pixels = pixels_of(batch)
    assert ((pixels >= 0) & (pixels < bank.size)).all()
    for view in pixels[..., 1] * bank.size + pixels[..., 0]:
        assert len(view.unique()) == 60


def test_all_pixels_can_be_drawn():
    bank = coded_bank(size=16)
    for boundary_rays in (0.0, 0.5):
        pixels = pixels_of(sampler(bank, rays=256, boundary_rays=boundary_rays).draw(0))
        for view in pixels[..., 1] * 16 + pixels[..., 0]:
            assert len(view.unique()) == 256


def test_boundary_rays_crowd_around_the_silhouette():
    bank = coded_bank(size=64)
    shares = []
    for boundary_rays in (0.0, 0.5, 0.9):
        batch = sampler(bank, rays=64, boundary_rays=boundary_rays, flip=False).draw(1)
        near = batch.distance * bank.cameras.focal[0] < 3
        shares.append(near.float().mean().item())
    assert shares[0] < 0.35
    assert shares[0] + 0.15 < shares[1] < shares[2]


def test_rays_bring_what_the_picture_shows_at_their_pixel():
    bank = coded_bank()
    batch = sampler(bank, flip=False).draw(2)
    pixels, views = pixels_of(batch), picture_numbers(batch, bank).flatten()
    rows, columns = pixels[..., 1], pixels[..., 0]
    which = views[:, None]
    rgb = bank.rgb[which, rows, columns].float() / 127.5 - 1
    torch.testing.assert_close(batch.rgb.unflatten(1, (2, -1)).flatten(0, 1), rgb)
    assert torch.equal(batch.foreground.unflatten(1, (2, -1)).flatten(0, 1), bank.mask[which, rows, columns])
    expected = bank.distance[which, rows, columns] / bank.cameras.focal[0]
    torch.testing.assert_close(batch.distance.unflatten(1, (2, -1)).flatten(0, 1), expected)
    plane = bank.cameras[views].image_plane(pixels + 0.5)
    torch.testing.assert_close(batch.plane.unflatten(1, (2, -1)).flatten(0, 1), plane, atol=1e-5, rtol=0)


@pytest.mark.parametrize("model", ["perspective", "orthographic"])
def test_flipped_pictures_have_mirrored_cameras(model):
    bank = coded_bank(objects=4, views=2, model=model)
    flipped = plain = 0
    for step in range(6):
        batch = sampler(bank).draw(step)
        pixels = pixels_of(batch)  # in the pictures as supervised, flipped ones flipped
        shown = batch.rgb.unflatten(1, (2, -1)).flatten(0, 1).add(1).mul(127.5).round().long()
        columns, rows, numbers = shown.unbind(-1)  # in the bank's pictures, which name themselves
        assert torch.equal(rows, pixels[..., 1])
        for code in range(len(batch.index)):
            is_flipped = not torch.equal(batch.images[code], bank.images(batch.index[code : code + 1])[0])
            flipped, plain = flipped + is_flipped, plain + (not is_flipped)
            if is_flipped:
                assert torch.equal(batch.images[code], bank.images(batch.index[code : code + 1])[0].flip(-1))
            for row in (2 * code, 2 * code + 1):  # both views: one object cannot be mirrored in one view only
                expected = bank.size - 1 - columns[row] if is_flipped else columns[row]
                assert torch.equal(pixels[row, :, 0], expected)
                number = numbers[row, 0]
                # A point of the mirrored object is seen where the object's own point was, flipped.
                points = torch.rand(1, 5, 3, generator=torch.Generator().manual_seed(row)) - 0.5
                own = bank.cameras[number[None]].project(points)[0]
                seen = batch.cameras[torch.tensor([row])].project(points * MIRROR if is_flipped else points)
                u = bank.size - own[..., 0] if is_flipped else own[..., 0]
                torch.testing.assert_close(seen[0], torch.stack([u, own[..., 1]], dim=-1), atol=1e-3, rtol=0)
    assert flipped > 4
    assert plain > 4


@pytest.mark.parametrize("framing", ["bbox", "full"])
@pytest.mark.parametrize("model", ["perspective", "orthographic"])
def test_framed_cameras_project_the_object_onto_its_mask(tmp_path, model, framing):
    collection = load_collection(write_toy_collection(tmp_path, model=model, objects=2, size=48))
    bank = load_bank(collection.images, size=64, framing=framing, padding=1.2, crop_jitter=0.1, seed=3)
    assert bank.names == ("toy0_0", "toy0_1", "toy1_0", "toy1_1")
    assert bank.instance.tolist() == [0, 0, 1, 1]
    for number in range(4):
        vertices = torch.from_numpy(np.asarray(toy_mesh(number // 2).vertices)).float()
        pixels = bank.cameras[torch.tensor([number])].project(vertices[None])[0][0]
        assert ((pixels >= 0) & (pixels < 64)).all()
        rows, columns = bank.mask[number].nonzero().unbind(-1)
        extent = torch.stack([columns, rows], dim=-1) + 0.5
        torch.testing.assert_close(extent.amin(0), pixels.amin(0), atol=3.5, rtol=0)
        torch.testing.assert_close(extent.amax(0), pixels.amax(0), atol=3.5, rtol=0)
        shrunk = bank.cameras[torch.tensor([number])].project(0.8 * vertices[None])[0][0]
        column, row = shrunk.long().unbind(-1)
        assert bank.mask[number, row, column].all(), "the object is not where its camera says"
        assert (bank.rgb[number][(bank.distance[number] > 4) & ~bank.mask[number]] >= 250).all()


def test_fingerprint_knows_other_pictures_cameras_and_objects(tmp_path):
    records = load_collection(write_toy_collection(tmp_path, objects=2)).images
    framing = {"size": 32, "framing": "bbox", "padding": 1.2}
    known = load_bank(records, **framing).fingerprint()
    assert load_bank(records, **framing, workers=1).fingerprint() == known
    bank = load_bank(records, **framing)
    bank.rgb[0, 5, 5] = 77
    assert bank.fingerprint() != known
    for name in ("extrinsics", "intrinsics"):
        bank = load_bank(records, **framing)
        getattr(bank.cameras, name)[1, 0, 0] += 0.1
        assert bank.fingerprint() != known, name
    bank = load_bank(records, **framing)
    bank.mask[1, 3, 3] ^= True
    assert bank.fingerprint() != known
    bank = load_bank(records, **framing)
    bank.instance[0] = bank.instance[-1]
    assert bank.fingerprint() != known, "another object's picture"


def test_an_object_is_one_wherever_its_pictures_lie_and_two_where_collections_differ(tmp_path):
    first = load_collection(write_toy_collection(tmp_path / "first", objects=2, views=2)).images
    second = load_collection(write_toy_collection(tmp_path / "second", objects=1, views=2)).images
    moved = tmp_path / "first" / "side" / first[1].file.name
    moved.parent.mkdir()
    first[1].file.rename(moved)
    records = [first[0], replace(first[1], file=moved), *first[2:], *second]
    bank = load_bank(records, size=32, framing="bbox", padding=1.2)
    assert bank.instances == ("toy0", "toy1", "toy0")
    assert bank.instance.tolist() == [0, 0, 1, 1, 2, 2]


def test_an_object_that_vanishes_when_framed_is_named(tmp_path):
    bank = load_bank(
        load_collection(write_toy_collection(tmp_path, objects=1)).images, size=32, framing="bbox", padding=1.2
    )
    bank.mask[1] = False
    with pytest.raises(UserError, match=f"{bank.names[1]}: 1 of 2 pictures show no object at 32 x 32 pixels"):
        hull_samples(bank, samples=8, colored=8)


def test_colour_jitter_changes_the_object_and_leaves_the_white_ground():
    images = torch.ones(6, 3, 8, 8)
    images[:, :, 2:6, 2:6] = 2 * torch.rand(6, 3, 4, 4, generator=torch.Generator().manual_seed(0)) - 1
    before = images.clone()

    def jitter(strength, seed=0):
        return jitter_colors(images, strength, torch.Generator().manual_seed(seed))

    assert torch.equal(jitter((0, 0, 0, 0)), images)
    strong = (0.2, 0.2, 0.2, 0.5)
    found = jitter(strong)
    ground = (images == 1).all(dim=1, keepdim=True).expand_as(images)
    assert (found[ground] == 1).all()
    assert ((found >= -1) & (found <= 1)).all()
    change = (found - images).abs().flatten(1).amax(dim=1)
    assert (change > 0.05).all()
    assert torch.equal(jitter(strong), found)
    assert not torch.equal(jitter(strong, seed=1), found)
    assert torch.equal(images, before)


def test_brightness_scales_and_a_half_turn_of_hue_keeps_luma():
    images = 0.4 * torch.rand(3, 3, 4, 4, generator=torch.Generator().manual_seed(0)) - 0.3
    brighter = (jitter_colors(images, (0.2, 0, 0, 0), torch.Generator().manual_seed(1)) + 1) / (images + 1)
    for picture in brighter:
        torch.testing.assert_close(picture, picture.mean().expand_as(picture))
        assert 0.8 <= picture.mean() <= 1.2
    turned = jitter_colors(images, (0, 0, 0, 0.5), torch.Generator().manual_seed(1))
    luma = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
    torch.testing.assert_close((turned * luma).sum(1), (images * luma).sum(1), atol=2e-3, rtol=0)
    assert (turned - images).abs().max() > 0.02


def test_recoloring_changes_a_picture_and_its_targets_alike_and_leaves_the_ground_white():
    bank = coded_bank()
    hulls = hull_samples(bank, samples=32, colored=64)
    batch = sampler(bank, flip=False, views=1, hulls=hulls, hull_points=16).draw(0)
    found = recolored(batch, (0.2, 0.3, 0.5), torch.Generator().manual_seed(3))
    assert found.hull is not None
    assert batch.hull is not None
    ground = (batch.images > 0.999).all(dim=1, keepdim=True)
    assert torch.equal(torch.where(ground, found.images, 0), torch.where(ground, batch.images, 0))
    assert torch.equal(found.rgb[~batch.foreground], batch.rgb[~batch.foreground])
    assert not torch.equal(found.images, batch.images)
    for code in range(len(batch.images)):  # what one colour becomes in the picture, it becomes in the targets
        before = batch.images[code].flatten(1).T
        after = found.images[code].flatten(1).T
        shown = batch.foreground[code]
        rays = batch.rgb[code][shown], found.rgb[code][shown]
        for target, turned in (rays, (batch.hull.rgb[code], found.hull.rgb[code])):
            distance, twin = torch.cdist(target, before, compute_mode="donot_use_mm_for_euclid_dist").min(dim=1)
            known = (distance < 1e-6) & (before[twin] <= 0.999).any(dim=1)
            torch.testing.assert_close(turned[known], after[twin][known], atol=1e-5, rtol=0)
    assert recolored(batch, (0.0, 0.0, 0.0), torch.Generator()) is batch


def test_a_hue_turn_keeps_luma():
    bank = coded_bank()
    batch = sampler(bank, flip=False, views=1).draw(0)
    soft = replace(batch, images=0.2 * batch.images, rgb=0.2 * batch.rgb)
    found = recolored(soft, (0.0, 0.0, 0.5), torch.Generator().manual_seed(1))
    luma = torch.tensor([0.299, 0.587, 0.114])
    torch.testing.assert_close(found.rgb @ luma, soft.rgb @ luma, atol=1e-5, rtol=0)
    assert not torch.equal(found.rgb, soft.rgb)
