"""Several pictures of one object: one mesh with all their outlines, cameras that agree, colours of all of them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

from helpers import AnalyticShape, box, refused, write_toy_collection
from tars3d import cli
from tars3d.data.framing import Crop, FramedPicture
from tars3d.data.pictures import Picture, as_picture, sample_pictures
from tars3d.errors import UserError
from tars3d.geometry.camera import look_at_origin
from tars3d.geometry.isosurface import extract_mesh
from tars3d.geometry.masks import mask_iou
from tars3d.geometry.rasterize import silhouette
from tars3d.geometry.silhouette_fit import CenteredCamera, turn_between
from tars3d.geometry.views import render_view
from tars3d.methods.corrected import CorrectedShape
from tars3d.photo import together
from tars3d.photo.camera import PhotoCamera
from tars3d.photo.outline import Outlined, OutlineSettings, SeenOutline, fit_outline
from tars3d.photo.texture import PhotoColors
from tars3d.photo.together import STIFF, agreed_cameras
from tars3d.reconstruct import Reconstructor, load

SIZE, BOUND = 64, 0.6


@pytest.fixture(scope="module")
def chair() -> Reconstructor:
    return load("chair", device="cpu")


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> list[Path]:
    """Two pictures of one chair: a sample, and its mirror image, which shows the same chair from the other side."""
    folder = tmp_path_factory.mktemp("pair")
    picture = Image.open(sample_pictures()[0]).convert("RGBA").resize((160, 160))
    files = [folder / "left.png", folder / "right.png"]
    for file, view in zip(files, (picture, picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)), strict=True):
        view.save(file)
    return files


def camera(azimuth: float, elevation: float = 0) -> CenteredCamera:
    return CenteredCamera(look_at_origin(azimuth, elevation, 2.7)[:, :3], 45.0, np.array([32.0, 32.0]), 0.37)


def mesh_of(shape) -> trimesh.Trimesh:
    def sdf(points: np.ndarray) -> np.ndarray:
        return shape.sdf(torch.from_numpy(points).float()[None])[0].numpy()

    return extract_mesh(sdf, (-BOUND, BOUND), 48).mesh


def photo_camera(seen_by: CenteredCamera) -> PhotoCamera:
    return PhotoCamera(*seen_by.pinhole(), (SIZE, SIZE), "predicted", 1.0, 1.0, seen_by)


def test_each_outline_bends_what_the_other_cannot_see():
    cube, slab = box((0.3, 0.3, 0.3)), mesh_of(box((0.3, 0.3, 0.25)))
    views = [camera(0), camera(90)]
    masks = [silhouette(slab, *view.pinhole(), SIZE, SIZE) for view in views]
    outlines = [SeenOutline(view, mask) for view, mask in zip(views, masks, strict=True)]
    still = OutlineSettings(camera_learning_rate=0.0, mismatch=0.0)
    front_alone, both = (fit_outline(cube, seen, BOUND, settings=still) for seen in (outlines[:1], outlines))
    assert (len(front_alone.cameras), len(both.cameras)) == (1, 2)

    def overlaps(found) -> list[float]:
        mesh = mesh_of(found.shape)
        return [
            mask_iou(silhouette(mesh, *view.pinhole(), SIZE, SIZE), mask)
            for view, mask in zip([*found.cameras, views[1]], masks, strict=False)
        ]

    assert overlaps(both)[1] > overlaps(front_alone)[1] + 0.05, "nothing in the front view says how deep it is"
    assert min(overlaps(both)) > 0.86


def throne() -> AnalyticShape:
    """A seat, a back and one arm: no view of it looks like another."""
    parts = [
        ((0.3, 0.1, 0.3), (0, -0.2, 0)),
        ((0.3, 0.35, 0.06), (0, 0.15, 0.25)),
        ((0.06, 0.2, 0.25), (0.3, 0, -0.05)),
    ]

    def distance(points: torch.Tensor) -> torch.Tensor:
        apart = [box(half).distance(points - points.new_tensor(place)) for half, place in parts]
        return torch.stack(apart).amin(dim=0)

    return AnalyticShape(distance)


TRUE = [camera(20, 15), camera(110, 20), camera(-60, 25)]


def seen_from(view: CenteredCamera) -> FramedPicture:
    """A picture of the throne, as a model sees it."""
    mask = silhouette(mesh_of(throne()), *view.pinhole(), SIZE, SIZE)
    rgb = np.full((SIZE, SIZE, 3), 255, np.uint8)
    return FramedPicture(rgb, mask, Crop(0, 0, SIZE), (SIZE, SIZE), np.ones_like(mask))


def bent_stiffly(cameras, pictures) -> Outlined:
    outlines = [SeenOutline(one, picture.mask) for one, picture in zip(cameras, pictures, strict=True)]
    return fit_outline(throne(), outlines, BOUND, settings=STIFF)


def turns(cameras) -> list[float]:
    return [turn_between(one.rotation, true.rotation) for one, true in zip(cameras, TRUE, strict=True)]


def test_cameras_move_to_where_one_shape_suits_all_pictures():
    given = [TRUE[0], camera(122, 20), TRUE[2]]
    found = agreed_cameras([seen_from(view) for view in TRUE], given, bent_stiffly, mesh_of)
    assert turns(given)[1] > 11
    assert max(turns(found)) < 5


def test_a_camera_on_the_wrong_side_is_found_by_what_the_other_pictures_show():
    given = [TRUE[0], camera(-70, 20), TRUE[2]]
    found = agreed_cameras([seen_from(view) for view in TRUE], given, bent_stiffly, mesh_of)
    assert turns(given)[1] == pytest.approx(140, abs=40)
    assert max(turns(found)) < 8


def test_another_camera_is_left_where_all_pictures_together_fit_no_better(monkeypatch):
    asked = []

    def elsewhere(mesh, picture, predicted, *, search, seed):
        asked.append(search)
        return photo_camera(camera(-150, 80))

    monkeypatch.setattr(together, "find_camera", elsewhere)
    monkeypatch.setattr(together, "DOUBTED", 1.1)
    found = agreed_cameras([seen_from(view) for view in TRUE], TRUE, bent_stiffly, mesh_of)
    assert asked == [True] * 3
    assert max(turns(found)) < 5
    nothing = agreed_cameras([seen_from(view) for view in TRUE], TRUE, bent_stiffly, lambda shape: trimesh.Trimesh())
    assert max(turns(nothing)) < 5


def test_a_camera_that_is_put_elsewhere_is_judged_anew(chair, pair):
    picture = as_picture(pair[0])
    view, _ = chair.view(picture)
    shape = chair.model.shape(chair.codes(view.rgb[None]))
    found = chair.reconstruct(pair[0], resolution=24, outline="none").camera
    near, far = (found.framed.moved(np.array([0, turn, 0, 0, 0, 0, 0])) for turn in (0.1, 1.0))
    assert chair._moved(shape, found, near, view).iou == found.iou
    moved = chair._moved(shape, found, far, view)
    assert (moved.source, moved.start_iou) == ("searched", None)
    assert moved.iou < found.iou - 0.05


def test_pictures_of_one_object_make_one_mesh(chair, pair):
    found = chair.reconstruct_together(pair, resolution=32)
    assert isinstance(found.shape, CorrectedShape)
    assert len(found.cameras) == 2
    assert found.camera is found.cameras[0]
    left, right = (one.azimuth for one in found.cameras)
    assert left == pytest.approx(-right, abs=8), "they look from opposite sides"
    assert min(one.outline_iou for one in found.cameras) > 0.8
    assert [note.split(":")[0] for note in found.notes] == [str(path) for path in pair], "notes say of which picture"
    assert len(found.canonical) == len(found.mesh.vertices)
    plain = chair.reconstruct_together(pair, resolution=24, outline="none")
    assert len(plain.cameras) == 2
    assert not isinstance(plain.shape, CorrectedShape)
    assert chair.reconstruct_together(pair, resolution=24, camera="none").cameras == ()


def test_the_code_is_the_mean_of_the_pictures_codes(chair, pair, monkeypatch):
    asked = []
    shape = type(chair.model).shape
    monkeypatch.setattr(type(chair.model), "shape", lambda self, code: asked.append(code) or shape(self, code))
    other = sample_pictures()[1]
    for pictures in ([pair[0]], [other], [pair[0], other]):
        chair.reconstruct_together(pictures, resolution=16, camera="none")
    torch.testing.assert_close(asked[2], (asked[0] + asked[1]) / 2, rtol=1e-4, atol=1e-5)


def test_one_picture_together_is_that_picture(chair, pair):
    alone, together = chair.reconstruct(pair[0], resolution=24), chair.reconstruct_together(pair[:1], resolution=24)
    np.testing.assert_array_equal(alone.mesh.vertices, together.mesh.vertices)
    assert alone.notes == together.notes


def test_masks_are_those_of_their_pictures(chair, pair):
    rgba = np.asarray(Image.open(pair[0]))
    rgb, mask = np.ascontiguousarray(rgba[..., :3]), rgba[..., 3] > 127
    found = chair.reconstruct_together([pair[1], rgb], [None, mask], resolution=16, camera="none")
    same = chair.reconstruct_together(pair[::-1], resolution=16, camera="none")
    np.testing.assert_allclose(found.mesh.vertices, same.mesh.vertices, atol=1e-6)
    with pytest.raises(UserError, match="masks: 1 of 2 pictures; give one for each"):
        chair.reconstruct_together(pair, [None])
    with pytest.raises(UserError, match="no picture given; give at least one"):
        chair.reconstruct_together([])


def test_what_any_picture_shows_is_coloured_by_it():
    """A ball, red on one side and green on the other, seen from both; of the field's blue nothing is left but the rim."""
    ball = trimesh.creation.icosphere(subdivisions=4, radius=0.3)
    x = ball.vertices[:, 0]
    painted = ball.copy()
    painted.visual.vertex_colors = np.where(x[:, None] > 0, [200, 30, 30, 255], [30, 200, 30, 255]).astype(np.uint8)
    views = [camera(90), camera(-90)]
    pictures = []
    for view in views:
        seen = silhouette(ball, *view.pinhole(), SIZE, SIZE)
        rgb = render_view(painted, *view.pinhole(), SIZE, SIZE, light=False, supersample=1)
        pictures.append(Picture(rgb, seen))

    def blue(points: np.ndarray) -> np.ndarray:
        return np.tile([30.0, 30.0, 200.0], (len(points), 1))

    colors = PhotoColors(pictures, ball, [photo_camera(view) for view in views], blue, mirror=False)
    colors._shift[:] = 0
    found = colors.at_vertices()
    assert np.abs(found.rgb[x > 0.15] - [200, 30, 30]).max() <= 10
    assert np.abs(found.rgb[x < -0.15] - [30, 200, 30]).max() <= 10
    one = PhotoColors(pictures[:1], ball, [photo_camera(views[0])], blue, mirror=False)
    assert colors.shares.photo > 1.8 * one.shares.photo


def test_where_pictures_overlap_the_one_that_faces_the_surface_prevails():
    ball = trimesh.creation.icosphere(subdivisions=4, radius=0.3)
    views = [camera(0), camera(60)]
    pictures = []
    for view, rgb in zip(views, ([200, 0, 0], [0, 200, 0]), strict=True):
        seen = silhouette(ball, *view.pinhole(), SIZE, SIZE)
        pictures.append(Picture(np.where(seen[..., None], np.uint8(rgb), np.uint8(255)), seen))
    colors = PhotoColors(pictures, ball, [photo_camera(view) for view in views], np.zeros_like, mirror=False)
    towards = np.stack([one.center for one in map(photo_camera, views)])
    places = 0.3 * np.stack([towards[0] - 0.6 * towards[1], towards[1] - 0.6 * towards[0]])
    places *= 0.3 / np.linalg.norm(places, axis=1, keepdims=True)
    found, trust = colors.seen(places, places / 0.3)
    np.testing.assert_allclose(trust, 1, atol=0.01)
    assert found[0, 0] > 150 > 50 > found[0, 1]
    assert found[1, 1] > 150 > 50 > found[1, 0]


def test_the_command_writes_one_mesh_and_every_camera(pair, tmp_path, capsys):
    command = ["reconstruct", *map(str, pair), "--together", "--resolution", "24", "--out", str(tmp_path)]
    cli.main(command)
    printed = " ".join(capsys.readouterr().out.split())
    written = {path.name for path in tmp_path.iterdir()}
    drawn = {f"{name}.{ending}" for name in ("left", "right") for ending in ("camera.json", "overlay.png")}
    assert written == {"left.glb", "left.canonical.npz", *drawn}
    assert f"{pair[0]}: camera " in printed
    assert f"{pair[1]}: camera " in printed
    assert json.loads((tmp_path / "right.camera.json").read_text())["mesh"] == "left.glb"
    cli.main([*command, "--camera", "none"])
    assert {path.name for path in tmp_path.iterdir()} == {"left.glb", "left.canonical.npz"}, (
        "cameras of the mesh before"
    )


def test_the_photos_are_baked_together(pair, tmp_path, capsys):
    options = ["--resolution", "24", "--texture", "photo", "--texture-size", "64", "--out", str(tmp_path)]
    cli.main(["reconstruct", *map(str, pair), "--together", *options])
    assert "% from the photos" in capsys.readouterr().out


def test_what_does_not_go_together_is_refused(pair, tmp_path, capsys):
    both = ["reconstruct", *map(str, pair), "--together", "--out", str(tmp_path)]
    assert "--refine: fits the code to one picture" in refused(capsys, *both, "--refine", "3")
    message = refused(capsys, *both, "--mask", str(pair[0]))
    assert "one mask for 2 pictures; give them alpha channels, or --background auto" in message
    (tmp_path / "other").mkdir()
    same = tmp_path / "other" / "left.png"
    same.write_bytes(pair[0].read_bytes())
    message = refused(capsys, "reconstruct", str(pair[0]), str(same), "--together", "--out", str(tmp_path))
    assert "left: two pictures of this name would write the same camera; rename one" in message
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    message = refused(capsys, "reconstruct", str(pair[0]), str(broken), "--together", "--out", str(tmp_path))
    assert "broken.png" in message
    assert not list(tmp_path.glob("*.glb")), "an object of which a picture cannot be read is not made of the others"


@pytest.mark.parametrize("more", [[], ["--outline"], ["--outline", "--refine-camera", "annotated"]])
def test_evaluation_measures_the_mesh_of_an_objects_pictures_once(tmp_path, capsys, more):
    data = write_toy_collection(tmp_path / "toys", objects=2, views=3, size=48)
    options = ["--split", "train", "--views", "2", "--together", "--resolution", "24", "--samples", "500"]
    cli.main(["evaluate", str(data), *options, "--emd-points", "0", "--out", str(tmp_path / "out"), *more])
    assert "2 objects, each by at most 2 pictures together" in capsys.readouterr().out
    found = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert found["measured"]["together"]
    assert [row["instance"] for row in found["instances"]] == ["toy0", "toy1"]


def test_pictures_together_are_measured_without_ground_truth_too(tmp_path, capsys):
    data = write_toy_collection(tmp_path / "toys", objects=2, views=3, size=48, truth=False)
    options = ["--split", "train", "--views", "3", "--together", "--limit", "1", "--resolution", "24"]
    cli.main(["evaluate", str(data), *options])
    assert "1 objects, each by at most 3 pictures together" in capsys.readouterr().out


def test_baselines_and_codes_that_are_fitted_answer_one_picture(tmp_path, capsys):
    data = write_toy_collection(tmp_path / "toys", objects=2, views=2, size=32)
    options = ["evaluate", str(data), "--views", "2", "--together"]
    message = refused(capsys, *options, "--baseline", "mean-shape")
    assert "--together: does not go with --baseline mean-shape" in message
    assert "--refine: fits the code to one picture" in refused(capsys, *options, "--refine", "3")
