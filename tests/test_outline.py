"""Shapes bent to the outline of their picture: the mask's holes are cut, its rods grow, and nothing else changes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import trimesh

from helpers import box, refused, write_toy_collection
from tars3d import cli
from tars3d.demo import sample_pictures
from tars3d.errors import UserError
from tars3d.geometry.camera import look_at_origin
from tars3d.geometry.isosurface import extract_mesh
from tars3d.geometry.masks import mask_iou
from tars3d.geometry.rasterize import silhouette
from tars3d.geometry.silhouette_fit import CenteredCamera
from tars3d.methods.corrected import CorrectedShape, trilinear
from tars3d.photo.outline import (
    Adam,
    Outlined,
    OutlineSettings,
    SeenOutline,
    _Rays,
    fit_outline,
    gaussian,
    on_grid,
    smoothed,
    softened,
)
from tars3d.photo.symmetry import mirrors
from tars3d.reconstruct import Reconstructor, load

SIZE, BOUND = 64, 0.6


@pytest.fixture(scope="module")
def chair() -> Reconstructor:
    return load("chair", device="cpu")


def camera(azimuth: float = 0, elevation: float = 0) -> CenteredCamera:
    return CenteredCamera(look_at_origin(azimuth, elevation, 2.7)[:, :3], 45.0, np.array([32.0, 32.0]), 0.37)


def mesh_of(shape, cells: int = 64) -> trimesh.Trimesh:
    def sdf(points: np.ndarray) -> np.ndarray:
        return shape.sdf(torch.from_numpy(points).float()[None])[0].numpy()

    return extract_mesh(sdf, (-BOUND, BOUND), cells).mesh


def outline_of(found: Outlined) -> np.ndarray:
    return silhouette(mesh_of(found.shape), *found.cameras[0].pinhole(), SIZE, SIZE)


PLATE = box((0.35, 0.35, 0.05))
FREE = OutlineSettings(mismatch=0.0)
"""The prior does not grow where the outline fits already."""


@pytest.fixture(scope="module")
def plate_mask() -> np.ndarray:
    return silhouette(mesh_of(PLATE), *camera().pinhole(), SIZE, SIZE)


@pytest.fixture(scope="module")
def window(plate_mask) -> np.ndarray:
    """The plate's mask with a hole left of the middle, as tall as half of it."""
    mask = plate_mask.copy()
    mask[24:40, 22:28] = False
    return mask


def test_values_between_the_corners_are_trilinear():
    values = torch.rand(5, 5, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    corner = torch.tensor([[-0.3, 0.6, 0.0]], dtype=torch.float64)  # x, y, z: columns 1, 4 and 2
    assert trilinear(values, corner, BOUND).item() == pytest.approx(values[2, 4, 1].item())
    middle = torch.tensor([[-0.45, 0.45, 0.15]], dtype=torch.float64)
    assert trilinear(values, middle, BOUND).item() == pytest.approx(values[2:4, 3:5, 0:2].mean().item())
    outside = torch.tensor([[-0.3, 0.9, 0.0]], dtype=torch.float64)
    assert trilinear(values, outside, BOUND).item() == pytest.approx(values[2, 4, 1].item())


def test_only_the_sdf_is_corrected():
    points = torch.rand(1, 20, 3, generator=torch.Generator().manual_seed(1)) - 0.5
    base = replace(PLATE, displacement=lambda points: 0.1 * points)
    shape = CorrectedShape(base, torch.full((5, 5, 5), 0.25), BOUND)
    torch.testing.assert_close(shape.sdf(points), base.sdf(points) + 0.25)
    torch.testing.assert_close(shape.sample(points).sdf, shape.sdf(points))
    torch.testing.assert_close(shape.sample(points).displacement, 0.1 * points)
    for name in ("color", "canonical", "features"):
        torch.testing.assert_close(getattr(shape, name)(points), getattr(base, name)(points))
    assert shape.batch_size == 1


def test_points_on_rays_land_on_their_pixels_whatever_step_the_camera_takes():
    rng = np.random.default_rng(0)
    pixels = torch.from_numpy(rng.uniform(0, SIZE, (30, 2)))
    start, moved = camera(35, 20), torch.from_numpy(rng.normal(size=7))
    rays = _Rays(start, pixels, SIZE)
    points = rays.at(torch.arange(30), torch.from_numpy(rng.uniform(-0.8, 0.8, 30)), moved)
    seen_by = start.moved((moved * rays.units).numpy())
    np.testing.assert_allclose(seen_by.project(points.numpy()), pixels.numpy(), atol=1e-4)


def test_smoothing_keeps_what_is_even_and_spreads_a_point_evenly():
    rows = gaussian(13, 1.0)
    assert rows[6].sum().item() == pytest.approx(1)
    torch.testing.assert_close(rows, rows.T)
    even = smoothed(torch.ones(13, 13, 13), rows)
    assert even[6, 6, 6].item() == pytest.approx(1)
    assert even[0, 6, 6].item() == pytest.approx(rows[0].sum().item())
    point = torch.zeros(13, 13, 13)
    point[6, 6, 6] = 1
    spread = smoothed(point, rows)
    torch.testing.assert_close(spread, spread.permute(1, 2, 0))
    assert spread[6, 6, 7].item() == pytest.approx((rows[6, 6] ** 2 * rows[6, 7]).item())
    assert spread[6, 6, 9].item() == 0


def test_steps_are_those_of_pytorchs_adam():
    generator = torch.Generator().manual_seed(0)
    ours, theirs = (torch.ones(3, 4, requires_grad=True) for _ in range(2))
    steps, optimizer = Adam(ours, 0.02), torch.optim.Adam([theirs], lr=0.02, betas=(0.8, 0.99))
    for _ in range(5):
        theirs.grad = torch.randn(3, 4, generator=generator)
        steps.take(theirs.grad)
        optimizer.step()
    torch.testing.assert_close(ours, theirs)


def test_the_grid_holds_the_fields_own_values_near_the_surface():
    level = on_grid(PLATE, 32, BOUND, 0.08, torch.device("cpu"))
    along = torch.linspace(-BOUND, BOUND, 33)
    z, y, x = torch.meshgrid(along, along, along, indexing="ij")
    true = PLATE.sdf(torch.stack([x, y, z], dim=-1).reshape(1, -1, 3)).reshape(33, 33, 33)
    near = true.abs() < 0.08
    torch.testing.assert_close(level[near], true[near])
    assert (level - true).abs().max() < 0.03


def test_a_hole_of_the_mask_is_cut_and_nothing_else(window):
    found = fit_outline(PLATE, [SeenOutline(camera(), window)], BOUND, settings=OutlineSettings(background=1.0))
    assert mask_iou(silhouette(mesh_of(PLATE), *camera().pinhole(), SIZE, SIZE), window) < 0.95
    assert mask_iou(outline_of(found), window) > 0.94
    assert not outline_of(found)[28:36, 24:26].any()
    change = found.shape.correction.abs().mean(dim=(0, 1))  # by x, which the picture shows mirrored
    assert change[:30].max() < 0.4 * change.max()


def test_what_mirrors_is_cut_on_both_sides_alike(window):
    both = window & window[:, ::-1]
    found = fit_outline(PLATE, [SeenOutline(camera(), both)], BOUND, mirrored=True)
    torch.testing.assert_close(found.shape.correction, found.shape.correction.flip(2))
    assert mask_iou(outline_of(found), both) > 0.92
    alone = fit_outline(PLATE, [SeenOutline(camera(), window)], BOUND)
    assert not torch.allclose(alone.shape.correction, alone.shape.correction.flip(2), atol=0.01)


def test_a_rod_of_the_mask_grows_where_the_shape_is_near(plate_mask):
    mask = plate_mask.copy()
    rows = np.flatnonzero(mask.any(axis=1))
    mask[rows[-1] : rows[-1] + 4, 30:34] = True
    found = outline_of(fit_outline(PLATE, [SeenOutline(camera(), mask)], BOUND, settings=FREE))
    assert found[rows[-1] + 2, 31:33].all()
    assert not found[rows[-1] + 3, 40:].any()


def test_the_camera_gives_way_before_the_shape_does(plate_mask):
    off = camera().moved(np.array([0, 0, 0, 0.04, 2.0, -1.5, 0]))
    found = fit_outline(PLATE, [SeenOutline(off, plate_mask)], BOUND)
    assert np.abs(off.center - camera().center).max() == pytest.approx(2)
    assert np.abs(found.cameras[0].center - camera().center).max() < 1.3
    held = fit_outline(PLATE, [SeenOutline(off, plate_mask)], BOUND, settings=OutlineSettings(camera_learning_rate=0.0))
    np.testing.assert_array_equal(held.cameras[0].center, off.center)
    moved, stayed = found.shape.correction.square().mean(), held.shape.correction.square().mean()
    assert moved < 0.5 * stayed


def test_what_fits_already_is_bent_less(window, plate_mask):
    for mask, mismatch, least, most in ((plate_mask, 0.3, 0.0, 0.7), (window, 0.05, 1.0, 1.0)):
        plain, held = (
            fit_outline(
                PLATE,
                [SeenOutline(camera(), mask)],
                BOUND,
                settings=replace(FREE, camera_learning_rate=0.0, mismatch=share),
            )
            for share in (0.0, mismatch)
        )
        share = held.shape.correction.square().mean() / plain.shape.correction.square().mean()
        assert least <= share <= most


def test_pixels_that_say_nothing_do_not_pull(window, plate_mask):
    seen = np.ones_like(window)
    seen[:, :32] = False  # where the hole is
    found = fit_outline(PLATE, [SeenOutline(camera(), window, seen)], BOUND)
    assert mask_iou(outline_of(found) & ~seen, plate_mask & ~seen) > 0.97


def test_a_mask_that_ends_where_the_picture_does_goes_on_there():
    mask, seen = np.zeros((40, 40), bool), np.ones((40, 40), bool)
    mask[10:, 10:30], seen[25:] = True, False
    soft = softened(mask & seen, seen, 0.6)
    assert soft[24, 20] == pytest.approx(1, abs=1e-5), "the object goes on below"
    for row in (21, 24):
        assert 0.6 < soft[row, 10] < 0.9
        np.testing.assert_allclose(soft[row, 9] + soft[row, 10], 1, atol=0.03)


def test_a_camera_that_sees_nothing_of_the_shape_leaves_it(window):
    away = replace(camera(), center=np.array([900.0, 900.0]))
    found = fit_outline(PLATE, [SeenOutline(away, window)], BOUND)
    assert not found.shape.correction.any()
    np.testing.assert_array_equal(found.cameras[0].center, away.center)


def test_the_search_from_coarse_to_fine_finds_all_of_a_bent_surface(window):
    shape = fit_outline(PLATE, [SeenOutline(camera(), window)], BOUND).shape

    def sdf(points: np.ndarray) -> np.ndarray:
        return shape.sdf(torch.from_numpy(points)[None])[0].numpy()

    sparse, dense = (extract_mesh(sdf, (-BOUND, BOUND), 96, dense=dense) for dense in (False, True))
    np.testing.assert_allclose(sparse.mesh.vertices, dense.mesh.vertices, atol=1e-6)
    assert sparse.evaluations < dense.evaluations / 4


def test_one_seed_gives_one_shape(window):
    settings = OutlineSettings(cells=32, steps=4)
    first, again, other = (
        fit_outline(PLATE, [SeenOutline(camera(), window)], BOUND, seed=seed, settings=settings) for seed in (3, 3, 4)
    )
    torch.testing.assert_close(first.shape.correction, again.shape.correction, rtol=0, atol=0)
    assert not torch.equal(first.shape.correction, other.shape.correction)


def test_fitting_asks_for_no_gradient_of_the_model(window):
    assert not fit_outline(PLATE, [SeenOutline(camera(), window)], BOUND).shape.correction.requires_grad


def test_a_reconstruction_has_the_outline_of_its_picture_unless_told_otherwise(chair):
    picture = sample_pictures()[0]
    bent = chair.reconstruct(picture, resolution=48)
    plain = chair.reconstruct(picture, resolution=48, outline="none")
    assert bent.camera.iou == pytest.approx(plain.camera.iou, abs=0.1), "the overlap of the mesh as predicted"
    assert bent.camera.outline_iou > max(0.85, plain.camera.iou + 0.05)
    assert plain.camera.outline_iou is None
    assert isinstance(bent.shape, CorrectedShape)
    assert not isinstance(plain.shape, CorrectedShape)
    assert len(bent.canonical) == len(bent.mesh.vertices)
    assert any("with the mesh bent to the outline" in note for note in bent.notes)
    assert not any("bent" in note for note in plain.notes)
    assert not isinstance(chair.reconstruct(picture, resolution=24, camera="none").shape, CorrectedShape)


def test_the_camera_is_the_same_at_every_resolution(chair):
    coarse, fine = (
        chair.reconstruct(sample_pictures()[1], resolution=cells, outline="none").camera for cells in (64, 96)
    )
    np.testing.assert_array_equal(coarse.extrinsics, fine.extrinsics)


def test_who_asks_for_it_is_told_what_cannot_be_bent(chair, monkeypatch, capsys):
    picture = sample_pictures()[0]
    message = refused(capsys, "reconstruct", str(picture), "--outline", "always", "--camera", "none")
    assert "--outline always: needs the picture's camera; leave out --camera none" in message
    monkeypatch.setattr(chair, "model", type("Mesh", (), {"config": type("C", (), {"method": "cmr"})})())
    with pytest.raises(UserError, match="--outline: needs a field; cmr decodes a mesh"):
        chair.reconstruct(picture, outline="always")


def test_a_camera_that_no_model_predicts_is_searched_where_the_outline_needs_it(chair, monkeypatch):
    def codes_alone(images):
        return chair.model.encode(images), None

    picture = sample_pictures()[0]
    monkeypatch.setattr(chair.model, "encode_with_cameras", codes_alone)
    assert chair.reconstruct(picture, resolution=24).camera is None
    found = chair.reconstruct(picture, resolution=24, outline="always")
    assert found.camera.source == "searched"
    assert isinstance(found.shape, CorrectedShape)


def test_which_objects_mirror(chair, monkeypatch):
    assert mirrors("chair")
    assert mirrors("Car")
    assert not mirrors("shoe")
    assert chair.symmetric, "by the name of its category"
    monkeypatch.setattr(chair.model, "config", replace(chair.model.config, symmetric=False))
    assert not chair.symmetric
    monkeypatch.setattr(chair, "description", {"category": "bottle"})
    monkeypatch.setattr(chair.model, "config", replace(chair.model.config, symmetric=True))
    assert chair.symmetric


def test_the_command_bends_unless_told_otherwise(tmp_path, capsys):
    picture = str(sample_pictures()[0])
    options = ["--resolution", "32", "--device", "cpu", "--out", str(tmp_path)]
    cli.main(["reconstruct", picture, *options])
    assert "with the mesh bent to the outline" in " ".join(capsys.readouterr().out.split())
    cli.main(["reconstruct", picture, "--outline", "none", *options])
    assert "bent" not in capsys.readouterr().out


def test_evaluation_bends_where_it_is_asked_to(tmp_path, capsys):
    data = write_toy_collection(tmp_path / "toys", objects=1, views=1, size=48)
    options = ["evaluate", str(data), "--split", "train", "--resolution", "24", "--samples", "500", "--emd-points", "0"]
    printed = []
    for more in ((), ("--outline",), ("--outline", "--refine-camera", "annotated")):
        cli.main([*options, *more])
        printed.append(capsys.readouterr().out)
    assert "bent" not in printed[0]
    assert "chair, bent to the outline" in printed[1]
    assert "shapes were bent to their outlines, seen by the found camera" in printed[1]
    assert "seen by the annotated camera" in printed[2]
    message = refused(capsys, *options, "--outline", "--baseline", "nearest")
    assert "--outline: does not go with --baseline nearest; leave it out" in message
