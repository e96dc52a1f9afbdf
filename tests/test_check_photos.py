"""`data check` where there is no ground truth: masks against pictures, silhouettes against each other, keypoints against cameras."""

import re

import numpy as np
import pytest
import trimesh
from PIL import Image
from scipy import ndimage

from tars3d.data.checking.check import check_collection
from tars3d.data.collection import write_index
from tars3d.data.image_record import ImageRecord
from tars3d.geometry.camera import look_at_origin
from tars3d.geometry.rasterize import project, silhouette
from tars3d.geometry.views import render_view

SIZE = 96
POINTS = {
    "seat": [0.3, 0, -0.3],
    "back": [-0.2, 0.5, 0.15],
    "foot": [0.3, -0.5, -0.25],
    "corner": [-0.25, -0.05, 0.2],
    "side": [0.35, 0, 0.2],
}


def thing(number):
    """Lopsided, and different each time."""
    grow = 1 + 0.12 * (number % 4)
    parts = [
        trimesh.creation.box(bounds=[[-0.25, -0.1, -0.3], [0.35, 0.0, 0.2]]),
        trimesh.creation.box(bounds=[[-0.25, 0.0, 0.1], [0.2, 0.5, 0.2]]),
        trimesh.creation.box(bounds=[[0.25, -0.5, -0.3], [0.35, 0.0, -0.2]]),
    ]
    return trimesh.util.concatenate(parts).apply_scale([grow / 1.2, 1, 1 / grow])


def write(
    root, *, objects=2, views=8, ground="clutter", keypoints=False, alpha=False, camera=lambda k, e: (k, e), masks=lambda ms, i: ms[i],
    points=lambda u, v: (u, v),
):  # fmt: skip
    """Photos of a few things in front of a ground, with masks in files of their own; one mistake may be built in."""
    rng = np.random.default_rng(0)
    (root / "images").mkdir(parents=True)
    (root / "masks").mkdir()
    intrinsics = np.array([[1.7 * SIZE, 0, SIZE / 2], [0, 1.7 * SIZE, SIZE / 2], [0, 0, 1]])
    seen, entries = [], {}
    for number in range(objects):
        for view in range(views):
            turn = 360 / views * view + 37 * number + 13
            extrinsics = look_at_origin(turn, 10 + 11 * ((view + number) % 4), 2.7)
            mesh, args = thing(number), (intrinsics, extrinsics, True, SIZE, SIZE)
            mask = silhouette(mesh, *args)
            rgb = render_view(
                mesh, *args, vertex_colors=np.tile([0.5, 0.3, 0.2], (len(mesh.vertices), 1)), supersample=1
            )
            if ground == "clutter":
                waves = [
                    ndimage.zoom(rng.uniform(0, 255, (n, n, 3)), (SIZE / n, SIZE / n, 1), order=1) for n in (3, 12, 32)
                ]
                behind = np.mean(waves, axis=0)
            else:
                behind = rng.normal(245, 2, rgb.shape)
            name = f"o{number}_{view}"
            Image.fromarray(np.where(mask[..., None], rgb, behind).clip(0, 255).astype(np.uint8)).save(
                root / "images" / f"{name}.jpg", quality=92
            )
            seen.append((name, number, mask, extrinsics))
    for index, (name, number, _, extrinsics) in enumerate(seen):
        Image.fromarray(masks([m for _, _, m, _ in seen], index)).save(root / "masks" / f"{name}.png")
        pixels = project(
            np.array(list(POINTS.values())) * [(1 + 0.12 * (number % 4)) / 1.2, 1, 1 / (1 + 0.12 * (number % 4))],
            intrinsics,
            extrinsics,
            True,
        )[0]
        marks = (
            {key: (*map(float, points(*uv)), True) for key, uv in zip(POINTS, pixels, strict=True)}
            if keypoints
            else None
        )
        file, given = root / "images" / f"{name}.jpg", root / "masks" / f"{name}.png"
        if alpha:
            file = root / "images" / f"{name}_cut.png"
            own = np.asarray(Image.open(given)).astype(np.uint8) * np.uint8(255)
            Image.fromarray(np.dstack([np.full((*own.shape, 3), 90, np.uint8), own])).save(file)
            given = None
        k, e = camera(intrinsics, extrinsics)
        record = ImageRecord(
            name, file, given, f"o{number}", "perspective", np.asarray(k, float), np.asarray(e, float), marks
        )
        entries[name] = record.to_json(root)
    write_index(root, "thing", entries)
    return root


def wrongs(root):
    report = check_collection(root, progress=False)
    return [line for line in report.problems if "look away" not in line], report


@pytest.mark.parametrize(
    "kind",
    [
        {},
        {"ground": "white"},
        {"alpha": True},
        {"objects": 12, "views": 1},
        {"objects": 12, "views": 1, "keypoints": True},
    ],
)
def test_good_photos_raise_no_alarm(tmp_path, kind):
    problems, report = wrongs(write(tmp_path / "Äpfel und Birnen", **kind))
    assert problems == report.warnings == []
    assert "no usable ground truth" in report.notes[0]


@pytest.mark.parametrize("ground", ["clutter", "white"])
@pytest.mark.parametrize(
    ("masks", "words"),
    [
        (lambda ms, i: ms[i][:, ::-1], "mirrored left-right; mirror"),
        (lambda ms, i: ms[i][::-1], "upside down"),
        (lambda ms, i: ms[(i - 1) % len(ms)], "one picture late"),
        (lambda ms, i: ms[(i + 1) % len(ms)], "one picture early"),
        (lambda ms, i: np.roll(ms[i], (6, -9), (0, 1)), "about (8|9|10) pixels too far left and [567] too low"),
    ],
)
def test_masks_that_do_not_fit_their_pictures_are_named(tmp_path, masks, words, ground):
    problems, _ = wrongs(write(tmp_path / "c", masks=masks, ground=ground))
    assert len(problems) == 1
    assert re.search(words, problems[0]), problems


def test_masks_of_other_pictures_are_noticed(tmp_path):
    _, report = wrongs(write(tmp_path / "c", objects=4, masks=lambda ms, i: ms[(i * 7 + 11) % len(ms)]))
    assert any("no better than other pictures' masks" in line for line in report.warnings)


def test_masks_of_another_size_are_named(tmp_path):
    problems, _ = wrongs(write(tmp_path / "c", masks=lambda ms, i: ms[i][:-8]))
    assert "o0_0.png: the mask is 96x88 pixels but the picture" in problems[0]


def inverted(e):
    return np.c_[e[:, :3].T, -e[:, :3].T @ e[:, 3]]


CAMERAS = [
    (lambda k, e: (k, np.diag([1, -1, -1]) @ e), "OpenGL"),
    (lambda k, e: (k, np.diag([-1, -1, 1]) @ e), "left and up, as in PyTorch3D"),
    (lambda k, e: (k, inverted(e)), "camera-to-world; invert"),
    (lambda k, e: (k, inverted(np.diag([1, -1, -1]) @ e)), "Blender's camera-to-world"),
    (lambda k, e: (k, np.c_[e[:, :3].T, e[:, 3]]), "rotations seem transposed"),
    (lambda k, e: (np.diag([4, 4, 1]) @ k, e), "another picture size"),
]
SIZES = [
    (
        lambda k, e: (k, np.c_[e[:, :3], 100 * e[:, 3]]),
        r"the scale is wrong.*translations seem about (8|9|1\d)\d(\.\d)? times too large",
    ),
    (
        lambda k, e: (k * [[2.5, 2.5, 1], [2.5, 2.5, 1], [1, 1, 1]], e),
        "focal lengths seem about (2|3).* times too large",
    ),
    (
        lambda k, e: (k * [[0.4, 0.4, 1], [0.4, 0.4, 1], [1, 1, 1]], e),
        "focal lengths seem about (2|3).* times too small",
    ),
]


@pytest.mark.parametrize(("camera", "words"), CAMERAS + SIZES)
def test_silhouettes_from_several_sides_tell_wrong_cameras(tmp_path, camera, words):
    problems, _ = wrongs(write(tmp_path / "c", camera=camera))
    assert len(problems) == 1
    assert re.search(words, problems[0]), problems


def test_mirrored_cut_outs_are_told_by_silhouettes(tmp_path):
    problems, _ = wrongs(write(tmp_path / "c", alpha=True, masks=lambda ms, i: ms[i][:, ::-1]))
    assert len(problems) == 1
    assert "mirrored left-right" in problems[0]


@pytest.mark.parametrize(("camera", "words"), CAMERAS)
def test_keypoints_tell_wrong_cameras_of_single_views(tmp_path, camera, words):
    problems, _ = wrongs(write(tmp_path / "c", objects=16, views=1, keypoints=True, camera=camera))
    assert len(problems) == 1
    assert re.search(words, problems[0]), problems


@pytest.mark.parametrize(
    ("points", "words"),
    [
        (lambda u, v: (SIZE - u, v), "mirrored left-right"),
        (lambda u, v: (v, u), "v before u"),
        (lambda u, v: (u, SIZE - v), "counted from below"),
        (lambda u, v: (u / SIZE, v / SIZE), r"normalised to 0\.\.1"),
    ],
)
def test_keypoints_off_the_mask_are_explained(tmp_path, points, words):
    problems, _ = wrongs(write(tmp_path / "c", objects=16, views=1, keypoints=True, points=points))
    assert len(problems) == 1
    assert re.search(words, problems[0]), problems


def test_single_views_without_keypoints_tell_the_scale_and_say_what_they_cannot(tmp_path):
    problems, report = wrongs(
        write(tmp_path / "c", objects=12, views=1, camera=lambda k, e: (k, np.c_[e[:, :3], 10 * e[:, 3]]))
    )
    assert len(problems) == 1
    assert re.search("objects come out 1?\\d.* long and should be about 1", problems[0])
    assert "only the scale of their cameras could be checked" in report.notes[0]


def test_a_world_that_is_not_y_up_is_noticed(tmp_path):
    z_up = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
    problems, report = wrongs(write(tmp_path / "c", camera=lambda k, e: (k, np.c_[e[:, :3] @ z_up, e[:, 3]])))
    assert problems == []
    assert len(report.warnings) == 1
    assert re.search(r"\(-?0\.[0-2], -?0\.[0-2], 1\.0\) in the world", report.warnings[0])
