"""`data check` tells good cameras from bad ones, and names the mistake in words."""

import json
import re

import numpy as np
import pytest
import trimesh
from PIL import Image

from helpers import refused, write_toy_collection
from tars3d.data.checking.check import check_collection
from tars3d.data.collection import write_index
from tars3d.geometry.rasterize import silhouette
from tars3d.geometry.views import orbit_camera

SIZE = 64


def shape():
    """Lopsided in every direction, so that no wrong camera can pass for a right one."""
    parts = [
        trimesh.creation.box(bounds=[[-0.25, -0.1, -0.3], [0.35, 0.0, 0.2]]),
        trimesh.creation.box(bounds=[[-0.25, 0.0, 0.1], [0.2, 0.5, 0.2]]),
        trimesh.creation.box(bounds=[[0.25, -0.5, -0.3], [0.35, 0.0, -0.2]]),
    ]
    return trimesh.util.concatenate(parts)


def write(
    root,
    *,
    cameras=lambda e: e,
    intrinsics=lambda k: k,
    points=lambda p: p,
    entry=lambda e: e,
    masks=lambda m: m,
    model="perspective",
):
    """A collection of eight pictures of one object, with one mistake built in."""
    mesh = shape()
    (root / "images").mkdir(parents=True)
    (root / "ground_truth").mkdir()
    images = {}
    for k in range(8):
        camera_k, camera_e = orbit_camera(45.0 * k + 20, 25.0, SIZE)
        if model == "orthographic":
            camera_k = np.array([[45.0, 0, SIZE / 2], [0, 45.0, SIZE / 2], [0, 0, 1]])
        mask = masks(silhouette(mesh, camera_k, camera_e, model == "perspective", SIZE, SIZE))
        rgba = np.dstack([np.full((SIZE, SIZE, 3), 90 + 10 * k), mask * 255]).astype(np.uint8)
        Image.fromarray(rgba).save(root / "images" / f"v{k}.png")
        camera = {"model": model, "extrinsics": np.asarray(cameras(camera_e)).tolist()}
        if model == "orthographic":
            camera |= {"scale": 45.0, "principal_point": [SIZE / 2, SIZE / 2]}
        else:
            camera["intrinsics"] = np.asarray(intrinsics(camera_k)).tolist()
        images[f"v{k}"] = entry({"file": f"images/v{k}.png", "instance": "a", "camera": camera})
    write_index(root, "chair", images)
    sampled = trimesh.sample.sample_surface(mesh, 3000, seed=0)[0]
    np.savez(root / "ground_truth" / "a.npz", points=points(np.asarray(sampled)).astype(np.float32))
    return root


def flip(*signs):
    return lambda e: np.diag(signs) @ e


def invert(e):
    return np.c_[e[:, :3].T, -e[:, :3].T @ e[:, 3]]


@pytest.mark.parametrize("model", ["perspective", "orthographic"])
def test_good_collection_has_no_problems(tmp_path, model):
    report = check_collection(write(tmp_path / "good", model=model), sheet=tmp_path / "sheet.png", progress=False)
    assert report.ok
    assert report.problems == report.warnings == []
    assert (report.images, report.instances) == (8, 1)
    assert report.median_inside is not None
    assert report.median_inside > 0.98
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    assert (sheet == [255, 0, 200]).all(-1).sum() > 300  # outlines
    assert (sheet[..., 0] > 200).sum() > 1000


@pytest.mark.parametrize(
    ("mistake", "words"),
    [
        ({"cameras": flip(1, -1, -1)}, "8 of 8 cameras look away.*z flipped"),
        ({"cameras": flip(1, -1, -1)}, "OpenGL"),
        ({"cameras": flip(-1, -1, 1)}, "left and up"),
        ({"cameras": invert}, "camera-to-world; invert"),
        ({"cameras": lambda e: invert(flip(1, -1, -1)(e))}, "Blender's camera-to-world"),
        ({"points": lambda p: p[:, [0, 2, 1]] * [1, -1, 1]}, "Z up"),
        ({"points": lambda p: p * [-1, 1, -1]}, r"face \+Z"),
        ({"points": lambda p: p * [-1, 1, 1]}, "mirrored"),
        ({"points": lambda p: p * 100}, "longest side is 100"),
        ({"cameras": lambda e: np.c_[e[:, :3].T, e[:, 3]]}, "rotations seem transposed"),
        (
            {"cameras": lambda e: np.c_[(flip(-1, -1, 1)(e))[:, :3].T, flip(-1, -1, 1)(e)[:, 3]]},
            "PyTorch3D's .*row vectors",
        ),
        (
            {"cameras": lambda e: np.c_[e[:, :3], 10 * e[:, 3]]},
            "the scale is wrong: translations seem (9.|10).* times too large",
        ),
        (
            {"intrinsics": lambda k: k * [[2.5], [2.5], [1]] - [[0, 0, 48], [0, 0, 48], [0, 0, 0]]},
            "focal lengths seem 2.* times too large",
        ),
        (
            {"intrinsics": lambda k: np.add(k, [[0, 0, 14], [0, 0, 0], [0, 0, 0]])},
            r"masks lie -1[345] pixels \(right\)",
        ),
        ({"masks": lambda m: m[:, ::-1]}, "mirrored left-right; mirror them back"),
        ({"masks": lambda m: m[::-1]}, "upside down; turn them over"),
        ({"intrinsics": lambda k: np.diag([1 / SIZE, 1 / SIZE, 1]) @ k}, r"normalised to 0\.\.1"),
        ({"intrinsics": lambda k: np.diag([4, 4, 1]) @ k}, "another picture size"),
    ],
)
def test_mistakes_are_named(tmp_path, mistake, words):
    report = check_collection(write(tmp_path / "bad", **mistake), progress=False)
    assert not report.ok
    assert re.search(words, " ".join(report.problems)), report.problems
    told = [line for line in report.problems if "look away" not in line]
    assert len(told) == 1, "one fault, one sentence"


def test_one_bad_camera_among_many_is_a_warning(tmp_path):
    root = write(tmp_path / "c")
    index = json.loads((root / "cameras.json").read_text())
    entries = index["images"]
    for k in range(8, 24):
        entries[f"v{k}"] = entries[f"v{k % 8}"]
    entries["v3"] = {**entries["v3"], "camera": entries["v6"]["camera"]}
    (root / "cameras.json").write_text(json.dumps(index))
    report = check_collection(root, progress=False)
    assert report.ok
    assert "1 of 24 pictures (v3)" in report.warnings[0]


def test_broken_pictures_are_all_named(tmp_path):
    root = write(tmp_path / "c")
    (root / "images" / "v2.png").write_bytes(b"nothing")
    (root / "images" / "v5.png").write_bytes((root / "images" / "v5.png").read_bytes()[:80])
    report = check_collection(root, sheet=tmp_path / "s.png", progress=False)
    assert len(report.problems) == 2
    assert "v2.png" in report.problems[0]
    assert "v5.png" in report.problems[1]
    assert report.sheet == tmp_path / "s.png"


def test_findings_are_told_where_the_sheet_cannot_be_written(tmp_path):
    root = write(tmp_path / "c", cameras=invert)
    (tmp_path / "file").touch()
    report = check_collection(root, sheet=tmp_path / "file" / "sheet.png", progress=False)
    assert any("camera-to-world" in problem for problem in report.problems)
    assert report.sheet is None
    (told,) = report.warnings
    assert "sheet.png: cannot be written" in told


def test_collection_that_cannot_be_loaded_is_a_report_not_a_crash(tmp_path):
    report = check_collection(tmp_path / "absent", progress=False)
    assert not report.ok
    assert "absent" in report.problems[0]


def test_no_ground_truth_is_noted_and_keypoints_are_looked_at(tmp_path):
    def swapped(entry):
        return {**entry, "keypoints": {"tip": [2.0, 2.0, 1], "hidden": [0.0, 0.0, 0]}}

    root = write(tmp_path / "c", entry=swapped)
    (root / "ground_truth" / "a.npz").unlink()
    report = check_collection(root, progress=False)
    assert any("keypoints lie off the mask in 8 of 8" in line for line in report.problems)
    assert any("no usable ground truth" in line for line in report.notes)
    assert report.median_inside is None


def test_an_empty_train_split_is_a_problem(tmp_path):
    root = write(tmp_path / "c")
    (root / "splits.json").write_text('{"train": [], "test": ["a"]}')
    assert any("splits.json: 'train' is empty" in line for line in check_collection(root, progress=False).problems)


def test_each_picture_that_cannot_be_used_counts(tmp_path, capsys):
    root = write_toy_collection(tmp_path / "toys", objects=6, views=6, truth=False)
    for file in (root / "images").iterdir():
        file.write_bytes(file.read_bytes()[:60])
    assert f"{root}: 36 problems; mend" in refused(capsys, "data", "check", root)


def test_splits_that_nothing_reads_are_noticed(tmp_path):
    root = write_toy_collection(
        tmp_path / "toys", truth=False, splits={"train": ["toy0"], "validation": ["toy1"], "test": []}
    )
    first, second = check_collection(root, progress=False).warnings
    assert "splits.json: has the split 'validation'; training reads train and val" in first
    assert "splits.json: 2 of 4 objects are in no split, toy2 for one; nothing reads them" in second
