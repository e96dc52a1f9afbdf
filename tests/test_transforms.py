"""Where an object is in the world of a capture, how large, and which way it faces: what `data import-transforms` finds of known truth."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import trimesh
from PIL import Image
from scipy.spatial.transform import Rotation

from tars3d.data.importers.capture_frame import Outline, Shot, object_frame
from tars3d.data.importers.options import TransformsOptions
from tars3d.data.importers.transforms import import_transforms, read_capture
from tars3d.errors import UserError
from tars3d.geometry.camera import look_at_origin
from tars3d.geometry.rasterize import silhouette

WORLD = Rotation.from_euler("xyz", [100, 20, 200], degrees=True).as_matrix()
SCALE, MOVE = 0.03, np.array([1.0, 2.0, 3.0])
AROUND = [45.0 * view for view in range(8)]


def boxes(*bounds) -> trimesh.Trimesh:
    return trimesh.util.concatenate([trimesh.creation.box(bounds=np.array(pair)) for pair in bounds])


def thing() -> trimesh.Trimesh:
    back, leg = ([-0.25, 0.0, 0.1], [0.2, 0.5, 0.2]), ([0.25, -0.5, -0.3], [0.35, 0.0, -0.2])
    return boxes(([-0.25, -0.1, -0.3], [0.35, 0.0, 0.2]), back, leg)


def captured(
    mesh, azimuths=AROUND, elevations=20.0, rolls=0.0, distance=2.7, size=(320, 240), focal=360.0, middle=None
):
    """Shots of a mesh in a world that is turned, moved and scaled, and what they show of it."""
    width, height = size
    k = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
    k[:2, 2] = k[:2, 2] if middle is None else middle
    shots, outlines = [], []
    views = np.broadcast_arrays(azimuths, elevations, rolls)
    for number, (azimuth, elevation, roll) in enumerate(zip(*views, strict=True)):
        camera = look_at_origin(float(azimuth), float(elevation), distance, float(roll))
        outlines.append(Outline.of_mask(silhouette(mesh, k, camera, True, width, height)))
        rotation = camera[:, :3] @ WORLD.T
        shots.append(Shot(Path(f"f{number}.jpg"), None, k, rotation, SCALE * camera[:, 3] - rotation @ MOVE))
    return shots, outlines


def errors(mesh, azimuths=AROUND, front=0, **how) -> tuple[float, float, float]:
    """Of the axes, degrees; of the middle, in lengths of the object; of its size, as a factor."""
    turn, middle, length = object_frame("o", *captured(mesh, azimuths, **how), front, azimuths[front])
    true_length, true_middle = SCALE * np.ptp(mesh.bounds, axis=0).max(), SCALE * WORLD @ mesh.bounds.mean(0) + MOVE
    turned = np.rad2deg(Rotation.from_matrix(turn @ WORLD).magnitude())
    return float(turned), float(np.linalg.norm(middle - true_middle) / true_length), float(length / true_length)


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"middle": (120.0, 150.0)},
        {"size": (240, 320), "front": 3},
        {"rolls": [7.0, -9, 4, -6, 8, -3, 5, -8]},
        {"rolls": [180.0] + 7 * [0.0]},
        {"azimuths": [0.0, 120, 240]},
        {"size": (320, 202), "middle": (160.0, 130.0)},  # most photos cut the feet off
    ],
    ids=["plain", "off-centre", "portrait", "held askew", "one upside down", "three photos", "cut off"],
)
def test_axes_middle_and_size_are_those_of_the_object(how):
    turned, moved, larger = errors(thing(), **how)
    assert turned < 2.5  # the cameras look at the origin, 0.07 off its middle
    assert moved < 0.03
    assert 0.99 < larger < 1.06


def test_an_object_on_a_thin_pole_is_as_long_as_its_pole():
    lamp = boxes(([-0.3, 0.45, -0.3], [0.3, 0.5, 0.3]), ([-0.006, -0.5, -0.006], [0.006, 0.45, 0.006]))
    _, moved, larger = errors(lamp)
    assert moved < 0.04
    assert 0.99 < larger < 1.08


def refusals(**how) -> set[str]:
    """What `object_frame` says against a capture, and against the same with cameras that are rounded otherwise."""
    shots, outlines = captured(thing(), **how)
    said = set()
    for seed in range(20):
        rng = np.random.default_rng(seed)
        rounded = [replace(s, rotation=s.rotation * (1 + 1e-12 * rng.standard_normal((3, 3)))) for s in shots]
        with pytest.raises(UserError) as refusal:
            object_frame("o", rounded if seed else shots, outlines, 0, 0)
        said.add(str(refusal.value))
    return said


@pytest.mark.parametrize(("lying", "named"), [([0], "f0"), ([3, 0], "f0"), ([6], "f6"), ([0, 1, 2, 3], r"f\d")])
def test_photos_that_lie_on_their_side_are_named(lying, named):
    (said,) = refusals(rolls=[90.0 if view in lying else 0.0 for view in range(8)])
    assert re.search(rf"photo {named}.jpg is held \d+ degrees askew", said)


@pytest.mark.parametrize("elevation", [0.0, 20.0, 40.0])
def test_no_way_is_up_where_all_photos_lie_on_their_side(elevation):
    (said,) = refusals(rolls=90.0, elevations=elevation)  # every level way is as good
    assert "up cannot be told" in said
    assert "or lie on their side" in said


@pytest.mark.parametrize("rolls", [[180.0, 0] * 4, [180.0] * 4 + [0.0] * 4], ids=["every other", "one half"])
def test_no_way_is_up_where_half_of_the_photos_are_upside_down(rolls):
    (said,) = refusals(rolls=rolls)
    assert "half of its photos are upside down" in said


def test_photos_that_do_not_tell_the_size_are_refused():
    with pytest.raises(UserError, match="do not tell how large"):
        errors(thing(), azimuths=[-15.0, 15.0])
    with pytest.raises(UserError, match="do not tell how large"):
        errors(thing(), distance=1.8, focal=500.0)  # every photo cuts it off
    with pytest.raises(UserError, match="or its opposite"):
        errors(thing(), azimuths=[0.0, 180.0])


def test_a_front_seen_from_above_is_refused():
    with pytest.raises(UserError, match=r"f0.jpg is from straight above"):
        errors(thing(), elevations=[85.0] + 7 * [20.0])
    (said,) = refusals(elevations=90.0)
    assert "all are from straight above" in said


def test_a_large_photo_says_the_same_as_a_small_one():
    turn, middle, length = object_frame("o", *captured(thing()), 0, 0)
    again = object_frame("o", *captured(thing(), size=(1280, 960), focal=1440.0), 0, 0)
    np.testing.assert_allclose(again[0], turn, atol=0.02)
    np.testing.assert_allclose(again[1], middle, atol=0.02 * length)
    assert again[2] == pytest.approx(length, rel=0.02)


def written(folder: Path, names: list[str], **head) -> Path:
    """A capture of white photos; names are paths in its folder."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 6), "white").save(folder / name)
    frames = [{"file_path": name, "transform_matrix": np.eye(4).tolist()} for name in names]
    (folder / "transforms.json").write_text(json.dumps({"fl_x": 9, "frames": frames, **head}))
    return folder


def test_what_tools_add_to_the_file_changes_no_camera(tmp_path):
    names = ["images/my photo 1.jpg", "images/2.jpg"]
    plain = read_capture(written(tmp_path / "plain", names))
    ngp = {
        "scale": 0.33,
        "offset": [0.5, 0.5, 0.5],
        "aabb_scale": 16,
        "fl_y": 9,
        "w": 8.0,
        "h": 6.0,
        "k1": 0,
        "is_fisheye": False,
    }
    studio = {"camera_model": "OPENCV", "applied_transform": np.eye(3, 4).tolist(), "ply_file_path": "sparse_pc.ply"}
    for shots in (
        read_capture(written(tmp_path / "ngp", names, **ngp)),
        read_capture(written(tmp_path / "s", names, **studio)),
    ):
        for shot, expected in zip(shots, plain, strict=True):
            np.testing.assert_allclose(shot.intrinsics, expected.intrinsics)
            np.testing.assert_allclose(shot.rotation, expected.rotation)
            np.testing.assert_allclose(shot.translation, expected.translation)


def test_a_frame_may_have_a_lens_of_its_own(tmp_path):
    folder = written(tmp_path, ["a.jpg", "b.jpg"])
    tree = json.loads((folder / "transforms.json").read_text())
    tree["frames"][1] |= {"fl_x": 20, "cx": 3}
    (folder / "transforms.json").write_text(json.dumps(tree))
    assert [shot.intrinsics[0].tolist() for shot in read_capture(folder)] == [[9, 0, 4], [20, 0, 3]]


def test_files_that_cannot_be_used_are_refused_in_words(tmp_path):
    with pytest.raises(UserError, match="camera_model is EQUIRECTANGULAR"):
        read_capture(written(tmp_path, ["a.jpg", "b.jpg"], camera_model="EQUIRECTANGULAR"))
    with pytest.raises(UserError, match="cannot be read"):
        read_capture(written(tmp_path, ["a.jpg", "b.jpg"], fl_x=None, camera_angle_x=0))
    with pytest.raises(UserError, match=r"names images/a.jpg and images_2/a.jpg; rename one"):
        read_capture(written(tmp_path, ["images/a.jpg", "images_2/a.jpg"]))
    with pytest.raises(UserError, match=r"names a.jpg and a.jpg; remove one of its frames"):
        read_capture(written(tmp_path, ["a.jpg", "a.jpg"]))


def test_photos_of_two_objects_get_no_common_name(tmp_path):
    written(tmp_path / "captures" / "a", ["b_c.jpg", "1.jpg"])
    written(tmp_path / "captures" / "a_b", ["c.jpg", "2.jpg"])
    (tmp_path / "fronts.csv").write_text("object,photo\na,1.jpg\na_b,2.jpg\n")
    with pytest.raises(UserError, match="both be called a_b_c"):
        import_transforms(tmp_path / "captures", tmp_path / "fronts.csv", tmp_path / "out", TransformsOptions())
