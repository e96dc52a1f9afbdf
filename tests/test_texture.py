"""Image textures show the colours of the surface, whoever paints them, and none is begun that cannot be finished."""

import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import trimesh
from scipy.spatial import KDTree

from balls import SPACE, ball, far_from_border, halves, paint, write_balls
from helpers import refused
from tars3d import cli, texture
from tars3d.demo import sample_pictures
from tars3d.export import export_mesh, load_canonical
from tars3d.reconstruct import load
from tars3d.transfer import run
from tars3d.transfer.painted import read_painted


@pytest.fixture
def files(tmp_path, monkeypatch):
    """The folder of the two balls and a painted one, which is the current one; a stand-in for xatlas lays all triangles apart."""
    monkeypatch.setattr(run, "SAMPLES", 20_000)
    monkeypatch.setitem(sys.modules, "xatlas", ModuleType("xatlas"))
    monkeypatch.setattr(texture, "unwrap", triangles_apart)
    monkeypatch.chdir(tmp_path)
    write_balls(tmp_path)
    paint(tmp_path / "painted.glb")
    return tmp_path


def triangles_apart(mesh: trimesh.Trimesh, size: int) -> texture.Unwrapped:
    count = len(mesh.faces)
    side = int(np.ceil(np.sqrt(count)))
    row, column = np.divmod(np.arange(count), side)
    corner = np.stack([column, row], axis=1)[:, None] + np.array([[0.1, 0.1], [0.9, 0.1], [0.1, 0.9]])
    faces = np.arange(3 * count).reshape(-1, 3)
    return texture.Unwrapped(mesh.faces.ravel(), faces, corner.reshape(-1, 2) / side)


CALL = ["transfer", "texture", "painted.glb", "target.glb", "--texture", "baked"]


def test_a_texture_baked_with_a_known_unwrapping_shows_the_colors_of_the_surface(files, monkeypatch):
    """Stripes finer than the target's vertices survive in the picture, and nothing but their colours is in it."""
    mesh, canonical = ball()
    export_mesh(mesh, canonical, files / "target.glb", space=SPACE)
    monkeypatch.setattr(run, "SAMPLES", 100_000)
    cli.main([*CALL, "--texture-size", "512"])
    written = files / "transferred" / "target_texture.glb"
    baked = read_painted(written)
    points, face, weights = baked.sample(2000, 0)
    sure = far_from_border(points)
    assert np.abs(baked.colors(face, weights)[sure].astype(int) - halves(points)[sure]).max() <= 8
    assert len(load_canonical(written)) == len(baked.mesh.vertices) == 3 * len(mesh.faces)
    tree = trimesh.load(written, process=False).geometry
    (only,) = tree.values()
    picture = np.asarray(only.visual.material.baseColorTexture.convert("RGB"))
    assert picture.shape == (512, 512, 3)
    assert picture.sum(axis=2).min() > 200, "background bleeds into the texture"


@pytest.mark.parametrize("options", [[], ["--normal-weight", "0.2"], ["--max-cycle", "0.01"]])
def test_a_texture_matched_in_pieces_is_the_same_texture(files, monkeypatch, options):
    written = []
    for at_once in (1_000_000, 2_000):
        monkeypatch.setattr(texture, "AT_ONCE", at_once)
        cli.main([*CALL, "--texture-size", "160", *options])
        written.append((files / "transferred" / "target_texture.glb").read_bytes())
    assert written[0] == written[1]


def test_a_texture_that_cannot_be_made_is_refused_and_leaves_no_mesh(files, capsys, monkeypatch):
    assert "--texture-size 3: choose" in refused(capsys, *CALL, "--texture-size", 3)
    nowhere = texture.Unwrapped(np.arange(3), np.arange(3)[None], np.zeros((3, 2)))
    monkeypatch.setattr(texture, "unwrap", lambda mesh, size: nowhere)
    assert "--texture-size 64: too small" in refused(capsys, *CALL, "--texture-size", 64)
    assert not (files / "transferred").exists()


@pytest.mark.parametrize("kind", ["baked", "photo"])
def test_without_xatlas_a_texture_is_refused_before_any_work(files, capsys, monkeypatch, kind):
    monkeypatch.setitem(sys.modules, "xatlas", None)
    cure = f"--texture {kind}: needs xatlas; give it with pip install -c constraints.txt -e '.[texture]'"
    Path("picture.png").touch()
    assert cure in refused(capsys, "reconstruct", "picture.png", "--model", "absent", "--texture", kind)
    if kind == "baked":
        assert cure in refused(capsys, *CALL)
    assert not (files / "transferred").exists()


def test_xatlas_unwraps_a_mesh_into_the_unit_square():
    pytest.importorskip("xatlas", reason="needs the extra `texture`")
    mesh, _ = ball()
    found = texture.unwrap(mesh, 256)
    assert found.uv.min() >= 0
    assert found.uv.max() <= 1
    np.testing.assert_array_equal(found.origin[found.faces], mesh.faces)
    covered = texture.bake(found, 256, lambda face, weights: np.tile(np.uint8([9, 9, 9]), (len(face), 1)))
    assert (covered == 9).all()


def test_reconstruct_bakes_the_color_field(tmp_path):
    pytest.importorskip("xatlas", reason="needs the extra `texture`")
    picture = sample_pictures()[0]
    options = ["--resolution", "32", "--texture", "baked", "--texture-size", "256", "--device", "cpu"]
    cli.main(["reconstruct", str(picture), "--out", str(tmp_path), *options])
    baked = read_painted(tmp_path / f"{picture.stem}.glb")
    plain = load("chair", device="cpu").reconstruct(picture, resolution=32)
    points, face, weights = baked.sample(500, 0)
    _, index = KDTree(plain.mesh.vertices).query(points)
    near = np.asarray(plain.mesh.visual.vertex_colors)[index, :3].astype(float)
    assert np.abs(baked.colors(face, weights) - near).mean() < 20
