"""Meshes of fewer faces: the same surface, closed where it was, and everything that the vertices carry is read at the new ones."""

import json

import numpy as np
import pytest
import trimesh
from scipy.spatial import KDTree

from helpers import refused
from tars3d import cli, load
from tars3d.data.pictures import sample_pictures
from tars3d.errors import UserError
from tars3d.export import read_mesh
from tars3d.geometry.isosurface import extract_mesh
from tars3d.geometry.simplify import simplified
from tars3d.methods.surface import canonical_coordinates

OFFICE = next(path for path in sample_pictures() if path.stem == "office")


def bench() -> trimesh.Trimesh:
    """A slab on two legs, as the mesher gives it."""

    def sdf(points: np.ndarray) -> np.ndarray:
        def box(middle: tuple[float, float, float], half: tuple[float, float, float]) -> np.ndarray:
            beyond = np.abs(points - middle) - half
            return np.linalg.norm(np.maximum(beyond, 0), axis=1) + np.minimum(beyond.max(axis=1), 0)

        legs = [box((x, -0.1, 0.1), (0.03, 0.2, 0.03)) for x in (-0.3, 0.3)]
        return np.minimum.reduce([box((0, 0.1, 0), (0.4, 0.04, 0.3)), *legs])

    return extract_mesh(sdf, (-0.55, 0.55), 64).mesh


def test_a_closed_surface_stays_closed_and_where_it_was():
    mesh = bench()
    found = simplified(mesh, 400)
    assert 300 < len(found.faces) <= 400 < len(mesh.faces) / 20
    assert found.is_watertight
    assert found.is_winding_consistent
    assert found.volume == pytest.approx(mesh.volume, rel=0.03)
    points = trimesh.sample.sample_surface(found, 2000, seed=0)[0]
    assert KDTree(trimesh.sample.sample_surface(mesh, 50_000, seed=0)[0]).query(points)[0].max() < 0.015


def test_few_faces_stay_as_they_are():
    mesh = trimesh.creation.box()
    assert simplified(mesh, 12) is mesh


@pytest.fixture(scope="module")
def office():
    """The sample and its mesh of 3,000 faces."""
    model = load("chair", device="cpu")
    return model, model.reconstruct(OFFICE, resolution=48, faces=3000)


def test_a_touching_surface_is_split(office):
    """Where an office chair's parts are collapsed until they meet, an edge has four faces; merged by their places, vertices stay apart."""
    model, _ = office
    mesh = model.reconstruct(OFFICE, resolution=96).mesh
    for faces in (8000, 4000, 2000, 1000, 500):
        found = simplified(mesh, faces)
        found.merge_vertices()
        assert found.is_watertight, faces


def test_colours_and_canonical_places_are_those_of_the_new_vertices(office):
    model, found = office
    assert len(found.mesh.faces) <= 3000
    assert found.mesh.visual.kind == "vertex"
    assert len(found.canonical) == len(found.colors.rgb) == len(found.mesh.vertices)
    again = canonical_coordinates(found.shape, np.asarray(found.mesh.vertices), model.device)
    np.testing.assert_allclose(found.canonical, again, atol=1e-5)
    with pytest.raises(UserError, match="--faces 99: give at least 100"):
        model.reconstruct(OFFICE, faces=99)


def test_the_command_writes_as_many_faces_as_it_is_told(tmp_path, capsys):
    cli.main(["reconstruct", str(OFFICE), "--resolution", "32", "--faces", "900", "--out", str(tmp_path)])
    mesh = read_mesh(tmp_path / "office.glb")
    assert 500 < len(mesh.faces) <= 900
    assert len(np.load(tmp_path / "office.canonical.npz")["canonical"]) == len(mesh.vertices)
    assert json.loads((tmp_path / "office.camera.json").read_text())
    assert "--faces 7: give at least 100" in refused(capsys, "reconstruct", OFFICE, "--faces", 7, "--out", tmp_path)
