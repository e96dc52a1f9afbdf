"""What a newcomer runs first: the shipped model on the shipped pictures."""

import json

import numpy as np
import pytest
import torch
import trimesh

from tars3d import cli
from tars3d.data.pictures import as_picture
from tars3d.demo import sample_pictures
from tars3d.export import load_canonical
from tars3d.reconstruct import load
from tars3d.weights import locate_model, shipped_models


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo")
    cli.main(["demo", "--out", str(out), "--resolution", "32", "--device", "cpu"])
    return out


def test_every_sample_becomes_a_mesh_with_canonical_coordinates(demo):
    assert len(sample_pictures()) >= 6
    for picture in sample_pictures():
        mesh = trimesh.load(demo / f"{picture.stem}.glb", force="mesh")
        assert len(mesh.faces) > 100
        canonical = load_canonical(demo / f"{picture.stem}.glb")
        assert canonical.shape[1] == 7
        assert np.isfinite(canonical).all()


def test_the_page_shows_every_sample_and_needs_nothing_else(demo):
    page = (demo / "index.html").read_text()
    for picture in sample_pictures():
        assert f"{picture.stem}.glb" in page
    assert "<script" not in page
    assert "http" not in page.replace("http://www.w3.org", "")
    assert (demo / "sheet.png").stat().st_size > 10_000


def test_nothing_half_written_is_left(demo):
    assert not [path for path in demo.rglob("*") if "partial" in path.name]


def test_a_folder_of_a_shipped_models_name_counts_only_where_it_is_a_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "chair").mkdir()
    assert locate_model("chair").parent.name == "models"
    (tmp_path / "chair" / "model.safetensors").touch()
    assert locate_model("chair").parent.name == "chair"


def test_shipped_models_are_small_and_say_where_they_come_from():
    assert "chair" in shipped_models()
    for name in shipped_models():
        assert locate_model(name).stat().st_size <= 16_000_000
        description = load(name, device="cpu").description
        assert description["category"]
        assert description["objects"] > 0
        json.dumps(description)


def test_the_shipped_chair_has_a_canonical_space():
    model = load("chair", device="cpu")
    assert model.model.deformed
    result = model.reconstruct(sample_pictures()[0], resolution=32)
    moved = np.linalg.norm(result.canonical[:, :3] - result.mesh.vertices, axis=1)
    assert 0.001 < moved.mean() < 0.3


def test_a_canonical_space_is_named_by_its_field_as_well_as_by_its_category():
    model, other, same = (load("chair", device="cpu") for _ in range(3))
    name = next(name for name, _ in other.model.named_buffers() if name.startswith("template_"))
    other.model.get_buffer(name).flatten()[0] += 0.01
    assert same.space == model.space
    assert other.space != model.space
    assert model.space.startswith("chair:")


def test_loading_a_model_leaves_the_callers_random_numbers_alone():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    load("chair", device="cpu")
    assert torch.equal(torch.rand(2), expected)


def test_coarse_to_fine_finds_the_same_mesh_as_the_dense_grid():
    model, picture = load("chair", device="cpu"), sample_pictures()[0]
    sparse = model.reconstruct(picture, resolution=64)
    dense = model.reconstruct(picture, resolution=64, dense=True)
    assert sparse.evaluations < dense.evaluations / 3
    assert np.array_equal(sparse.mesh.faces, dense.mesh.faces)
    np.testing.assert_allclose(sparse.mesh.vertices, dense.mesh.vertices, atol=1e-5)


def test_a_picture_and_its_mirror_image_have_one_shape_and_colors_of_their_own():
    model, picture = load("chair", device="cpu"), as_picture(sample_pictures()[0])
    framed = model.frame(picture)
    mirrored = framed[:, ::-1]
    codes = model.codes(np.stack([framed, mirrored]))
    width = model.model.config.code_width
    torch.testing.assert_close(codes[0, :width], codes[1, :width], atol=1e-4, rtol=1e-4)
    assert (codes[0, width:] - codes[1, width:]).abs().max() > 0.05
    image = torch.from_numpy(framed.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
    once = model.model.encoder(model.model.resized(image))
    torch.testing.assert_close(codes[:1, width:], once[:, width:])
    assert 0 < (codes[0, :width] - once[0, :width]).norm() < 0.5 * once[0, :width].norm()
