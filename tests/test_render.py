"""Rendering: cameras agree with pixels, a seed fixes every byte, work goes on, families stay whole."""

import json
import math
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh
from PIL import Image
from scipy.ndimage import binary_dilation

from tars3d.cli import main
from tars3d.data.collection import load_collection
from tars3d.data.rendering import render
from tars3d.data.rendering.camera_ranges import LEVEL, CameraRanges
from tars3d.data.rendering.materials import part_index, random_environment, random_material
from tars3d.data.rendering.meshes import (
    SourceObject,
    clean,
    families,
    list_objects,
    load_object,
    sample_ground_truth,
    split_by_family,
)
from tars3d.data.rendering.options import RenderOptions
from tars3d.data.rendering.render import cameras_of, render_collection
from tars3d.data.rendering.scene import straight_srgb
from tars3d.errors import UserError
from tars3d.geometry.camera import fitting_focal


def small(**changes: Any) -> RenderOptions:
    usual = {"views": 3, "size": 48, "samples": 4, "workers": 1, "elevation": LEVEL.elevation}
    return RenderOptions(**usual | changes)


@pytest.fixture
def meshes(tmp_path):
    """Two solids without any symmetry that could hide a swapped or mirrored axis."""
    folder = tmp_path / "meshes"
    folder.mkdir()
    for name, height in (("lamp_1", 1.0), ("lamp_2", 1.7)):
        foot = trimesh.creation.box((1.0, 0.2, 0.7))
        pole = trimesh.creation.box((0.2, height, 0.2)).apply_translation((0.4, height / 2, 0.25))
        trimesh.util.concatenate([foot, pole]).export(folder / f"{name}.ply")
    return folder


def grown(mask: np.ndarray) -> np.ndarray:
    return np.asarray(binary_dilation(mask), dtype=bool)


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_cameras_project_the_surface_onto_the_pictures(meshes, tmp_path):
    pytest.importorskip("mitsuba")
    out = render_collection(str(meshes), tmp_path / "out", small(size=96, roll=(-20, 20)))
    collection = load_collection(out)
    assert len(collection.images) == 6
    for record in collection.images:
        picture = np.asarray(Image.open(record.file))
        assert picture.shape == (96, 96, 4)
        points, _ = collection.ground_truth(record.instance)
        seen = points @ record.extrinsics[:, :3].T + record.extrinsics[:, 3]
        pixels = seen @ record.intrinsics.T
        column, row = np.floor(pixels[:, :2] / pixels[:, 2:]).astype(int).T
        projected = np.zeros((96, 96), bool)
        projected[row, column] = True
        alpha = picture[..., 3] > 127
        assert not (alpha & ~grown(projected)).any()
        assert not (projected & ~grown(alpha)).any()


def test_same_bytes_for_any_number_of_workers_and_after_an_interruption(meshes, tmp_path, monkeypatch):
    pytest.importorskip("mitsuba")
    whole = render_collection(str(meshes), tmp_path / "whole", small())
    parallel = render_collection(str(meshes), tmp_path / "parallel", small(workers=2))
    assert contents(whole) == contents(parallel)

    drawn = []
    original = render.random_environment

    def interrupted(rng):
        drawn.append(rng)
        if len(drawn) == 5:  # in the middle of the second object
            raise KeyboardInterrupt
        return original(rng)

    monkeypatch.setattr(render, "random_environment", interrupted)
    with pytest.raises(KeyboardInterrupt):
        render_collection(str(meshes), tmp_path / "resumed", small())
    render_collection(str(meshes), tmp_path / "resumed", small())
    assert len(drawn) == 5 + 3  # the first object was kept
    assert contents(whole) == contents(tmp_path / "resumed")
    other = render_collection(str(meshes), tmp_path / "other", small(seed=1))
    assert (other / "images/lamp_1_000.png").read_bytes() != (whole / "images/lamp_1_000.png").read_bytes()


def test_a_growing_collection_can_be_loaded(meshes, tmp_path, monkeypatch):
    pytest.importorskip("mitsuba")
    write, seen = render.write_index, []

    def write_and_load(root, *content):
        write(root, *content)
        seen.append(load_collection(root).splits["test"])

    monkeypatch.setattr(render, "INDEX_EVERY", 1)
    monkeypatch.setattr(render, "write_index", write_and_load)
    render_collection(str(meshes), tmp_path / "out", small(test=2))
    assert seen == [("lamp_1",), ("lamp_1", "lamp_2"), ("lamp_1", "lamp_2")]


def test_stretched_variants_join_the_train_split_alone(meshes, tmp_path):
    pytest.importorskip("mitsuba")
    trimesh.creation.box((1.0, 0.6, 0.4)).export(meshes / "crate.ply")  # the lamps are one family
    out = render_collection(str(meshes), tmp_path / "out", small(test=1))
    held_out = load_collection(out).splits["test"][0]
    before = contents(out / "images")
    render_collection(str(meshes), out, small(test=1, variants=2, stretch=0.3))  # goes on in the same folder
    collection = load_collection(out)
    assert collection.splits["test"] == (held_out,)
    names = [name for name in collection.splits["train"] if "stretched" in name]
    assert len(names) == 2 * (len(collection.splits["train"]) - len(names))
    assert not any(name.startswith(held_out) for name in names)
    assert before.items() <= contents(out / "images").items()
    for name in names:
        points, _ = collection.ground_truth(name)
        original, _ = collection.ground_truth(name.split("-")[0])
        sides, others = np.ptp(points, axis=0), np.ptp(original, axis=0)
        assert np.isclose(sides.max(), 1, atol=0.02)
        ratios = sides / others
        assert 0.02 < ratios.max() / ratios.min() - 1 < np.exp(0.6)


@pytest.mark.parametrize(("option", "value"), [("variants", -1), ("stretch", 1.0), ("stretch", -0.1), ("count", -1)])
def test_impossible_numbers_of_objects_and_variants_are_named(meshes, tmp_path, option, value):
    with pytest.raises(UserError, match=f"--{option} {value}"):
        render_collection(str(meshes), tmp_path / "out", small(**{option: value}))


def test_refuses_to_mix_settings_or_to_bury_a_foreign_collection(meshes, tmp_path):
    pytest.importorskip("mitsuba")
    render_collection(str(meshes), tmp_path / "out", small(count=1))
    note = json.loads((tmp_path / "out" / ".rendered" / "settings.json").read_text())
    assert note["distance"] == 2.732
    assert note["elevation"] == [0, 40]
    with pytest.raises(UserError, match="views 3 then, 4 now"):
        render_collection(str(meshes), tmp_path / "out", small(views=4))
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "cameras.json").write_text("{}")
    with pytest.raises(UserError, match="not rendered here"):
        render_collection(str(meshes), tmp_path / "foreign", small())


def test_a_collection_stays_of_its_objects(meshes, tmp_path):
    pytest.importorskip("mitsuba")
    trimesh.creation.box((1.0, 0.6, 0.4)).export(meshes / "crate.ply")
    out, few = tmp_path / "out", {"views": 1, "size": 16, "samples": 1}
    render_collection(str(meshes), out, small(count=2, test=1, **few))
    for count in (1, 3):
        with pytest.raises(UserError, match=r"splits.json: is of other objects .*; repeat --test"):
            render_collection(str(meshes), out, small(count=count, **few))
    with pytest.raises(UserError, match="source meshes then, procedural:chair now; category meshes then, chair now"):
        render_collection("procedural:chair", out, small(count=2, test=1, **few))
    assert len(load_collection(out).images) == 2
    note = out / ".rendered" / "settings.json"
    older = {key: value for key, value in json.loads(note.read_text()).items() if key not in ("source", "category")}
    note.write_text(json.dumps(older))
    render_collection(str(meshes), out, small(count=3, test=1, **few))
    assert len(load_collection(out).images) == 3


def test_a_command_that_failed_does_not_bind_the_next(meshes, tmp_path):
    pytest.importorskip("mitsuba")
    out = tmp_path / "out"
    with pytest.raises(UserError, match="procedural:tabel: not a procedural category; choose one of chair"):
        render_collection("procedural:tabel", out, small(count=1))
    assert not out.exists()
    (meshes / "anvil.ply").write_text("ply")
    with pytest.raises(UserError, match="anvil"):
        render_collection(str(meshes), out, small())
    (meshes / "anvil.ply").unlink()
    render_collection(str(meshes), out, small(views=1, size=16, samples=1))
    assert len(load_collection(out).images) == 2


def test_missing_mitsuba_is_one_line_with_the_cure(meshes, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mitsuba", None)
    with pytest.raises(UserError, match=r"pip install -c constraints.txt -e '\.\[render\]'"):
        render_collection(str(meshes), tmp_path / "out", small())


@pytest.mark.parametrize(
    "options",
    [
        {"views": 0},
        {"workers": 0},
        {"seed": -1},
    ],
)
def test_refuses_impossible_options(meshes, tmp_path, options):
    with pytest.raises(UserError, match=f"--{next(iter(options))}"):
        render_collection(str(meshes), tmp_path / "out", small(**options))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("option", "ends"),
    [
        ("distance", (0.5, 0.5)),
        ("distance", (8, 2)),
        ("distance", (2, math.inf)),
        ("elevation", (40, 0)),
        ("elevation", (95, 95)),
        ("roll", (math.nan, 5)),
    ],
)
def test_refuses_impossible_cameras(meshes, tmp_path, option, ends):
    with pytest.raises(UserError, match=f"--{option}"):
        render_collection(str(meshes), tmp_path / "out", small(**{option: ends}))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("asked", "elevation", "roll", "distance"),
    [
        ((), (30, 30), (0, 0), (2.732, 2.732)),
        (("--photos",), (-5, 65), (-12, 12), (1.1, 6)),
        (("--photos", "--category", "airplane"), (-45, 65), (-25, 25), (1.1, 6)),
        (("--photos", "--roll", "0", "0", "--distance", "2"), (-5, 65), (0, 0), (2, 2)),
    ],
)
def test_cameras_of_photos_count_where_nothing_else_is_said(
    meshes, tmp_path, monkeypatch, asked, elevation, roll, distance
):
    found = []
    monkeypatch.setattr(render, "render_collection", lambda source, out, options: found.append(options))
    main(["data", "render", str(meshes), "--out", str(tmp_path / "out"), *asked])
    assert cameras_of(found[0], found[0].category or "meshes") == CameraRanges(elevation, roll, distance)


def test_cores_are_counted_where_the_system_knows_no_affinity(meshes, tmp_path, monkeypatch):
    pytest.importorskip("mitsuba")
    asked = []
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(render, "_render_all", lambda waiting, out, settings, workers: asked.append(workers) or ())
    render_collection(str(meshes), tmp_path / "out", small(workers=None))
    assert asked == [os.cpu_count()]


def test_one_elevation_is_the_regular_orbit():
    cameras = CameraRanges(elevation=(30, 30))
    for view in range(24):
        angles = cameras.angles(view, 24, 0.7, np.random.default_rng(view))
        assert angles == (15 * view, 30, 0)


def test_views_share_the_circle_turned_by_the_phase_and_lean_and_rise_over_their_ranges():
    cameras = CameraRanges(elevation=(-5, 65), roll=(-12, 12))
    rng = np.random.default_rng(0)
    for phase in (0.0, 0.7):
        drawn = np.array([cameras.angles(3, 12, phase, rng) for _ in range(500)])
        turned, elevation, roll = drawn.T
        low = 30 * (3 + phase)
        assert (low <= turned.min(), turned.max() <= low + 30) == (True, True)
        assert np.ptp(turned) > 29
        for values, ends in ((elevation, cameras.elevation), (roll, cameras.roll)):
            assert values.min() == pytest.approx(ends[0], abs=1)
            assert values.max() == pytest.approx(ends[1], abs=1)


def test_a_range_of_distances_is_even_in_perspective_and_keeps_objects_as_large():
    rng = np.random.default_rng(0)
    cameras = CameraRanges(distance=(1.5, 8.0))
    drawn = np.array([cameras.lens(0.5, rng) for _ in range(4000)])
    distance, focal = drawn.T
    assert 1.5 <= distance.min() < 1.6
    assert 7 < distance.max() <= 8
    assert np.median(1 / distance) == pytest.approx((1 / 1.5 + 1 / 8) / 2, abs=0.02)
    np.testing.assert_allclose(focal / distance, 1.8660254037844388 / 2.732)
    near, focal = CameraRanges(distance=(1.5, 1.6)).lens(0.8, rng)
    assert focal == fitting_focal(0.8, near)  # it must still fit
    assert CameraRanges(distance=(8.0, 8.0)).lens(0.5, rng) == (8.0, fitting_focal(0.5, 8.0))  # one number: no zoom


def test_bulky_objects_stay_inside_the_picture():
    focal = fitting_focal(0.866, 2.732)
    center = np.sqrt(2.732**2 - 0.866**2)  # where a ray from the camera touches the bounding sphere
    assert focal * 0.866 / center < 0.5
    assert fitting_focal(0.6, 2.732) == pytest.approx(1.8660254037844388)


def test_alpha_is_straight():
    linear = np.array([[[0.25, 0.25, 0.25, 0.5], [0, 0, 0, 0], [2.0, 2, 2, 1]]])
    np.testing.assert_array_equal(straight_srgb(linear)[0], [[188, 188, 188, 128], [0] * 4, [255] * 4])


def test_clean_normalises_and_refuses_what_is_no_surface():
    box = trimesh.creation.box((2, 4, 1)).apply_translation((5, 6, 7))
    mesh = clean(box.vertices, np.array([*box.faces, [0, 0, 1]]), "box", np.arange(13), ("part",))
    np.testing.assert_allclose([mesh.vertices.min(0), mesh.vertices.max(0)], np.outer([-1, 1], [0.25, 0.5, 0.125]))
    assert mesh.labels is not None
    assert mesh.labels.tolist() == list(range(12))
    corners = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]])
    triangle = [[0, 1, 2]]
    for vertices, faces, words in [
        (corners, np.empty((0, 3)), "no faces"),
        (corners * [np.nan, 1, 1], triangle, "NaN"),
        (corners * 0, triangle, "one point"),
        (corners * [1, 0, 0], triangle, "zero area"),
        (corners, [[0, 1, 3]], "not there"),
    ]:
        with pytest.raises(UserError, match=f"box: .*{words}"):
            clean(vertices, np.array(faces, dtype=np.int64).reshape(-1, 3), "box")


@pytest.mark.parametrize("far", [3.0, 1e7])
def test_faces_without_area_do_not_count_for_the_size(far):
    """A degenerate face far from the object would make it small, or dwarf all of its faces."""
    box = trimesh.creation.box((2, 4, 1))
    corners = [*box.vertices, [far, 0, 0], [2 * far, 0, 0], [3 * far, 0, 0]]
    mesh = clean(np.array(corners), np.array([*box.faces, [8, 9, 10], [9, 9, 9]]), "box")
    alone = clean(box.vertices, box.faces, "box")
    np.testing.assert_array_equal(mesh.vertices, alone.vertices)
    np.testing.assert_array_equal(mesh.faces, alone.faces)


@pytest.mark.parametrize("text", ["", "ply\nrubbish", "ply\nformat ascii 1.0\nelement vertex 0\nend_header\n"])
def test_unreadable_meshes_are_named(tmp_path, text):
    (tmp_path / "broken.ply").write_text(text)
    with pytest.raises(UserError, match=r"broken\.ply: "):
        load_object(list_objects(str(tmp_path), None, 0)[0])


def test_sources_are_checked(meshes, tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        list_objects(str(tmp_path / "nowhere"), None, 0)
    with pytest.raises(UserError, match="count"):
        list_objects("procedural:chair", None, 0)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no meshes"):
        list_objects(str(tmp_path / "empty"), None, 0)
    trimesh.creation.box().export(meshes / "lamp_1.obj")
    with pytest.raises(UserError, match="same name"):
        list_objects(str(meshes), None, 0)


def test_ground_truth_is_area_weighted_and_labelled():
    box = trimesh.creation.box((1, 1, 0.25))
    labels = (np.abs(box.face_normals[:, 2]) > 0.5).astype(int)
    sampled = sample_ground_truth(clean(box.vertices, box.faces, "box", labels), 20_000, np.random.default_rng(0))
    np.testing.assert_allclose(sampled["labels"].mean(), 2 / 3, atol=0.02)
    distance = np.abs(np.abs(sampled["points"]) - [0.5, 0.5, 0.125]).min(1)
    assert distance.max() < 1e-6
    assert (np.abs(sampled["normals"][sampled["labels"] == 1, 2]) == 1).all()


def objects(names, fingerprints=None):
    return [SourceObject(name, Path(name), fingerprint=(fingerprints or {}).get(name, name)) for name in names]


def test_families_are_variants_and_duplicates():
    names = ["CHAIR_1", "CHAIR_2", "SS_001", "SS_002", "STOOL", "STOOL_3", "TWIN"]
    found = families(objects(names, {"TWIN": "same", "CHAIR_2": "same"}))
    assert sorted(found) == [["CHAIR_1", "CHAIR_2", "TWIN"], ["SS_001"], ["SS_002"], ["STOOL", "STOOL_3"]]


def test_splits_keep_families_together_and_are_seeded():
    items = objects([f"A{i:03d}_{v}" for i in range(40) for v in (1, 2)])
    splits = split_by_family(items, {"test": 10, "val": 6}, seed=0)
    assert [len(splits[side]) for side in ("train", "val", "test")] == [64, 6, 10]
    for members in splits.values():
        assert {name[:-1] for name in members if name.endswith("1")} == {
            name[:-1] for name in members if name.endswith("2")
        }
    assert splits == split_by_family(items, {"test": 10, "val": 6}, seed=0)
    assert splits != split_by_family(items, {"test": 10, "val": 6}, seed=1)
    with pytest.raises(UserError, match="there are 80"):
        split_by_family(items, {"test": 81}, 0)
    for sizes, seed, words in (({"test": -1}, 0, "--test -1"), ({"val": -1}, 0, "--val -1"), ({}, -1, "--seed -1")):
        with pytest.raises(UserError, match=f"{words}: give 0 or more"):
            split_by_family(items, sizes, seed)


def test_appearance_is_seeded_and_in_range():
    box = trimesh.creation.box()
    mesh = clean(box.vertices, box.faces, "box", np.arange(12) % 5)
    for seed in range(20):
        first, again = np.random.default_rng(seed), np.random.default_rng(seed)
        part = part_index(mesh, first)
        assert set(part) == set(range(part.max() + 1))
        material = random_material(first)
        assert 0 <= material.texture.min() <= material.texture.max() <= 1
        assert random_environment(first).min() >= 0
        np.testing.assert_array_equal(part_index(mesh, again), part)
        np.testing.assert_array_equal(random_material(again).texture, material.texture)
