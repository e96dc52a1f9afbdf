"""Chairs made of two: `tars3d data mix`."""

from pathlib import Path

import numpy as np
import pytest
import trimesh

from helpers import refused
from tars3d import cli
from tars3d.data.rendering.meshes import SourceMesh, list_objects
from tars3d.data.rendering.mixing import back_onto, find_seat, legs_under, mix, mixed_meshes
from tars3d.errors import UserError
from tars3d.geometry.mesh_files import MeshPart, joined

Box = tuple[tuple[float, float, float], tuple[float, float, float]]  # low and high corner

SEAT: Box = ((-0.25, -0.1, -0.25), (0.25, -0.04, 0.25))
BACK: Box = ((-0.25, -0.06, 0.2), (0.25, 0.5, 0.25))
ARMS: list[Box] = [((x, -0.06, -0.2), (x + 0.05, 0.15, 0.24)) for x in (-0.25, 0.2)]
LEGS: list[Box] = [((x, -0.5, z), (x + 0.05, -0.09, z + 0.05)) for x in (-0.25, 0.2) for z in (-0.25, 0.2)]
POLE: list[Box] = [((-0.03, -0.5, -0.03), (0.03, -0.09, 0.03)), ((-0.2, -0.5, -0.2), (0.2, -0.46, 0.2))]


def boxes(*corners: Box) -> trimesh.Trimesh:
    """Boxes, finely triangulated."""
    return joined([MeshPart(trimesh.creation.box(bounds=np.array(pair)).subdivide(), np.eye(4)) for pair in corners])


def seated(*corners: Box):
    mesh = boxes(*corners)
    found = find_seat(SourceMesh(np.asarray(mesh.vertices), np.asarray(mesh.faces)))
    assert found is not None
    return found


def at_height(mesh: SourceMesh | None, share: float) -> np.ndarray:
    """x and z, in lengths of the mesh, of surface points at a share of its height."""
    assert mesh is not None
    points = np.asarray(trimesh.Trimesh(mesh.vertices, mesh.faces).sample(40_000, seed=0))
    low, size = mesh.vertices.min(0), np.ptp(mesh.vertices, axis=0)
    return points[np.abs((points[:, 1] - low[1]) / size[1] - share) < 0.02][:, [0, 2]]


def folder_of(path: Path, **meshes: trimesh.Trimesh) -> Path:
    path.mkdir()
    for name, mesh in meshes.items():
        mesh.export(path / f"{name}.ply")
    return path


CHAIR = (SEAT, BACK, *LEGS)
OFFICE = (SEAT, BACK, *ARMS, *POLE)


def test_a_seat_is_found_between_legs_and_back():
    found = seated(*CHAIR)
    assert -0.16 < found.under < -0.1
    assert -0.04 < found.over < 0.04
    np.testing.assert_allclose([found.low, found.high], [[-0.25, -0.25], [0.25, 0.25]], atol=0.03)


def test_legs_come_from_one_and_all_else_from_the_other():
    mesh = legs_under(seated(*CHAIR), seated(*OFFICE), np.random.default_rng(0))
    assert np.abs(at_height(mesh, 0.2)).min() > 0.1, "four legs, no pole in the middle"
    assert np.abs(at_height(mesh, 0.55)[:, 1]).min() < 0.1, "arms beside the seat"
    mesh = legs_under(seated(*OFFICE), seated(*CHAIR), np.random.default_rng(0))
    assert np.abs(at_height(mesh, 0.2)).max() < 0.1, "a pole, and no legs at the corners"
    assert at_height(mesh, 0.55)[:, 1].min() > 0.1, "a back, and no arms"


def test_a_back_comes_from_one_and_all_else_from_the_other():
    mesh = back_onto(seated(*CHAIR), seated(*OFFICE), np.random.default_rng(0))
    assert np.abs(at_height(mesh, 0.2)).min() > 0.1, "four legs, no pole in the middle"
    assert np.abs(at_height(mesh, 0.55)[:, 1]).min() < 0.1, "arms beside the seat"


def test_what_does_not_fit_is_not_joined():
    rng = np.random.default_rng(0)
    chair, stool = seated(*CHAIR), seated(SEAT, *LEGS)
    assert back_onto(chair, stool, rng) is None, "a stool brings no back"
    narrow = [((x / 4, y, z), (X / 4, Y, Z)) for (x, y, z), (X, Y, Z) in CHAIR]
    assert legs_under(chair, seated(*narrow), rng) is None, "legs would be a quarter as wide"
    to_the_floor = [((x, -0.5, -0.2), (x + 0.05, 0.15, 0.24)) for x in (-0.4, 0.35)]
    assert legs_under(chair, seated(SEAT, BACK, *to_the_floor, *LEGS), rng) is None, "arms would hang in the air"


def test_a_mixed_object_is_one_piece_in_the_cube(tmp_path):
    objects = list_objects(str(folder_of(tmp_path / "m", a=boxes(*CHAIR), b=boxes(*OFFICE))), None, 0)
    made = dict(mix(objects, 4, seed=0))
    assert sorted(made) == ["mixed_00000_legs", "mixed_00001_back", "mixed_00002_legs", "mixed_00003_back"][: len(made)]
    assert len(made) >= 2
    for mesh in made.values():
        low, high = mesh.vertices.min(0), mesh.vertices.max(0)
        np.testing.assert_allclose(low + high, 0, atol=1e-9)
        assert (high - low).max() == pytest.approx(1)
    again = dict(mix(objects, 4, seed=0))
    assert all(np.array_equal(made[name].vertices, again[name].vertices) for name in made)


def test_objects_without_backs_are_mixed_by_their_legs(tmp_path):
    stools = {f"stool{k}": boxes(SEAT, *LEGS).apply_scale(k) for k in (1, 2, 3)}
    made = list(mix(list_objects(str(folder_of(tmp_path / "m", **stools)), None, 0), 30, seed=0))
    assert len(made) == 6, "every ordered pair of three"
    assert all(name.endswith("legs") for name, _ in made)


def test_only_what_a_collection_trains_on_is_mixed(tmp_path, capsys):
    meshes = folder_of(tmp_path / "m", a=boxes(*CHAIR), b=boxes(*OFFICE), c=boxes(SEAT, *LEGS))
    collection = tmp_path / "c"
    collection.mkdir()
    (collection / "splits.json").write_text('{"train": ["a"], "test": ["b", "c"]}')
    with pytest.raises(UserError, match="/m: no two of 1 objects have seats"):
        mixed_meshes(meshes, tmp_path / "out", 2, split_of=collection)
    (collection / "splits.json").write_text('{"train": ["a", "b"], "test": ["c"]}')
    cli.main(
        ["data", "mix", str(meshes), "--out", str(tmp_path / "out"), "--count", "2", "--split-of", str(collection)]
    )
    assert capsys.readouterr().out.splitlines() == ["2 meshes", str(tmp_path / "out")]
    assert len(list_objects(str(tmp_path / "out"), None, 0)) == 2
    said = refused(capsys, "data", "mix", str(meshes), "--out", str(tmp_path / "out"), "--count", "2")
    assert "is not empty" in said


def test_a_split_of_other_objects_is_named(tmp_path):
    meshes = folder_of(tmp_path / "m", a=boxes(*CHAIR), b=boxes(*OFFICE))
    (tmp_path / "splits.json").write_text('{"train": ["x"], "test": ["a"]}')
    with pytest.raises(UserError, match="trains on no object"):
        mixed_meshes(meshes, tmp_path / "out", 2, split_of=tmp_path)


def test_a_collection_that_keeps_nothing_for_the_test_is_no_split(tmp_path):
    meshes = folder_of(tmp_path / "m", a=boxes(*CHAIR), b=boxes(*OFFICE))
    with pytest.raises(UserError, match=r"has no splits\.json"):
        mixed_meshes(meshes, tmp_path / "out", 2, split_of=tmp_path)


def test_fewer_meshes_than_asked_are_told(tmp_path, capsys):
    meshes = folder_of(tmp_path / "m", a=boxes(*CHAIR), b=boxes(*OFFICE))
    cli.main(["data", "mix", str(meshes), "--out", str(tmp_path / "out"), "--count", "9"])
    said = capsys.readouterr().out.splitlines()[0]
    made = len(list((tmp_path / "out").iterdir()))
    assert made < 9
    assert said == f"{made} meshes, not 9: no more pairs were found that fit"
