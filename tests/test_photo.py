"""What the photo still tells: its camera is found by the outline, its colours land where it saw them, a code follows the outline."""

import copy
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image
from scipy.ndimage import binary_dilation, binary_erosion

from helpers import AnalyticShape, refused, write_toy_collection
from tars3d import cli
from tars3d.arguments import Background, CameraMode, check_choice, choose_device
from tars3d.data.collection import load_collection
from tars3d.data.framing import Crop, FramedPicture, bbox_crop
from tars3d.data.image_record import parse_camera
from tars3d.data.pictures import Picture, as_picture, read_picture
from tars3d.demo import sample_pictures
from tars3d.errors import UserError
from tars3d.evaluate.predictors import AnswerSettings
from tars3d.geometry.camera import look_at_origin
from tars3d.geometry.rasterize import project, silhouette
from tars3d.geometry.silhouette_fit import (
    NEAREST,
    CenteredCamera,
    SilhouetteTarget,
    aligned,
    fit_silhouette,
    turn_between,
)
from tars3d.geometry.views import render_view
from tars3d.photo.camera import (
    ORANGE,
    PhotoCamera,
    camera_batch,
    centered_cameras,
    find_camera,
    overlay,
    refitted,
    silhouette_iou,
)
from tars3d.photo.colors import in_photo_colors, photo_colors
from tars3d.photo.cut_off import find_extent
from tars3d.photo.fitting import refine_picture
from tars3d.photo.refine import RefineSettings, deepest_points, refine_code
from tars3d.photo.texture import PhotoColors, extended, ramp
from tars3d.reconstruct import Reconstructor, load
from tars3d.transfer import TransferSettings
from tars3d.transfer.painted import read_painted
from tars3d.transfer.session import Session

SIZE = 96


def throne() -> trimesh.Trimesh:
    """A seat, a back and one arm: no view of it looks like another."""
    parts = [((0.6, 0.2, 0.6), (0, -0.2, 0)), ((0.6, 0.7, 0.1), (0, 0.15, 0.25)), ((0.1, 0.3, 0.5), (0.3, 0, -0.05))]
    boxes = [trimesh.creation.box(extents).apply_translation(place) for extents, place in parts]
    return trimesh.util.concatenate([box.subdivide().subdivide() for box in boxes])


def camera(azimuth: float = 35, elevation: float = 20, inverse_depth: float = 0.37) -> CenteredCamera:
    rotation = look_at_origin(azimuth, elevation, 2.7)[:, :3]
    return CenteredCamera(rotation, 70.0, np.array([50.0, 46.0]), inverse_depth)


def mask_of(mesh: trimesh.Trimesh, seen_by: CenteredCamera, size: int = SIZE) -> np.ndarray:
    return silhouette(mesh, *seen_by.pinhole(), size, size)


@pytest.mark.parametrize("inverse_depth", [0.0, 0.37])
def test_a_centred_camera_is_the_packages_own(inverse_depth):
    points = np.random.default_rng(0).uniform(-0.5, 0.5, (20, 3))
    one = camera(inverse_depth=inverse_depth)
    np.testing.assert_allclose(one.project(points), project(points, *one.pinhole())[0], atol=1e-9)
    again = centered_cameras(camera_batch(one, torch.device("cpu")))[0]
    np.testing.assert_allclose(again.project(points), one.project(points), atol=1e-3)


def test_the_projections_derivative_is_that_of_small_steps():
    points, one = np.random.default_rng(0).uniform(-0.5, 0.5, (5, 3)), camera()
    for number in range(7):
        step = np.zeros(7)
        step[number] = 1e-6
        slope = (one.moved(step).project(points) - one.moved(-step).project(points)) / 2e-6
        np.testing.assert_allclose(one.jacobian(points)[:, :, number], slope, atol=1e-4)


def test_a_camera_ten_degrees_off_is_pulled_to_the_outline():
    mesh, true = throne(), camera()
    points = trimesh.sample.sample_surface(mesh, 3000, seed=0)[0]
    start = true.moved(np.array([0.1, -0.12, 0.08, 0.1, 4, -3, 0.05]))
    mask = mask_of(mesh, true)
    found, _ = fit_silhouette(points, SilhouetteTarget(mask), start, turn_prior=400.0)
    assert turn_between(start.rotation, true.rotation) > 9
    assert turn_between(found.rotation, true.rotation) < 4
    assert silhouette_iou(mesh, start, mask) < 0.85
    assert silhouette_iou(mesh, found, mask) > 0.94


def test_what_the_picture_does_not_show_does_not_pull_the_camera():
    mesh, true = throne(), camera()
    points = trimesh.sample.sample_surface(mesh, 3000, seed=0)[0]
    start = true.moved(np.array([0.05, -0.06, 0.04, 0.05, 2, -2, 0.02]))
    mask = mask_of(mesh, true)
    seen = np.ones_like(mask)
    seen[len(mask) * 3 // 5 :] = False  # the picture ends there
    cut = mask & seen
    known, _ = fit_silhouette(points, SilhouetteTarget(cut, seen), start, turn_prior=400.0)
    taken_for_whole, _ = fit_silhouette(points, SilhouetteTarget(cut), start, turn_prior=400.0)
    assert silhouette_iou(mesh, true, cut, seen) == pytest.approx(1)
    assert silhouette_iou(mesh, true, cut) < 0.8
    assert silhouette_iou(mesh, known, mask) > 0.9
    assert silhouette_iou(mesh, taken_for_whole, mask) < 0.85


def filling(mesh: trimesh.Trimesh, seen_by: CenteredCamera, framed: FramedPicture) -> CenteredCamera:
    """The camera under which the mesh fills the frame, as a model that knows whole objects sees it."""
    whole = SilhouetteTarget(np.pad(np.ones((SIZE - 16, SIZE - 16), bool), 8))
    return aligned(np.asarray(mesh.vertices), whole, seen_by)


@pytest.mark.parametrize(("lost", "side"), [(0.25, "bottom"), (0.2, "right"), (0.0, "bottom")])
def test_the_extent_of_an_object_that_is_cut_off_is_found(lost, side):
    mesh, true = throne(), camera()
    picture = photo_of(mesh, true)
    rows, columns = np.flatnonzero(picture.mask.any(1)), np.flatnonzero(picture.mask.any(0))
    end = rows[-1] + 1 - round(lost * len(rows)) if side == "bottom" else columns[-1] + 1 - round(lost * len(columns))
    window = np.s_[:end] if side == "bottom" else np.s_[:, :end]
    part = Picture(picture.rgb[window], picture.mask[window])
    extent = find_extent(part, (side,), SIZE / (SIZE - 16), SIZE, lambda framed: (mesh, filling(mesh, true, framed)))
    assert extent.beyond[side] == pytest.approx(lost / (1 - lost), abs=0.1)
    assert extent.overlap > 0.85
    assert "cuts the object off" in extent.sentence() if lost else "taken for whole" in extent.sentence()


@pytest.mark.parametrize(("gain", "goes_on"), [(0.01, False), (0.03, True)])
def test_an_object_on_the_edge_is_whole_unless_going_on_fits_clearly_better(monkeypatch, gain, goes_on):
    picture, seen = photo_of(throne(), camera()), []
    rows = np.flatnonzero(picture.mask.any(1))
    part = Picture(picture.rgb[: rows[-1]], picture.mask[: rows[-1]])

    def overlap(mesh, camera, mask, shown):
        seen.append(shown)
        return 0.8 if len(seen) == 1 else 0.8 + gain

    monkeypatch.setattr("tars3d.photo.cut_off.fit_silhouette", lambda points, target, start, **_: (start, 0.0))
    monkeypatch.setattr("tars3d.photo.cut_off.silhouette_iou", overlap)
    extent = find_extent(part, ("bottom",), 1.2, SIZE, lambda framed: (throne(), camera()))
    assert (extent.beyond["bottom"] > 0) == goes_on
    assert seen[0].all(), "taken for whole, it is nowhere beyond the picture"
    assert not seen[-1].all()


def test_cameras_stay_in_front_of_the_object_and_near_the_depth_that_is_known(monkeypatch):
    mesh, true = throne(), camera()
    for step, inverse in ((5.0, NEAREST), (-5.0, 0.0)):
        assert true.moved(np.array([0, 0, 0, 0, 0, 0, step])).inverse_depth == inverse
    points = trimesh.sample.sample_surface(mesh, 1000, seed=0)[0]
    target, start = SilhouetteTarget(mask_of(mesh, true)), replace(true, inverse_depth=0.2)
    depths = []
    for prior in (1e-4, 10.0):
        monkeypatch.setattr("tars3d.geometry.silhouette_fit.DEPTH_PRIOR", prior)
        depths.append(fit_silhouette(points, target, start)[0].inverse_depth)
    held, free = depths
    assert abs(held - 0.2) < 1e-3 < abs(free - 0.2)


def test_a_picture_that_cuts_its_chair_off_says_so(chair):
    picture = read_picture(sample_pictures()[0])
    rows = np.flatnonzero(picture.mask.any(axis=1))
    end = rows[-1] - len(rows) // 5
    part = replace(picture, rgb=picture.rgb[:end], mask=picture.mask[:end])
    found = chair.reconstruct_pictures([part], resolution=24)
    assert any("cuts the object off" in note for note in found.notes)
    assert not any("cut" in note for note in chair.reconstruct_pictures([picture], resolution=24).notes)
    left_alone = chair.reconstruct_pictures([part], resolution=24, camera="none")
    assert any("touches the picture's edge (bottom)" in note for note in left_alone.notes)
    np.testing.assert_array_equal(left_alone.framed, chair.frame(part))
    square = bbox_crop(part.mask, 1.2)  # that a collection names, for models that look at such squares
    assert any("cuts the object off" in note for note in chair.view(part, square)[1])


def test_an_object_that_is_too_thin_to_be_seen_is_refused_by_name(chair, tmp_path):
    pole = np.zeros((1000, 200, 4), np.uint8)
    pole[100:900, 99:101] = 255
    Image.fromarray(pole).save(tmp_path / "pole.png")
    with pytest.raises(UserError, match=r"pole\.png: its object is too thin.* at 128 pixels"):
        chair.reconstruct(tmp_path / "pole.png")


def test_a_small_object_is_told(chair):
    small = Image.open(sample_pictures()[0]).resize((24, 24))
    assert any(
        "pixels large, little of it can be seen" in note for note in chair.reconstruct(small, resolution=16).notes
    )


def test_an_object_of_a_few_pixels_is_refused(chair):
    speck = np.zeros((64, 64, 4), np.uint8)
    speck[:3, :4] = 255
    with pytest.raises(UserError, match="its object is 4 pixels large"):
        chair.reconstruct(speck, resolution=16)


def test_a_model_that_gives_nan_is_told_in_a_line(chair, monkeypatch):
    monkeypatch.setattr(chair, "model", copy.deepcopy(chair.model))
    for values in chair.model.encoder.code.parameters():
        values.fill_(3e38)
    with pytest.raises(UserError, match="gives no shape for this picture"):
        chair.reconstruct(sample_pictures()[0], resolution=16, camera="none")


def test_numbers_that_are_none_are_refused_and_results_can_be_kept_in_sets(chair):
    picture = sample_pictures()[0]
    for option, value in (("refine", True), ("refine", -1), ("seed", -1), ("seed", 2**40), ("seed", True)):
        with pytest.raises(UserError, match=f"--{option} {value}"):
            chair.reconstruct(picture, resolution=16, **{option: value})
    assert len({chair.reconstruct(picture, resolution=16)}) == 1


def test_evaluation_answers_a_cut_picture_as_reconstruct_does(chair, tmp_path):
    record = load_collection(write_toy_collection(tmp_path)).split("train")[0]
    picture = read_picture(sample_pictures()[0])
    rows = np.flatnonzero(picture.mask.any(axis=1))
    end = rows[-1] - len(rows) // 4
    part = replace(picture, rgb=picture.rgb[:end], mask=picture.mask[:end])
    answer = AnswerSettings(24).of(chair, [record], [part])
    np.testing.assert_array_equal(answer.framed, chair.reconstruct_pictures([part], resolution=24).framed)
    assert answer.camera is None  # no figure needs it
    annotated = AnswerSettings(24, refine_camera="annotated").of(chair, [record], [part])
    np.testing.assert_array_equal(annotated.mesh.vertices, answer.mesh.vertices)


def test_a_target_that_its_picture_cuts_off_says_so(chair, tmp_path):
    picture = Image.open(sample_pictures()[0])
    picture.crop((0, 0, picture.width, picture.height * 3 // 5)).save(tmp_path / "part.png")
    session = object.__new__(Session)  # its source plays no part
    session.settings, session.model = TransferSettings(resolution=24), chair
    target = session.from_pictures([tmp_path / "part.png"], "auto", "photo")
    assert any("cuts the object off" in note for note in target.notes)
    assert target.colors.known.max() > 0.9


def photo_of(mesh: trimesh.Trimesh, seen_by: CenteredCamera, size: int = 160) -> Picture:
    """A picture in which the object is small and off the middle; `seen_by` is of a 96-pixel crop at (40, 20)."""
    intrinsics, extrinsics, perspective = seen_by.pinhole()
    intrinsics = np.array([[1, 0, 40], [0, 1, 20], [0, 0, 1.0]]) @ intrinsics
    rgb = render_view(mesh, intrinsics, extrinsics, perspective, size, size, light=False, supersample=1)
    return Picture(rgb, silhouette(mesh, intrinsics, extrinsics, perspective, size, size))


@pytest.mark.parametrize("start", ["searched", "predicted"])
def test_the_found_camera_draws_the_mesh_onto_the_uncropped_picture(start):
    mesh, true = throne(), camera()
    picture = photo_of(mesh, true)
    crop = bbox_crop(picture.mask, 1.2)
    framed = FramedPicture.of(picture.rgb, picture.mask, crop, SIZE)
    scale = SIZE / crop.side
    turn = true.moved(np.array([0.05, 0.1, 0, 0, 0, 0, 0])).rotation
    predicted = CenteredCamera(turn, 70 * scale, (true.center + np.array([40 - crop.x, 20 - crop.y])) * scale, 0.37)
    found = find_camera(mesh, framed, predicted if start == "predicted" else None, search=False)
    assert found.source == start
    assert turn_between(found.extrinsics[:, :3], true.rotation) < 8
    drawn = silhouette(mesh, found.intrinsics, found.extrinsics, found.perspective, 160, 160)
    assert (drawn & picture.mask).sum() / (drawn | picture.mask).sum() > 0.9
    assert found.start_iou is None if start == "searched" else found.iou >= found.start_iou
    assert abs(found.azimuth - 35) < 8
    assert abs(found.elevation - 20) < 8
    # What is written can be read back as a collection's camera.
    model, intrinsics, extrinsics = parse_camera("here", found.to_json()["camera"])
    assert model == "perspective"
    np.testing.assert_allclose(intrinsics, found.intrinsics, atol=1e-5)
    np.testing.assert_allclose(extrinsics, found.extrinsics, atol=1e-6)
    assert "x right, y down" in found.to_json()["convention"]  # the file says of itself what its numbers mean


def test_a_fit_that_loses_overlap_is_not_taken(monkeypatch):
    mesh, true = throne(), camera()
    picture = photo_of(mesh, true)
    crop = bbox_crop(picture.mask, 1.2)
    framed = FramedPicture.of(picture.rgb, picture.mask, crop, SIZE)
    scale = SIZE / crop.side
    center = (true.center + np.array([40 - crop.x, 20 - crop.y])) * scale
    predicted = CenteredCamera(true.rotation, 70 * scale, center, 0.37)
    lost = replace(predicted, center=center + 30)
    monkeypatch.setattr("tars3d.photo.camera.fit_silhouette", lambda *_, **__: (lost, 0.0))
    found = find_camera(mesh, framed, predicted, search=False)
    assert found.framed is predicted
    assert found.iou == found.start_iou > 0.9


def known_camera(seen_by: CenteredCamera, size: int) -> PhotoCamera:
    intrinsics, extrinsics, perspective = seen_by.pinhole()
    shifted = np.array([[1, 0, 40], [0, 1, 20], [0, 0, 1.0]]) @ intrinsics
    return PhotoCamera(shifted, extrinsics, perspective, (size, size), "predicted", 1.0, 1.0, seen_by)


def test_an_overlay_of_a_large_photo_shows_the_mesh_where_the_smaller_photo_does(monkeypatch):
    mesh, true = throne(), camera()
    picture = photo_of(mesh, true)
    monkeypatch.setattr("tars3d.photo.camera.OVERLAY_SIZE", 80)
    drawn = overlay(picture, mesh, known_camera(true, 160))
    assert drawn.shape == (80, 80, 3)
    outline = (drawn == ORANGE).all(axis=-1)
    small = np.asarray(Image.fromarray(picture.mask).resize((80, 80)))
    assert outline.sum() > 60
    assert not (outline & binary_erosion(small, iterations=2)).any()
    assert not (outline & ~binary_dilation(small, iterations=3)).any()


def test_the_photo_lands_on_what_it_shows_and_its_mirror_image_opposite():
    """Red on the camera's side of the mirror plane, green on the other: only red is photographed; the field says blue."""
    ball = trimesh.creation.icosphere(subdivisions=5, radius=0.4)
    mesh = ball.copy()
    mesh.visual.vertex_colors = np.tile(np.uint8([200, 30, 30, 255]), (len(mesh.vertices), 1))
    seen_by = camera(azimuth=90, elevation=0)  # stands at +X
    picture = photo_of(mesh, seen_by)
    picture.rgb[~picture.mask] = [0, 250, 0]  # must not bleed in

    def field(points: np.ndarray) -> np.ndarray:
        return np.tile([30.0, 30.0, 200.0], (len(points), 1))

    face = np.arange(len(ball.faces))
    weights = np.full((len(face), 3), 1 / 3)
    x = ball.triangles_center[:, 0]
    for mirror in (False, True):
        colors = PhotoColors([picture], ball, [known_camera(seen_by, 160)], field, mirror=mirror)
        colors._shift[:] = 0  # the field as it is, to tell it apart
        found = colors(face, weights).astype(int)
        assert np.abs(found[x > 0.25] - [200, 30, 30]).max() <= 3
        assert found[:, 1].max() <= 40, "the ground bleeds into the texture"
        assert np.abs(found[x < -0.3] - ([200, 30, 30] if mirror else [30, 30, 200])).max() <= 3
        np.testing.assert_array_equal(found[np.abs(x) < 0.02][:, 2] > 150, True)  # the rim is seen from the side
        assert abs(colors.shares.photo + colors.shares.mirrored + colors.shares.field - 100) < 1e-6
        assert (colors.shares.mirrored > 20) is mirror
    # Left alone, the field is shifted to what the photo shows: nothing of it stays blue.
    tuned = PhotoColors([picture], ball, [known_camera(seen_by, 160)], field, mirror=False)
    assert np.abs(tuned(face, weights).astype(int) - [200, 30, 30]).max() <= 3


def test_vertices_wear_what_the_picture_shows_and_say_how_much_of_it():
    ball = trimesh.creation.icosphere(subdivisions=3, radius=0.3)
    seen_by = camera(azimuth=90, elevation=0)  # stands at +X
    red = ball.copy()
    red.visual.vertex_colors = np.tile(np.uint8([200, 30, 30, 255]), (len(ball.vertices), 1))
    colors = PhotoColors([photo_of(red, seen_by)], ball, [known_camera(seen_by, 160)], np.zeros_like, mirror=False)
    colors._shift[:] = 0
    found, x = colors.at_vertices(), ball.vertices[:, 0]
    np.testing.assert_allclose(found.known[x > 0.2], 1, atol=0.01)
    np.testing.assert_array_equal(found.known[x < 0], 0)
    assert np.abs(found.rgb[x > 0.25] - [200, 30, 30]).max() <= 3
    assert np.abs(found.rgb[x < 0]).max() == 0


def test_the_hidden_side_learns_from_what_the_field_takes_for_the_same_part():
    """A ball that is of one colour in the photo; the field takes it for dark above and light below."""
    ball = trimesh.creation.icosphere(subdivisions=4, radius=0.3)
    seen_by = camera(azimuth=90, elevation=0)  # stands at +X
    grey = ball.copy()
    grey.visual.vertex_colors = np.tile(np.uint8([150, 150, 150, 255]), (len(ball.vertices), 1))

    def field(points):
        return np.where(points[:, 1:2] > 0, 60.0, 240.0) * np.ones(3)

    colors = PhotoColors([photo_of(grey, seen_by)], ball, [known_camera(seen_by, 160)], field, mirror=False)
    behind = colors.at_vertices().rgb[ball.vertices[:, 0] < 0]
    assert np.abs(behind - 150).max() < 15, "what is beside it in space would have left dark and light at the seam"


def test_what_hides_behind_another_part_is_not_photographed():
    wall = trimesh.creation.box((0.02, 0.8, 0.8)).subdivide().subdivide().apply_translation([-0.2, 0, 0])
    screen = trimesh.creation.box((0.02, 0.3, 0.3)).subdivide().subdivide().apply_translation([0.3, 0, 0])
    mesh = trimesh.util.concatenate([wall, screen])
    seen_by = camera(azimuth=90, elevation=0, inverse_depth=0.0)
    colors = PhotoColors([photo_of(mesh, seen_by)], mesh, [known_camera(seen_by, 160)], np.zeros_like, mirror=False)
    asked = np.array([[-0.19, 0.05, 0.05], [-0.19, 0.33, 0.3], [0.31, 0.05, 0.05], [0.29, 0.05, 0.05]])
    normals = np.array([[1.0, 0, 0], [1, 0, 0], [1, 0, 0], [-1, 0, 0]])
    trust = colors.seen(asked, normals)[1]
    np.testing.assert_allclose(trust, [0, 1, 1, 0], atol=0.01)


def test_colors_go_on_beyond_the_outline_and_fade():
    rgb = np.zeros((64, 64, 3), np.uint8)
    mask = np.zeros((64, 64), bool)
    rgb[20:40, 20:40], mask[20:40, 20:40] = 200, True
    colors, trust = extended(rgb, mask)
    assert (colors == 200).all()
    assert (trust[mask] == 1).all()
    assert trust[30, 45] == 0
    np.testing.assert_allclose(ramp(np.array([-1, 0, 0.5, 1, 2.0]), 0, 1), [0, 0, 0.5, 1, 1])


def test_a_thin_leg_beside_a_wide_seat_keeps_its_own_colour():
    rgb = np.full((64, 64, 3), 255, np.uint8)
    mask = np.zeros((64, 64), bool)
    rgb[10:30, 10:50], mask[10:30, 10:50] = (200, 30, 30), True
    rgb[30:60, 12:16], mask[30:60, 12:16] = (20, 20, 20), True
    colors, trust = extended(rgb, mask)
    assert (colors[34:58, 12:16] == 20).all()
    assert (trust[mask] == 1).all()


def test_the_deepest_point_of_a_ray_is_that_of_a_dense_search():
    ball = AnalyticShape(lambda points: points.norm(dim=-1) - 0.3)
    cameras = camera_batch(camera(azimuth=20), torch.device("cpu"))
    pixels = torch.tensor([[50.0, 46.0], [60.0, 50.0], [70.0, 46.0], [500.0, 500.0]])
    points, hits = deepest_points(ball, cameras, pixels, 0.55, 200, torch.Generator().manual_seed(0))
    assert hits.tolist() == [True, True, True, False]
    origins, directions = cameras.rays(pixels[None])
    depth = torch.linspace(1, 4.5, 20001)
    along = origins[0, :3, None] + depth[:, None] * directions[0, :3, None]
    dense = along.norm(dim=-1).amin(dim=1) - 0.3
    torch.testing.assert_close(ball.sdf(points)[0, :3], dense, atol=5e-3, rtol=0)


@pytest.fixture(scope="module")
def chair() -> Reconstructor:
    return load("chair", device="cpu")


def test_a_picture_whose_camera_is_not_to_be_trusted_lends_no_colors(chair):
    picture = as_picture(sample_pictures()[0])
    found = chair.reconstruct_pictures([picture], resolution=32, colors="model")
    assert found.camera is not None
    assert found.camera.trusted
    seen, doubted = (
        in_photo_colors(
            [picture], replace(found, cameras=(replace(found.camera, iou=iou),)), chair.symmetric, chair.device
        )
        for iou in (0.6, 0.4)
    )
    assert seen.colors.known.max() > 0.9
    np.testing.assert_array_equal(seen.mesh.visual.vertex_colors[:, :3], seen.colors.rgb.round())
    assert doubted.mesh is found.mesh
    assert doubted.colors.known.max() == 0
    np.testing.assert_array_equal(doubted.colors.rgb, found.mesh.visual.vertex_colors[:, :3])


def test_vertices_wear_the_picture_unless_the_model_is_to_color_them(chair):
    """A chair painted in stripes that the model, which knows one colour a part, cannot give."""
    picture = as_picture(sample_pictures()[0])
    striped = picture.rgb.copy()
    striped[::2] = [255, 0, 0]
    picture = replace(picture, rgb=np.where(np.arange(len(striped))[:, None, None] // 8 % 2, striped, 255 - striped))
    worn = chair.reconstruct_pictures([picture], resolution=48)
    plain = chair.reconstruct_pictures([picture], resolution=48, colors="model")
    np.testing.assert_array_equal(worn.mesh.vertices, plain.mesh.vertices)
    np.testing.assert_array_equal(worn.canonical, plain.canonical)
    assert plain.colors.known.max() == 0
    assert 0.2 < (worn.colors.known > 0.5).mean() < 0.9
    seen = worn.colors.known > 0.9
    spread = [
        np.asarray(one.mesh.visual.vertex_colors)[seen, :3].astype(float).std(axis=0).mean() for one in (worn, plain)
    ]
    assert spread[0] > 2 * spread[1]
    assert chair.reconstruct_pictures([picture], resolution=24, camera="none").colors.known.max() == 0


def test_a_code_follows_the_outline_and_the_prior_holds_it(chair):
    """The outline of the category's mean shape: a chair's code moves towards it."""
    framed = chair.frame(read_picture(sample_pictures()[0]))
    code, small = chair.codes(framed[None]), {"rays": 192, "samples": 16}
    seen_by = CenteredCamera(camera().rotation, 90.0, np.array([64.0, 64.0]), 0.37)

    def mesh(code: torch.Tensor) -> trimesh.Trimesh:
        with torch.no_grad():
            return chair.mesh(chair.model.shape(code), framed, resolution=32).mesh

    target = mask_of(mesh(chair.model.mean_code[None]), seen_by, 128)
    cameras = camera_batch(seen_by, chair.device)
    free = refine_code(chair.model, code, cameras, target, 12, settings=RefineSettings(**small))
    held = refine_code(chair.model, code, cameras, target, 12, settings=RefineSettings(**small, prior=1e4))
    before, after = (silhouette_iou(mesh(found), seen_by, target) for found in (code, free))
    assert after > before + 0.02
    assert (held - code).norm() < 0.3 * (free - code).norm()
    again = refine_code(chair.model, code, cameras, target, 12, settings=RefineSettings(**small))
    assert torch.equal(again, free)
    assert all(parameter.grad is None for parameter in chair.model.parameters())


def test_rays_of_a_refinement_ask_where_the_picture_says_something(chair, monkeypatch):
    asked = []

    def noted(shape, cameras, pixels, *rest):
        asked.append(pixels)
        return deepest_points(shape, cameras, pixels, *rest)

    monkeypatch.setattr("tars3d.photo.refine.deepest_points", noted)
    code = chair.model.mean_code[None]
    mask = np.zeros((128, 128), bool)
    mask[30:128, 40:90] = True
    seen = np.ones_like(mask)
    seen[90:] = False  # the picture ends there
    cameras = camera_batch(replace(camera(), center=np.array([64.0, 64.0])), chair.device)
    settings = RefineSettings(rays=64, samples=8)
    refine_code(chair.model, code, cameras, mask & seen, 2, seen=seen, settings=settings, spread=0.1)
    assert len(asked) == 2
    assert all(len(pixels) == 64 and float(pixels[:, 1].max()) < 90 for pixels in asked)


def test_a_refinement_that_makes_the_outline_worse_is_left(chair, monkeypatch):
    mesh, true = throne(), camera()
    mask, seen = mask_of(mesh, true), np.arange(SIZE)[:, None].repeat(SIZE, axis=1) < SIZE - 2
    rgb = np.full((SIZE, SIZE, 3), 90, np.uint8)
    framed = FramedPicture(rgb, mask, Crop(0.0, 0.0, float(SIZE)), (SIZE, SIZE), seen)
    code, told = chair.model.mean_code[None], []

    def moved(model, code, cameras, mask, steps, *, seen, **rest):
        told.append(seen)
        return code + 1

    def known(mesh, picture, predicted, **rest):
        return replace(known_camera(true, SIZE), iou=silhouette_iou(mesh, true, picture.mask, picture.seen))

    monkeypatch.setattr("tars3d.photo.fitting.refine_code", moved)
    monkeypatch.setattr("tars3d.photo.fitting.find_camera", known)
    for better in (False, True):

        def draft(given: torch.Tensor, better=better) -> trimesh.Trimesh:
            right = torch.equal(given, code) != better
            return mesh if right else trimesh.creation.icosphere(3, 0.2)

        found = refine_picture(chair.model, code, framed, None, draft, 5, search=False)
        assert found is not None
        assert found.kept == better
        assert torch.equal(found.code, code + better)
        assert ("not refined" in found.sentence(0.9)) != better
        assert told[-1] is seen


def test_one_side_is_coloured_by_the_other_only_where_objects_are_symmetric(chair):
    picture = as_picture(sample_pictures()[0])
    found = chair.reconstruct_pictures([picture], resolution=24)
    assert photo_colors([picture], found, True, chair.device).mirrors
    assert not photo_colors([picture], found, False, chair.device).mirrors


def test_the_command_writes_camera_overlay_and_photo_texture(tmp_path, capsys, monkeypatch):
    pytest.importorskip("xatlas", reason="needs the extra `texture`")
    picture = sample_pictures()[0]
    options = ["--resolution", "32", "--texture", "photo", "--texture-size", "256", "--refine", "2", "--device", "cpu"]
    cli.main(["reconstruct", str(picture), "--out", str(tmp_path), *options])
    said = capsys.readouterr().out
    assert re.search(r"camera (predicted|searched): azimuth", said)
    assert "refined in 2 steps" in said or "not refined" in said
    assert "% from the photo" in said
    written = json.loads((tmp_path / f"{picture.stem}.camera.json").read_text())
    assert written["mesh"] == f"{picture.stem}.glb"
    size = Image.open(picture).size
    assert written["picture"] == list(size)
    assert Image.open(tmp_path / f"{picture.stem}.overlay.png").size == size
    assert read_painted(tmp_path / f"{picture.stem}.glb").sample(10, 0)
    assert not [path for path in tmp_path.rglob("*") if "partial" in path.name]
    for wrong, message in (
        (["--texture", "photo", "--camera", "none"], "--texture photo: needs the picture's camera"),
        (["--refine", "5", "--camera", "none"], "--refine: needs the picture's camera"),
        (["--refine", "-1"], "--refine -1: choose"),
        (["--texture", "photo", "--format", "ply"], "--texture photo: is not written into ply"),
        (["--texture", "photo", "--colors", "model"], "--colors model: is about vertex colours"),
    ):
        assert message in refused(capsys, "reconstruct", picture, "--out", tmp_path / "none", *wrong)
    assert not (tmp_path / "none").exists()


def test_a_mesh_without_camera_loses_that_of_an_earlier_run(tmp_path):
    picture = sample_pictures()[0]
    camera, overlay = (tmp_path / f"{picture.stem}.{ending}" for ending in ("camera.json", "overlay.png"))
    camera.write_text(json.dumps({"mesh": f"{picture.stem}.glb"}))
    overlay.write_bytes(b"an earlier picture")
    options = ["--resolution", "16", "--camera", "none", "--device", "cpu", "--out", str(tmp_path)]
    cli.main(["reconstruct", str(picture), "--format", "ply", *options])
    assert camera.exists(), "that of the GLB, which is still there"
    assert overlay.exists()
    cli.main(["reconstruct", str(picture), *options])
    assert not camera.exists()
    assert not overlay.exists()


def test_a_model_with_a_camera_head_is_asked_for_the_start(chair, monkeypatch):
    asked = []

    def noted(mesh, view, start, **rest):
        asked.append((view, start, rest))
        return find_camera(mesh, view, start, **rest)

    monkeypatch.setattr("tars3d.reconstruct.find_camera", noted)
    picture = sample_pictures()[0]
    assert chair.reconstruct(picture, resolution=32, camera="none").camera is None
    assert not asked
    found = chair.reconstruct(picture, resolution=32, seed=5)
    ((view, start, rest),) = asked
    assert rest == {"search": False, "seed": 5}
    np.testing.assert_allclose(start.rotation, chair.predicted_camera(view.rgb).rotation, atol=1e-6)
    assert found.camera is not None
    assert any(note.startswith("camera ") for note in found.notes)


def test_refining_that_cannot_begin_is_said(chair, monkeypatch):
    monkeypatch.setattr("tars3d.reconstruct.refine_picture", lambda *arguments, **rest: None)
    found = chair.reconstruct(sample_pictures()[0], resolution=32, refine=3)
    assert "not refined: the coarse mesh that the camera is found with is empty" in found.notes
    assert found.camera is not None


def test_a_camera_that_no_longer_fits_is_searched_and_says_so():
    mesh, true = throne(), camera()
    picture = photo_of(mesh, true)
    framed = FramedPicture.of(picture.rgb, picture.mask, bbox_crop(picture.mask, 1.2), SIZE)
    before = find_camera(mesh, framed, None)
    near = refitted(replace(before, source="predicted", start_iou=0.7), mesh, framed, seed=1)
    assert (near.source, near.start_iou) == ("predicted", 0.7)
    lost = replace(before.framed, center=np.array([900.0, 900.0]))
    searched = refitted(replace(before, source="predicted", framed=lost), mesh, framed, seed=1)
    assert (searched.source, searched.start_iou) == ("searched", None)


@pytest.fixture(scope="module")
def without_truth(tmp_path_factory) -> Path:
    return write_toy_collection(tmp_path_factory.mktemp("toys"), objects=1, views=1, size=48, truth=False)


def test_evaluation_sees_silhouettes_from_both_cameras_and_after_refining(without_truth, tmp_path, capsys):
    def evaluated(*options) -> dict:
        fixed = ["--out", str(tmp_path), "--resolution", "16", "--device", "cpu"]
        cli.main(["evaluate", str(without_truth), "--model", "chair", *fixed, *options])
        return json.loads((tmp_path / "metrics.json").read_text())

    plain = evaluated()
    rows = plain["instances"]
    assert plain["mask_iou"] == np.mean([row["mask_iou"] for row in rows])
    assert plain["camera_found"]["mask_iou"] == np.mean([row["mask_iou_camera_found"] for row in rows])
    assert "IoU, camera found" in capsys.readouterr().out
    refined = evaluated("--refine", "8", "--refine-camera", "annotated")
    assert refined["mask_iou"] > plain["mask_iou"]
    assert "fitted to these masks in 8 steps, seen by the annotated camera" in capsys.readouterr().out
    mean = [
        evaluated("--baseline", "mean-shape", *more)
        for more in ((), ("--refine", "24", "--refine-camera", "annotated"))
    ]
    assert mean[1]["mask_iou"] > mean[0]["mask_iou"]


@pytest.mark.parametrize("baseline", ["nearest", "mean-shape"])
def test_baselines_that_have_no_code_of_the_picture_are_not_refined(without_truth, capsys, baseline):
    message = refused(capsys, "evaluate", without_truth, "--model", "chair", "--refine", "5", "--baseline", baseline)
    assert f"--refine: does not go with --baseline {baseline}; leave it out" in message
    assert ("choose --refine-camera annotated" in message) == (baseline == "mean-shape"), "a cure that is none"


@pytest.mark.parametrize(
    ("check", "value", "words"),
    [
        (
            lambda word: check_choice(CameraMode, camera=word),
            "serach",
            "--camera serach: choose one of auto, search, none",
        ),
        (
            lambda word: check_choice(Background, background=word),
            "nnone",
            "--background nnone: choose one of none, white",
        ),
        (choose_device, "gpu", "--device gpu: choose auto, cpu or cuda"),
    ],
)
def test_python_callers_are_told_which_words_there_are(check, value, words):
    with pytest.raises(UserError, match=words):
        check(value)
