"""From a folder of photos to a collection that checks: any kind of file, masks found or given, wrong tables refused in one line."""

import csv
import inspect
import json
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import trimesh
from PIL import Image
from scipy.spatial.transform import Rotation

from helpers import refused, write_toy_collection
from tars3d import cli
from tars3d.data import background
from tars3d.data.checking.check import check_collection
from tars3d.data.collection import load_collection
from tars3d.data.importers.common import Import
from tars3d.data.pictures import as_picture, read_picture
from tars3d.errors import UserError
from tars3d.geometry.camera import look_at_origin
from tars3d.geometry.rasterize import silhouette
from tars3d.geometry.views import render_view

SIZE, FOCAL = 96, 150.0


def thing():
    parts = [
        trimesh.creation.box(bounds=[[-0.25, -0.1, -0.3], [0.35, 0.0, 0.2]]),
        trimesh.creation.box(bounds=[[-0.25, 0.0, 0.1], [0.2, 0.5, 0.2]]),
        trimesh.creation.box(bounds=[[0.25, -0.5, -0.3], [0.35, 0.0, -0.2]]),
    ]
    return trimesh.util.concatenate(parts)


def photo_and_mask(view):
    k = np.array([[FOCAL, 0, SIZE / 2], [0, FOCAL, SIZE / 2], [0, 0, 1]])
    args = (k, look_at_origin(45.0 * view, 20, 2.7), True, SIZE, SIZE)
    return render_view(thing(), *args, vertex_colors=np.tile([0.4, 0.3, 0.2], (24, 1)), supersample=1), silhouette(
        thing(), *args
    )


def save(kind, path, rgb, mask):
    """The same photo as a file of each kind that cameras, phones and drawing programs write."""
    image = Image.fromarray(rgb)
    if kind == "rgba":
        Image.fromarray(np.dstack([rgb, mask.astype(np.uint8) * np.uint8(255)])).save(path.with_suffix(".png"))
    elif kind == "16-bit":
        Image.fromarray(rgb[..., 0].astype(np.uint16) * 257).save(path.with_suffix(".png"))
    elif kind == "palette":
        image.quantize(64).save(path.with_suffix(".png"))
    elif kind == "cmyk":
        image.convert("CMYK").save(path.with_suffix(".jpg"), quality=95)
    elif kind == "exif":
        exif = Image.Exif()
        exif[274] = 6  # stored lying on its side
        Image.fromarray(np.rot90(rgb)).save(path.with_suffix(".jpg"), exif=exif, quality=95)
    else:
        image.save(path.with_suffix(".jpg"), quality=95)


def write(root, kind="jpeg"):
    (root / "photos").mkdir(parents=True)
    rows = [["photo", "object", "azimuth", "elevation", "distance", "focal"]]
    for view in range(8):
        save(kind, root / "photos" / f"v{view}", *photo_and_mask(view))
        rows.append([f"v{view}.jpg", "thing", 45 * view, 20, 2.7, FOCAL])
    with (root / "views.csv").open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows(rows)
    return root


def bring_in(root, *more):
    arguments = [
        "data",
        "import-photos",
        root / "photos",
        "--viewpoints",
        root / "views.csv",
        "--out",
        root / "out",
        "--aim",
        "picture",
    ]
    cli.main([str(a) for a in [*arguments, *more]])


@pytest.mark.parametrize("kind", ["jpeg", "rgba", "16-bit", "palette", "cmyk", "exif"])
def test_photos_of_any_kind_become_a_collection_that_checks(tmp_path, kind, capsys):
    root = write(tmp_path / "Stühle, 2. Versuch", kind)
    bring_in(root, "--category", "thing")
    assert ("masks found automatically" in capsys.readouterr().out) == (kind != "rgba")
    report = check_collection(root / "out", progress=False)
    assert report.problems == report.warnings == []
    for view, record in enumerate(load_collection(root / "out").images):
        assert record.file.parent.samefile(root / "photos")
        truth, found = photo_and_mask(view)[1], read_picture(record.file, record.mask).mask
        assert (truth & found).sum() / (truth | found).sum() > 0.93


def capture(root, name, front=0):
    """Photos of the thing in a folder with a transforms.json, in a world that is turned, moved and five times as large."""
    folder = root / "captures" / name
    (folder / "images").mkdir(parents=True)
    world = Rotation.from_euler("xyz", [100, 20, 200], degrees=True).as_matrix()
    frames = []
    for view in range(8):
        rgb, mask = photo_and_mask(view)
        save("rgba" if name == "cut" else "jpeg", folder / "images" / f"f{view}", rgb, mask)
        turn, move = np.split(look_at_origin(45.0 * view, 20, 2.7), [3], axis=1)
        pose = np.eye(4)
        pose[:3, :3] = world @ turn.T @ np.diag([1, -1, -1])
        pose[:3, 3] = 5 * world @ (-turn.T @ move)[:, 0] + [1, 2, 3]
        frames.append({"file_path": f"images/f{view}", "transform_matrix": pose.tolist()})
    tree = {"fl_x": FOCAL, "cx": SIZE / 2, "cy": SIZE / 2, "w": SIZE, "h": SIZE, "k1": 0.01, "frames": frames}
    (folder / "transforms.json").write_text(json.dumps(tree))
    return folder / "transforms.json"


def bring_in_captures(root, fronts="object,photo,azimuth\ncut,f0.png,\nstudio,f3.jpg,135\n"):
    (root / "fronts.csv").write_text(fronts)
    command = ["data", "import-transforms", root / "captures", "--fronts", root / "fronts.csv", "--out", root / "out"]
    cli.main([str(a) for a in [*command, "--category", "thing"]])


def test_captures_of_a_nerf_tool_come_to_the_objects_own_frame_and_size(tmp_path, capsys):
    capture(tmp_path, "cut")
    capture(tmp_path, "studio")
    bring_in_captures(tmp_path)
    assert "16 pictures; objects: 2 train, 0 val, 0 test; 8 masks found" in capsys.readouterr().out
    report = check_collection(tmp_path / "out", progress=False)
    assert report.problems == report.warnings == []
    for record in load_collection(tmp_path / "out").images:
        view = int(record.file.stem[1:])
        expected = look_at_origin(45.0 * view, 20, 2.7)
        turned = Rotation.from_matrix(record.extrinsics[:, :3] @ expected[:, :3].T).magnitude()
        assert np.rad2deg(turned) < 2.5  # the thing's middle is 0.07 off the origin that its photos were taken around
        points = thing().vertices - thing().bounds.mean(axis=0)  # its longest side is 1
        seen = points @ record.extrinsics[:, :3].T + record.extrinsics[:, 3]
        pixels = (seen @ record.intrinsics.T)[:, :2] / seen[:, 2:]
        truth = thing().vertices @ expected[:, :3].T + expected[:, 3]
        true_pixels = (truth @ record.intrinsics.T)[:, :2] / truth[:, 2:]
        assert np.abs(pixels - true_pixels).max() < 4  # of 96: a hull is a little larger than its object


def test_captures_that_cannot_be_used_say_what_to_mend(tmp_path, capsys):
    file = capture(tmp_path, "cut")
    good = json.loads(file.read_text())

    def error(fronts="object,photo\ncut,f0\n", **changes):
        file.write_text(json.dumps({**good, **changes}))
        with pytest.raises(SystemExit) as stop:
            bring_in_captures(tmp_path, fronts)
        assert stop.value.code == 1
        assert not (tmp_path / "out").exists()
        return capsys.readouterr().err.splitlines()[-1]

    assert "no photo 'f9'" in error("object,photo\ncut,f9\n")
    assert "bends the corners by" in error(k1=0.5)
    assert "is OPENCV_FISHEYE; make pinhole photos" in error(camera_model="OPENCV_FISHEYE")
    assert "found for 4000x3000" in error(w=4000, h=3000)
    assert "images/f9" in error(frames=[{**good["frames"][0], "file_path": "images/f9"}])
    assert "has 1 photos" in error(frames=good["frames"][:1])
    assert "which way is up" in error(
        frames=[{**frame, "transform_matrix": good["frames"][0]["transform_matrix"]} for frame in good["frames"]]
    )
    mirrored = np.diag([1, 1, -1, 1]) @ good["frames"][0]["transform_matrix"]
    assert "no camera's place" in error(frames=[{**good["frames"][0], "transform_matrix": mirrored.tolist()}] * 2)
    assert "neither fl_x" in error(fl_x=None)
    apart = [{**frame, "cx": 48 + 90 * (view % 3)} for view, frame in enumerate(good["frames"])]
    assert "nothing lies inside" in error(frames=apart)


def test_the_camera_in_the_hand_sees_the_object_where_its_mask_is(tmp_path):
    root = write(tmp_path)
    for file in (root / "photos").iterdir():
        photo = np.asarray(Image.open(file))
        Image.fromarray(np.roll(photo, (8, -11), (0, 1))).save(file, quality=95)
    bring_in(root, "--aim", "mask")
    for record in load_collection(root / "out").images:
        rows, columns = np.nonzero(read_picture(record.file, record.mask).mask)
        u, v, w = record.intrinsics @ record.extrinsics[:, 3]
        middle = [(columns.min() + columns.max() + 1) / 2, (rows.min() + rows.max() + 1) / 2]
        np.testing.assert_allclose([u / w, v / w], middle, atol=1e-6)
        assert np.linalg.norm(record.extrinsics[:, 3]) == pytest.approx(2.7, abs=1e-5)


def test_a_rolled_camera_is_imported_rolled(tmp_path):
    root = write(tmp_path)
    with (root / "views.csv").open(newline="", encoding="utf-8") as stream:
        head, *rows = csv.reader(stream)
    with (root / "views.csv").open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([[*head, "roll"], *([*row, 12 if turn else ""] for turn, row in enumerate(rows))])
    bring_in(root)
    for view, record in enumerate(load_collection(root / "out").images):
        expected = look_at_origin(45 * view, 20, 2.7, 12 if view else 0)
        np.testing.assert_allclose(record.extrinsics, expected, atol=1e-9)


def edit(name, old, new):
    return lambda root: (root / name).write_text((root / name).read_text().replace(old, new))


def cut_short(root):
    """A last row without most of its columns."""
    edit("views.csv", "v7.jpg,thing,315,20,2.7,150.0", "v7.jpg")(root)


@pytest.mark.parametrize(
    ("spoil", "more", "words"),
    [
        (lambda r: (r / "photos/v3.jpg").unlink(), [], ["v3.jpg", "missing"]),
        (lambda r: (r / "views.csv").unlink(), [], ["views.csv", "azimuth"]),
        (edit("views.csv", "focal", "zoom"), [], ["views.csv", "no column 'focal'"]),
        (edit("views.csv", "v2.jpg,thing,90", "v2.jpg,thing,east"), [], ["line 4", "azimuth 'east'"]),
        (edit("views.csv", ",", ";"), [], ["no column 'photo'", "save it with commas"]),
        (edit("views.csv", "v2.jpg", "v1.jpg"), [], ["line 4", "v1 comes twice"]),
        (edit("views.csv", "v2.jpg", "../v2.jpg"), [], ["../v2.jpg", "not the name"]),
        (lambda r: None, ["--test", "stool"], ["no object is called stool"]),
        (cut_short, ["--test", "stool"], ["no object is called stool; choose from thing"]),
        (cut_short, [], ["line 9", "azimuth ''"]),
        (lambda r: (r / "m").mkdir(), ["--masks", "m"], ["v0.png", "missing", "mask of v0.jpg"]),
        (lambda r: None, ["--background", "none"], ["v0.jpg", "neither mask nor alpha", "--background"]),
        (
            lambda r: (r / "photos/v1.jpg").write_bytes((r / "photos/v1.jpg").read_bytes()[:400]),
            [],
            ["v1.jpg", "damaged"],
        ),
    ],
)
def test_a_wrong_table_or_photo_is_refused_in_one_line(tmp_path, monkeypatch, capsys, spoil, more, words):
    spoil(write(tmp_path))
    monkeypatch.chdir(tmp_path)
    message = refused(capsys, "data", "import-photos", "photos", "--viewpoints", "views.csv", "--out", "out", *more)
    assert all(word in message for word in words), message
    assert not Path("out/cameras.json").exists()


def test_what_was_mended_by_hand_stays_when_photos_are_imported_again(tmp_path, capsys):
    root = write(tmp_path)
    edit("views.csv", "v0.jpg,thing", "v0.jpg,other")(root)
    bring_in(root)
    mask, splits = root / "out" / "masks" / "v3.png", root / "out" / "splits.json"
    mended = np.array(Image.open(mask)) & (np.arange(SIZE) < SIZE // 2)
    Image.fromarray(mended.astype(np.uint8) * np.uint8(255)).save(mask)
    splits.write_text(json.dumps({"train": ["thing"], "val": ["other"], "test": []}))
    kept = mask.read_bytes()
    bring_in(root)
    assert mask.read_bytes() == kept
    assert load_collection(root / "out").splits["val"] == ("other",)
    bring_in(root, "--test", "thing")
    assert load_collection(root / "out").splits == {"train": (), "val": ("other",), "test": ("thing",)}


def test_masks_that_are_kept_are_not_called_found(tmp_path, capsys):
    root = write(tmp_path)
    bring_in(root)
    assert "8 masks found automatically" in capsys.readouterr().out
    (root / "out" / "masks" / "v3.png").unlink()
    bring_in(root)
    assert "1 masks found automatically" in capsys.readouterr().out
    bring_in(root)
    assert "masks found" not in capsys.readouterr().out


def test_another_collection_is_not_overwritten(tmp_path, monkeypatch, capsys):
    root = write(tmp_path)
    toys = write_toy_collection(root / "toys", splits={"train": ["toy0"]})
    kept = {file: file.read_bytes() for file in toys.rglob("*") if file.is_file()}
    photos = ["data", "import-photos", root / "photos", "--viewpoints", root / "views.csv"]
    (root / "points.csv").write_text("photo,keypoint,x,y,visible\nv0.jpg,top,48,40,1\n")
    keypoints = ["data", "import-keypoints", root / "points.csv", "--images", root / "photos"]
    for command in (photos, keypoints):
        assert f"{toys}: holds another collection; choose another --out" in refused(capsys, *command, "--out", toys)
    assert kept == {file: file.read_bytes() for file in toys.rglob("*") if file.is_file()}
    monkeypatch.chdir(root)
    with pytest.raises(UserError, match="holds another collection"):
        Import(toys, "thing", {"photos": root / "photos"}, {"v0": {}}).write()


def test_an_import_may_be_repeated_with_more_pictures_and_after_a_move(tmp_path):
    root = write(tmp_path / "here")
    table = (root / "views.csv").read_text()
    (root / "views.csv").write_text("\n".join(table.splitlines()[:6]))
    bring_in(root)
    (root / "views.csv").write_text(table)
    bring_in(root)
    root = root.rename(tmp_path / "there")
    bring_in(root)
    assert len(load_collection(root / "out").images) == 8


def test_a_table_is_looked_through_before_any_photo_is_read(tmp_path, capsys):
    root = write(tmp_path)
    edit("views.csv", "v7.jpg", "v1.jpg")(root)
    command = ["data", "import-photos", root / "photos", "--viewpoints", root / "views.csv", "--out", root / "out"]
    assert "line 9: the photo v1 comes twice" in refused(capsys, *command)
    assert not (root / "out").exists()


def test_spaces_around_values_of_a_table_are_no_part_of_them(tmp_path):
    root = write(tmp_path)
    edit("views.csv", ",", " , ")(root)
    edit("views.csv", "thing , 0 ", "other , 0 ")(root)
    bring_in(root, "--test", "other")
    assert load_collection(root / "out").splits == {"train": ("thing",), "val": (), "test": ("other",)}


def test_two_files_of_one_stem_are_no_two_pictures(tmp_path, capsys):
    (tmp_path / "points.csv").write_text("photo,keypoint,x,y,visible\na.png,top,4,4,1\na.jpg,top,4,4,1\n")
    message = refused(
        capsys, "data", "import-keypoints", tmp_path / "points.csv", "--images", tmp_path, "--out", tmp_path / "out"
    )
    assert "names a.png and a.jpg; rename one" in message
    lone = [tmp_path / "points.csv", "--images", tmp_path, "--out", tmp_path / "out", "--test", "x"]
    assert "--test x: names groups; give --group" in refused(capsys, "data", "import-keypoints", *lone)


def test_keypoints_on_photos_need_no_masks(tmp_path, capsys):
    root = write(tmp_path)
    (root / "points.csv").write_text(
        "mask,keypoint,x,y,visible\n" + "".join(f"v{k}.jpg,top,48,40,1\n" for k in range(8))
    )
    table = ["data", "import-keypoints", root / "points.csv", "--out", root / "out"]
    cli.main([str(a) for a in [*table, "--images", root / "photos"]])
    entry = json.loads((root / "out" / "cameras.json").read_text())["images"]["v0"]
    assert entry["file"] == "{images}/v0.jpg"
    assert entry["mask"] == "masks/v0.png"
    assert (root / "out" / "masks" / "v0.png").is_file()
    capsys.readouterr()
    assert "neither photos nor masks" in refused(capsys, *table)


def test_the_table_of_keypoints_may_name_photos_beside_masks(tmp_path):
    root = write(tmp_path)
    (root / "points.csv").write_text(
        "photo,keypoint,x,y,visible\n" + "".join(f"v{k}.jpg,top,48,40,1\n" for k in range(8))
    )
    (root / "cut").mkdir()
    for k in range(8):
        Image.fromarray(photo_and_mask(k)[1]).save(root / "cut" / f"v{k}.png")
    folders = ["--images", str(root / "photos"), "--masks", str(root / "cut")]
    cli.main(["data", "import-keypoints", str(root / "points.csv"), "--out", str(root / "out"), *folders])
    entry = json.loads((root / "out" / "cameras.json").read_text())["images"]["v3"]
    assert (entry["file"], entry["mask"]) == ("{images}/v3.jpg", "{masks}/v3.png")


def test_estimated_cameras_stay_where_keypoints_are_imported_again(tmp_path):
    root = write(tmp_path)
    table, file = root / "points.csv", root / "out" / "cameras.json"

    def bring_keypoints(moved):
        rows = [f"v{k}.jpg,{'abc'[k % 3]},top,{48 + (k == moved)},40,1" for k in range(8)]
        table.write_text("\n".join(["photo,kind,keypoint,x,y,visible", *rows]))
        more = ["--images", str(root / "photos"), "--group", "kind", "--test", "c"]
        cli.main(["data", "import-keypoints", str(table), "--out", str(root / "out"), *more])
        return json.loads(file.read_text())

    index = bring_keypoints(None)
    for entry in index["images"].values():
        entry["camera"] = {"model": "orthographic"}
    # as `data cameras` sets pictures aside: v6 was for training, v7 too
    index["rejected"] = {name: {**index["images"].pop(name), "split": "train"} for name in ("v6", "v7")}
    for entry in index["rejected"].values():
        del entry["camera"]
    file.write_text(json.dumps(index))
    index = bring_keypoints(3)
    assert [name for name, entry in index["images"].items() if "camera" not in entry] == ["v3"]
    assert {name: entry["split"] for name, entry in index["rejected"].items()} == {"v6": "train", "v7": "train"}
    splits = json.loads((root / "out" / "splits.json").read_text())
    assert splits == {"train": ["v0", "v1", "v3", "v4"], "val": [], "test": ["v2", "v5"]}
    assert list(bring_keypoints(6)["rejected"]) == ["v7"]


def test_pictures_set_aside_follow_when_other_groups_are_named_for_the_test(tmp_path):
    root = write(tmp_path)
    table, file = root / "points.csv", root / "out" / "cameras.json"
    rows = [f"v{k}.jpg,{'abc'[k % 3]},top,48,40,1" for k in range(8)]
    table.write_text("\n".join(["photo,kind,keypoint,x,y,visible", *rows]))

    def bring_keypoints(test):
        more = ["--images", str(root / "photos"), "--group", "kind", "--test", test]
        cli.main(["data", "import-keypoints", str(table), "--out", str(root / "out"), *more])
        return json.loads(file.read_text())

    index = bring_keypoints("c")
    sides = {"v2": "test", "v4": "train", "v6": "train"}  # as `data cameras` sets pictures aside
    index["rejected"] = {name: {**index["images"].pop(name), "split": side} for name, side in sides.items()}
    file.write_text(json.dumps(index))
    found = {name: entry["split"] for name, entry in bring_keypoints("b")["rejected"].items()}
    assert found == {"v2": "train", "v4": "test", "v6": "train"}


@pytest.fixture
def forget():
    background._network.cache_clear()
    yield
    background._network.cache_clear()


def fake_rembg(monkeypatch, mask):
    def remove(image, session, only_mask):
        assert session == "weights"
        assert only_mask
        return Image.fromarray(mask.astype(np.uint8) * np.uint8(200))

    module = types.ModuleType("rembg")
    module.remove, module.new_session = remove, {"u2net": "weights"}.__getitem__
    monkeypatch.setitem(sys.modules, "rembg", module)
    return module


def test_any_ground_is_removed_by_rembg(monkeypatch, forget):
    rgb, mask = photo_and_mask(1)
    fake_rembg(monkeypatch, mask)
    clutter = np.random.default_rng(0).integers(0, 256, rgb.shape, dtype=np.uint8)
    picture = as_picture(np.where(mask[..., None], rgb, clutter), background="auto")
    np.testing.assert_array_equal(picture.mask, mask)
    assert "by rembg" in picture.notes[0]
    given = as_picture(rgb, ~mask, background="auto")  # a mask that is given counts
    np.testing.assert_array_equal(given.mask, ~mask)


def test_rembg_that_finds_nothing_or_has_no_weights_is_one_line(monkeypatch, forget):
    rgb, mask = photo_and_mask(1)
    module = fake_rembg(monkeypatch, np.zeros_like(mask))
    with pytest.raises(UserError, match="image: --background auto finds nothing"):
        as_picture(rgb, background="auto")
    background._network.cache_clear()

    def offline(network):
        raise OSError("no route to host\nmore")

    module.new_session = offline
    with pytest.raises(
        UserError, match=r"cannot load its weights u2net.onnx \(no route to host\); check the connection"
    ):
        as_picture(rgb, background="auto")


def test_without_rembg_the_extra_is_named(tmp_path, monkeypatch, forget, capsys):
    monkeypatch.setitem(sys.modules, "rembg", None)
    Image.fromarray(photo_and_mask(0)[0]).save(tmp_path / "a.png")
    message = refused(capsys, "reconstruct", tmp_path / "a.png", "--background", "auto", "--out", tmp_path / "out")
    assert "needs rembg; give it with pip install -c constraints.txt -e '.[background]'" in message
    assert not (tmp_path / "out").exists()


def test_without_rembg_several_pictures_are_told_once(tmp_path, monkeypatch, forget, capsys):
    monkeypatch.setitem(sys.modules, "rembg", None)
    pictures = [tmp_path / f"{name}.png" for name in "abc"]
    for picture in pictures:
        Image.fromarray(photo_and_mask(0)[0]).save(picture)
    with pytest.raises(SystemExit) as stop:
        cli.main(["reconstruct", *map(str, pictures), "--background", "auto", "--out", str(tmp_path / "out")])
    assert stop.value.code == 1
    said = capsys.readouterr().err
    assert said.count("skipped: --background auto: needs rembg; give it with") == said.count("rembg") == 1
    assert said.endswith("error: 3 of 3 could not be used, as said above; the others are done\n")


def test_a_rembg_that_does_not_load_is_told_from_none(monkeypatch, forget, tmp_path):
    (tmp_path / "rembg.py").write_text("print('No backend found.')\nraise SystemExit(1)\n")
    monkeypatch.delitem(sys.modules, "rembg", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=r"needs rembg, what is installed does not load \(1\); give it with"):
        as_picture(photo_and_mask(1)[0], background="auto")


def test_the_real_rembg_takes_what_it_is_given(monkeypatch, forget, tmp_path):
    """What is called has these names there; its weights are not fetched."""
    rembg = pytest.importorskip("rembg", reason="extra 'background' is not installed")
    assert {"session", "only_mask"} <= set(inspect.signature(rembg.remove).parameters)
    mask = photo_and_mask(1)[1]

    class Session:
        def predict(self, image, *args, **kwargs):
            return [Image.fromarray(mask.astype(np.uint8) * np.uint8(200))]

    monkeypatch.setattr(rembg, "new_session", lambda network: Session())
    np.testing.assert_array_equal(as_picture(photo_and_mask(1)[0], background="auto").mask, mask)
