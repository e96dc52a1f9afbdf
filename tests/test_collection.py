"""Collections: what is written is read back; what is wrong is refused in one line that names the file."""

import json
from dataclasses import replace

import numpy as np
import pytest
import trimesh
from PIL import Image

from tars3d.data import collection
from tars3d.data.collection import load_collection, write_index
from tars3d.data.ground_truth import load_cloud
from tars3d.data.image_record import ImageRecord
from tars3d.errors import UserError

INTRINSICS = [[60.0, 0, 16], [0, 60.0, 16], [0, 0, 1]]
EXTRINSICS = [[1.0, 0, 0, 0], [0, -1.0, 0, 0], [0, 0, -1.0, 2.5]]


def entry(name, instance, **camera):
    camera = {"model": "perspective", "intrinsics": INTRINSICS, "extrinsics": EXTRINSICS, **camera}
    return {"file": f"images/{name}.png", "instance": instance, "camera": camera}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "images").mkdir()
    images = {}
    for name, instance in (("a0", "a"), ("a1", "a"), ("b0", "b")):
        Image.new("RGBA", (32, 32)).save(tmp_path / "images" / f"{name}.png")
        images[name] = entry(name, instance)
    write_index(tmp_path, "chair", images, {"train": ["a"], "test": ["b"]})
    return tmp_path


def change(folder, edit):
    index = json.loads((folder / "cameras.json").read_text())
    edit(index["images"])
    (folder / "cameras.json").write_text(json.dumps(index))


def refusal(folder, **options):
    with pytest.raises(UserError) as caught:
        load_collection(folder, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert str(folder) in message
    return message


def test_loads_records_splits_and_cameras(folder):
    collection = load_collection(folder)
    assert collection.category == "chair"
    assert collection.instances == ("a", "b")
    assert [record.name for record in collection.split("train")] == ["a0", "a1"]
    assert collection.split("val") == ()
    np.testing.assert_array_equal(collection.images[0].intrinsics, INTRINSICS)
    np.testing.assert_array_equal(collection.images[0].extrinsics, EXTRINSICS)


def test_without_splits_everything_is_train_and_test(folder):
    (folder / "splits.json").unlink()
    collection = load_collection(folder)
    assert collection.split("train") == collection.split("test") == collection.images


def test_records_survive_writing_orthographic_masks_and_keypoints_too(folder):
    orthographic = {
        "model": "orthographic",
        "scale": 20.0,
        "principal_point": [15, 17],
        "extrinsics": EXTRINSICS,
    }
    change(folder, lambda images: images["a0"].update(camera=orthographic, mask="images/a1.png"))
    change(folder, lambda images: images["a0"].update(keypoints={"seat": [3.5, 4, 1], "leg": [0, 0, 0]}))
    first = load_collection(folder).images[0]
    np.testing.assert_array_equal(first.intrinsics, [[20, 0, 15], [0, 20, 17], [0, 0, 1]])
    assert first.keypoints == {"seat": (3.5, 4.0, True), "leg": (0.0, 0.0, False)}
    write_index(folder, "chair", {record.name: record.to_json(folder) for record in load_collection(folder).images})
    again = load_collection(folder).images[0]
    assert isinstance(again, ImageRecord)
    assert (again.mask, again.model, again.keypoints) == (first.mask, first.model, first.keypoints)
    np.testing.assert_array_equal(again.intrinsics, first.intrinsics)


@pytest.mark.parametrize(
    ("camera", "words"),
    [
        ({"model": "fisheye"}, "unknown camera model"),
        ({"model": "orthographic"}, "lacks 'scale'"),
        ({"intrinsics": [[60, 0, 16], [0, 60, 16]]}, "shape (2, 3)"),
        ({"intrinsics": [[60, 0, 16], [0, "x", 16], [0, 0, 1]]}, "not an array of numbers"),
        ({"intrinsics": [[0, 0, 16], [0, 60, 16], [0, 0, 1]]}, "singular"),
        ({"intrinsics": np.transpose(INTRINSICS).tolist()}, "transposed"),
        ({"extrinsics": [[float("nan"), 0, 0, 0], *EXTRINSICS[1:]]}, "NaN"),
        ({"extrinsics": (2 * np.array(EXTRINSICS)).tolist()}, "not orthonormal"),
        ({"extrinsics": [[-1.0, 0, 0, 0], *EXTRINSICS[1:]]}, "mirrors"),
        ({"extrinsics": [*EXTRINSICS[:2], [0, 0, -1.0, -2.5]]}, "1 of 3 cameras look away"),
    ],
)
def test_refuses_impossible_cameras(folder, camera, words):
    change(folder, lambda images: images.update(a1=entry("a1", "a", **camera)))
    message = refusal(folder)
    assert words in message
    assert "a1" in message


def test_cameras_that_look_away_can_be_loaded_for_a_report(folder):
    change(folder, lambda images: images["a1"]["camera"]["extrinsics"][2].__setitem__(3, -2.5))
    collection = load_collection(folder, check_poses=False)
    assert [record.pose_looks_away for record in collection.images] == [False, True, False]


def test_refuses_missing_and_broken_files(folder, tmp_path):
    assert "no such folder" in refusal(tmp_path / "nowhere")
    (folder / "images" / "a1.png").unlink()
    assert "a1.png: is missing" in refusal(folder)
    (folder / "cameras.json").write_text('{"format": ')
    assert "not valid JSON" in refusal(folder)
    (folder / "cameras.json").write_text("[]")
    assert "not a collection's index" in refusal(folder)
    (folder / "cameras.json").unlink()
    assert "cameras.json: is missing" in refusal(folder)


def test_refuses_pictures_outside_the_collection(folder):
    change(folder, lambda images: images["a0"].update(file="../secret.png"))
    assert "leaves the collection" in refusal(folder)


def test_refuses_double_names(folder):
    Image.new("RGB", (32, 32)).save(folder / "images" / "b0.jpg")
    assert "share a name" in refusal(folder)
    (folder / "images" / "b0.jpg").unlink()
    text = (folder / "cameras.json").read_text()
    (folder / "cameras.json").write_text(text.replace('"b0":', '"a0":'))
    assert "'a0' appears twice" in refusal(folder)


def test_refuses_splits_of_unknown_or_repeated_instances(folder):
    (folder / "splits.json").write_text('{"train": ["a"], "test": ["c"]}')
    assert "unknown instance c" in refusal(folder)
    (folder / "splits.json").write_text('{"train": ["a"], "test": ["a"]}')
    assert "a is in 'train' and again in 'test'" in refusal(folder)
    (folder / "splits.json").write_text('{"train": "a"}')
    assert "lists of instance names" in refusal(folder)


def test_ground_truth_from_npz_and_ply(folder):
    collection = load_collection(folder)
    points = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    (folder / "ground_truth").mkdir()
    truth = folder / "ground_truth" / "a.npz"
    np.savez(truth, points=points, normals=points, labels=np.arange(50), label_names=["seat", "leg"])
    trimesh.creation.box().export(folder / "ground_truth" / "b.ply")
    np.testing.assert_array_equal(collection.ground_truth("a")[0], points)
    labels = collection.ground_truth_labels("a")
    assert labels is not None
    assert labels[1] == ("seat", "leg")
    sampled, normals = collection.ground_truth("b")
    assert normals is not None
    np.testing.assert_allclose(np.abs(sampled).max(1), 0.5, atol=1e-6)
    np.testing.assert_allclose((sampled * normals).sum(1), 0.5, atol=1e-6)
    assert collection.ground_truth_labels("b") is None
    np.savez(truth, points=points, normals=points[:9])
    with pytest.raises(UserError, match="normals"):
        collection.ground_truth("a")
    for normal in (np.nan, np.inf):
        np.savez(truth, points=points, normals=np.full_like(points, normal))
        with pytest.raises(UserError, match=r"a\.npz: has normals that are NaN, infinite or no numbers; "):
            collection.ground_truth("a")
    with pytest.raises(UserError, match=r"c\.npz: "):
        collection.ground_truth("c")


@pytest.mark.parametrize(
    "file", ["empty.npy", "words.npy", "zip.npy", "cut.npy", "words.npz", "array.npz", "holes.ply", "empty.ply"]
)
def test_damaged_ground_truth_is_refused_in_one_line(tmp_path, file):
    words = np.full((5, 3), "x")
    np.save(tmp_path / "words.npy", words)
    np.savez(tmp_path / "words.npz", points=words)
    np.save(tmp_path / "array.npy", np.zeros((5, 3)))
    (tmp_path / "array.npy").rename(tmp_path / "array.npz")
    np.savez(tmp_path / "zip.npz", points=np.zeros((5, 3)))
    (tmp_path / "zip.npz").rename(tmp_path / "zip.npy")
    (tmp_path / "cut.npy").write_bytes((tmp_path / "zip.npy").read_bytes()[:-9])
    trimesh.Trimesh(np.eye(3), [[0, 1, 3]], process=False).export(tmp_path / "holes.ply")
    for empty in ("empty.npy", "empty.ply"):
        (tmp_path / empty).touch()
    with pytest.raises(UserError) as caught:
        load_cloud(tmp_path / file)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / file}: ")
    assert "again" in message
    assert "\n" not in message


class Counted(str):
    """A name that counts how often it is compared."""

    compared = 0
    __hash__ = str.__hash__

    def __eq__(self, other):
        Counted.compared += 1
        return str.__eq__(self, other)


def test_the_names_of_many_objects_are_not_compared_each_with_each(folder):
    one = load_collection(folder).images[0]
    names = [f"object{number}" for number in range(100)]
    (folder / "splits.json").write_text(json.dumps({"train": names}))
    images = tuple(replace(one, instance=Counted(name)) for name in names)
    assert collection._splits(folder, images)["train"] == tuple(names)
    assert Counted.compared <= 2 * len(names)
