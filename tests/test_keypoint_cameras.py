"""Cameras from keypoints: known cameras come back, left is left, near is near, and what cannot work is said."""

import csv
import json

import numpy as np
import pytest
from PIL import Image, ImageDraw

from helpers import refused
from tars3d import cli
from tars3d.data.collection import load_collection
from tars3d.data.image_record import ImageRecord
from tars3d.data.keypoint_cameras import estimate as keypoint_cameras
from tars3d.data.keypoint_cameras.estimate import Estimate, estimate_cameras, find_pairs
from tars3d.geometry.camera import look_at_origin
from tars3d.geometry.factorisation import factorise
from tars3d.geometry.structure_from_motion import bundle, fit_cameras, solve
from tars3d.geometry.tracks import Axes, Structure, Tracks, WeakCameras, project

NAMES = [
    "left eye",
    "right eye",
    "left foot",
    "right foot",
    "left hip",
    "right hip",
    "beak",
    "crown",
    "back",
    "belly",
    "tail",
]
SHAPE = np.array(
    [[-0.10, 0.25, -0.3], [0.10, 0.25, -0.3], [-0.12, -0.4, 0.0], [0.12, -0.4, 0.0], [-0.18, -0.1, 0.1], [0.18, -0.1, 0.1],
     [0, 0.18, -0.45], [0, 0.38, -0.25], [0, 0.15, 0.1], [0, -0.2, -0.05], [0, 0.05, 0.5]]
)  # fmt: skip
PAIRS = np.array([[0, 1], [2, 3], [4, 5]])
AXES = Axes(right=((0, 2, 4), (1, 3, 5)), front=((10,), (6,)), up=((2, 3), (7,)))


def scene(count=40, noise=0.0, missing=0.15, seed=0):
    """Tracks of the animal seen from all around at eye level, with the true rotations."""
    rng = np.random.default_rng(seed)
    azimuth, elevation = 360 * np.arange(count) / count, rng.uniform(-8, 12, count)
    rotations = np.stack([look_at_origin(a, e, 2.5)[:, :3] for a, e in zip(azimuth, elevation, strict=True)])
    cameras = WeakCameras(rotations, rng.uniform(0.7, 1.1, count), rng.uniform(-0.05, 0.05, (count, 2)))
    points = project(SHAPE, cameras) + noise * rng.normal(size=(count, len(SHAPE), 2))
    hidden = np.zeros((count, len(SHAPE)), dtype=bool)
    hidden[:, :2] = (rotations[:, 2, :1] * [-1, 1]) > 0.3  # the far eye
    weight = (~hidden & (rng.random(hidden.shape) > missing)).astype(float)
    return Tracks(points, weight, hidden, PAIRS), rotations


def angles(found, true):
    cosine = (np.einsum("nij,nij->n", found, true) - 1) / 2
    return np.degrees(np.arccos(np.clip(cosine, -1, 1)))


def test_known_cameras_come_back_and_the_shape_is_no_mirror_image():
    tracks, true = scene(noise=0.005)
    found = solve(tracks, AXES)
    tilt = found.shape - found.shape.mean(axis=0)
    # A pitch of all birds alike is a matter of the front axis, which here runs from the tail to the beak.
    left, _, right = np.linalg.svd(tilt.T @ (SHAPE - SHAPE.mean(axis=0)))
    turn = left @ right
    assert np.linalg.det(turn) > 0.99  # no reflection takes one to the other
    assert np.median(angles(found.rotations @ turn, true)) < 5
    assert (found.shape[PAIRS[:, 0], 0] < 0).all()
    np.testing.assert_allclose(found.shape[PAIRS[:, 0]], found.shape[PAIRS[:, 1]] * [-1, 1, 1], atol=1e-9)
    assert np.median(np.linalg.norm(found.project() - tracks.points, axis=-1)) < 0.015


def test_factorisation_alone_is_right_up_to_a_similarity_without_noise():
    tracks, _ = scene(missing=0.0)
    shape = factorise(Tracks(tracks.points, np.ones_like(tracks.weight), tracks.hidden, PAIRS))
    apart = np.linalg.norm(shape[:, None] - shape[None], axis=-1)
    wanted = np.linalg.norm(SHAPE[:, None] - SHAPE[None], axis=-1)
    np.testing.assert_allclose(apart / apart.max(), wanted / wanted.max(), atol=0.03)


def test_an_outlier_hardly_moves_its_camera():
    tracks, true = scene(count=12, missing=0.0)
    spoilt = tracks.points.copy()
    spoilt[:, 9] += 0.5
    found = fit_cameras(SHAPE, Tracks(spoilt, tracks.weight, tracks.hidden, PAIRS), np.full(len(SHAPE), 0.03), None, 40)
    assert np.median(angles(found[0], true)) < 3


def test_bundle_adjustment_lowers_the_error_of_disturbed_cameras():
    tracks, true = scene(count=12)
    rough = Structure(SHAPE * 1.05, true, np.full(12, 0.9), np.zeros((12, 2)))

    def error(s):
        return np.linalg.norm(s.project() - tracks.points, axis=-1)[tracks.weight > 0].mean()

    assert error(bundle(rough, tracks, np.full(len(SHAPE), 0.02))) < 0.2 * error(rough)


def test_pairs_are_told_by_left_and_right():
    assert find_pairs(["Left eye", "crown", "Right eye", "leftover", "tail left", "tail right"]) == [(0, 2), (4, 5)]
    for left, right in (
        ("left_eye", "right_eye"),
        ("eye-left", "eye-right"),
        ("LeftEye", "RightEye"),
        ("leftEye", "rightEye"),
        ("tipLeft1", "tipRight1"),
        ("LEFT_EAR_TIP", "RIGHT_EAR_TIP"),
    ):
        assert find_pairs([right, "aleft", "aright", "upright", "cleft_lip", "cright_lip", left]) == [(6, 0)]


SIZE = 100


def write_table(root, count=40):
    """Masks, keypoints.csv and names.txt of the scene."""
    tracks, _ = scene(count, noise=0.004)
    (root / "masks").mkdir(parents=True)
    rows = [["mask", "kind", "keypoint", "x", "y", "visible"]]
    for k, points in enumerate(tracks.points):
        pixels = SIZE / 2 + SIZE * 0.8 * points
        image = Image.new("L", (SIZE, SIZE))
        low, high = pixels.min(axis=0), pixels.max(axis=0)
        ImageDraw.Draw(image).ellipse([*low, *high], fill=255)
        image.save(root / "masks" / f"b{k:02d}.png")
        for j, (u, v) in enumerate(pixels):
            rows.append([f"b{k:02d}.png", "ab"[k % 2], j, u - 0.5, v - 0.5, int(not tracks.hidden[k, j])])
    with (root / "keypoints.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)
    (root / "names.txt").write_text(
        "Old list:\n0. wrong\n\nAll:\n" + "\n".join(f"{j}. {n}" for j, n in enumerate(NAMES))
    )
    return root


def bring_in(root, *more):
    table = ["keypoints.csv", "--masks", "masks", "--names", "names.txt", "--out", "birds", "--group", "kind"]
    cli.main(
        [
            "data",
            "import-keypoints",
            *[str(root / a) if "." in a or a in ("masks", "birds") else a for a in table],
            *more,
        ]
    )


def test_from_a_table_to_a_collection_that_checks(tmp_path, capsys):
    root = write_table(tmp_path / "Vögel 1")
    bring_in(root, "--test", "b", "--category", "bird")
    entries = json.loads((root / "birds" / "cameras.json").read_text())["images"]
    pixels = (
        SIZE / 2 + SIZE * 0.8 * scene(40, noise=0.004)[0].points
    )  # in tables they count from the first pixel's centre
    for entry, expected in zip(entries.values(), pixels, strict=True):
        np.testing.assert_allclose([point[:2] for point in entry["keypoints"].values()], expected, atol=1e-6)
    cli.main(["data", "cameras", str(root / "birds"), "--json", str(root / "error.json")])
    printed = capsys.readouterr().out
    assert "40 cameras, 0 pictures rejected" in printed
    report = json.loads((root / "error.json").read_text())
    assert report["images"] == 40
    assert report["rejected"] == 0
    assert report["median_reprojection_error"] < 0.03
    assert Image.open(root / "birds" / "cameras.png").width > 500
    collection = load_collection(root / "birds")
    assert len(collection.splits["test"]) == 20
    cli.main(["data", "check", str(root / "birds")])  # keypoints of these ellipses lie on the mask
    for record in collection.images:
        assert record.model == "orthographic"
        assert record.keypoints is not None
        seen = [n for n in ("left eye", "right eye") if record.keypoints[n][2]]
        if len(seen) == 1:  # the eye that is seen is the nearer one; left is at -X
            assert (record.extrinsics[2, 0] > 0) == (seen == ["left eye"])
    refused(capsys, "data", "cameras", root / "birds")
    assert "camera" in json.loads((root / "birds" / "cameras.json").read_text())["images"]["b00"]


def test_pictures_that_cannot_fit_are_set_aside_and_come_back(tmp_path, capsys):
    root = write_table(tmp_path)
    bring_in(root, "--test", "b")
    file = root / "birds" / "cameras.json"
    index = json.loads(file.read_text())
    points = index["images"]["b03"]["keypoints"]
    index["images"]["b03"]["keypoints"] = dict(zip(points, reversed(list(points.values())), strict=True))
    for key in list(index["images"]["b04"]["keypoints"])[4:]:
        del index["images"]["b04"]["keypoints"][key]
    file.write_text(json.dumps(index))
    cli.main(["data", "cameras", str(root / "birds")])
    collection = load_collection(root / "birds")
    names = {record.name for record in collection.images}
    assert "b04" not in names
    assert set(json.loads(file.read_text())["rejected"]) >= {"b04"}
    assert "b04" not in collection.splits["test"]


class Given(Estimate):
    """Cameras that fit, but for the pictures that are named."""

    bad: frozenset[str] = frozenset()

    @classmethod
    def of(cls, root, seen, *_, **__):
        camera = np.eye(3), np.c_[np.eye(3), [0, 0, 1.0]]
        found = zip(seen.entries.items(), seen.pictures, strict=True)
        records = [ImageRecord(name, *files, e["instance"], "orthographic", *camera) for (name, e), files in found]
        return cls(records, np.zeros((len(records), len(seen.names), 3))), None

    def errors(self, seen):
        return np.array([[float(name in self.bad)] * len(seen.names) for name in seen.entries])


def test_a_picture_that_is_accepted_again_comes_back_to_its_split(tmp_path, monkeypatch):
    root = write_table(tmp_path, count=8)
    bring_in(root, "--test", "b")
    monkeypatch.setattr(keypoint_cameras, "_estimated", Given.of)
    test = ("b01", "b03", "b05", "b07")
    for bad, left in (({"b03", "b06"}, ("b01", "b05", "b07")), ({"b03"}, ("b01", "b05", "b07")), (set(), test)):
        monkeypatch.setattr(Given, "bad", frozenset(bad))
        estimate_cameras(root / "birds", replace_cameras=True)
        splits = load_collection(root / "birds").splits
        assert tuple(sorted(splits["test"])) == left
        assert ("b06" in splits["train"]) == ("b06" not in bad)
        index = json.loads((root / "birds" / "cameras.json").read_text())
        assert set(index.get("rejected", {})) == bad
        assert not any("split" in entry for entry in index["images"].values())


def test_what_is_damaged_is_said_before_anything_is_estimated(tmp_path, monkeypatch, capsys):
    root = write_table(tmp_path, count=8)
    bring_in(root, "--test", "b")
    monkeypatch.setattr(keypoint_cameras, "_estimated", None)
    capsys.readouterr()
    (root / "birds" / "splits.json").write_text('{"train": [')
    assert "splits.json: is not valid JSON" in refused(capsys, "data", "cameras", root / "birds")
    (root / "birds" / "splits.json").unlink()
    file = root / "birds" / "cameras.json"
    index = json.loads(file.read_text())
    for spoilt, words in (
        ({"images": {"a": None}}, "image a: is not an object"),
        ({"rejected": []}, '"rejected" must map'),
    ):
        file.write_text(json.dumps({**index, **spoilt}))
        assert words in refused(capsys, "data", "cameras", root / "birds")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda r: (r / "keypoints.csv").write_text("mask,x,y,visible\n"), ["keypoints.csv", "no column 'keypoint'"]),
        (lambda r: (r / "masks" / "b05.png").unlink(), ["b05.png", "missing"]),
        (lambda r: (r / "names.txt").write_text("0. only\n"), ["keypoint 1 has no name"]),
        (lambda r: (r / "names.txt").write_bytes("0. Flügel\n".encode("latin-1")), ["names.txt", "save it as UTF-8"]),
        (
            lambda r: (r / "keypoints.csv").write_text("mask,kind,keypoint,x,y,visible\nb00.png,a,0,nan,1,1\n"),
            ["line 2"],
        ),
    ],
)
def test_a_wrong_table_is_refused_in_one_line(tmp_path, monkeypatch, capsys, spoil, words):
    write_table(tmp_path, count=8)
    spoil(tmp_path)
    monkeypatch.chdir(tmp_path)
    arguments = ["keypoints.csv", "--masks", "masks", "--names", "names.txt", "--out", "birds"]
    message = refused(capsys, "data", "import-keypoints", *arguments)
    assert all(word in message for word in words), message


def test_a_row_without_its_group_is_of_none(tmp_path, capsys):
    (tmp_path / "keypoints.csv").write_text("mask,keypoint,x,y,visible,kind\na.png,0,1,1,1,wren\nb.png,0,1,1,1\n")
    arguments = [tmp_path / "keypoints.csv", "--masks", tmp_path, "--out", tmp_path / "out", "--group", "kind"]
    message = refused(capsys, "data", "import-keypoints", *arguments, "--test", "owl")
    assert "no group is called owl; choose from wren" in message


def test_directions_must_be_known(tmp_path, capsys):
    root = write_table(tmp_path, count=8)
    bring_in(root)
    capsys.readouterr()
    assert "--seed -1: give 0 or more" in refused(capsys, "data", "cameras", root / "birds", "--seed", "-1")
    assert "no keypoint 'wing'" in refused(capsys, "data", "cameras", root / "birds", "--front", "wing:beak")
    assert 'not "FROM:TO"' in refused(capsys, "data", "cameras", root / "birds", "--up", "crown")
    numbered = "\n".join(f"{j}. p{j}" for j in range(len(NAMES)))
    (root / "names.txt").write_text(numbered, encoding="utf-8-sig")  # as editors on Windows save it
    bring_in(root)
    capsys.readouterr()
    assert "left and right" in refused(capsys, "data", "cameras", root / "birds")
    message = refused(capsys, "data", "cameras", root / "birds", "--right", "p0:p1", "--front", "p2:wing")
    assert "no keypoint 'wing'" in message
