"""SoftRas and CMR: their published sizes, what their shapes answer, and the same commands as for the implicit systems."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from safetensors.torch import save_file
from torch import Tensor

from helpers import refused, tiny_preset, write_toy_collection
from tars3d import cli, presets
from tars3d.config import Preset
from tars3d.data.bank import PictureBank, load_bank
from tars3d.data.collection import load_collection
from tars3d.data.picture_batches import PictureSampler
from tars3d.errors import UserError
from tars3d.geometry.camera import Cameras, look_at_origin
from tars3d.geometry.rasterize import silhouette
from tars3d.geometry.weak_perspective import weak_cameras, weak_perspective
from tars3d.mesh_config import MeshNetworks
from tars3d.mesh_presets import for_mesh, with_mesh_files
from tars3d.methods import build_method
from tars3d.methods.cmr import CMR
from tars3d.methods.mesh import MeshShape
from tars3d.methods.softras import SoftRas
from tars3d.nn.perceptual import LAYERS, PerceptualLoss
from tars3d.nn.texture_flow import sphere_coordinates
from tars3d.photo.camera import centered_cameras
from tars3d.presets import preset
from tars3d.reconstruct import Reconstructor, load
from tars3d.training.mesh_stages import MESH_KINDS
from tars3d.training.run_folder import RunFolder

NAMES = ("softras", "cmr")


def tiny_mesh(base: Preset, method: str, *, published: bool = False) -> Preset:
    """The compact system with networks of a few thousand weights and coarse spheres."""
    found = for_mesh(base, method, published=published)
    networks = MeshNetworks(
        subdivisions=2, radius=0.4, channels=(8, 8, 8), encoder_hidden=16, decoder_hidden=(16, 16), reduced=8,
        flow_grid=(2, 4), flow_channels=(8, 8, 8),
    )  # fmt: skip
    stages = tuple(replace(stage, steps=3, batch=4, learning_rate=1e-3) for stage in found.training.stages)
    return Preset(replace(found.model, mesh=networks, code_width=8), replace(found.training, stages=stages))


def tiny(name: str, **networks) -> SoftRas | CMR:
    torch.manual_seed(0)
    model = tiny_mesh(tiny_preset(), name).model
    method = build_method(replace(model, mesh=replace(model.mesh, **networks)))
    assert isinstance(method, SoftRas | CMR)
    return method.eval()


@pytest.fixture(scope="module")
def collection(tmp_path_factory) -> Path:
    splits = {"train": ["toy0", "toy1", "toy2"], "val": ["toy3"], "test": ["toy4"]}
    return write_toy_collection(tmp_path_factory.mktemp("toys"), objects=5, views=2, splits=splits)


@pytest.fixture(scope="module")
def bank(collection) -> PictureBank:
    return load_bank(load_collection(collection).split("train"), size=64, framing="bbox", padding=1.2)


def test_published_sizes():
    """docs/methods.md, Mesh systems; on the meta device, for their weights are large."""
    with torch.device("meta"):
        softras = build_method(preset("paper-shapenet", "softras").model)
        cmr = build_method(preset("paper-pascal3d", "cmr").model)
    assert isinstance(softras, SoftRas)
    assert isinstance(cmr, CMR)
    shapes = {name: tuple(value.shape) for name, value in softras.named_parameters()}
    assert shapes["encoder.0.weight"] == (64, 4, 5, 5)
    linear = [shape for name, shape in shapes.items() if len(shape) == 2]
    assert linear == [(1024, 16384), (1024, 1024), (512, 1024), (1024, 512), (2048, 1024), (3, 2048), (1926, 2048)]
    assert cmr.mean_half.shape == (337, 3)
    assert cmr.mean_half.norm(dim=1).allclose(torch.ones(337))
    flow = {name: tuple(value.shape) for name, value in cmr.flow.named_parameters() if value.dim() > 1}
    assert list(flow.values())[:2] == [(8192, 200), (8192, 8192)]
    assert [shape[0] for shape in list(flow.values())[2::2]] == [128, 64, 32, 16, 8, 2]
    assert cmr.encoder.code[0].weight.shape == (200, 4096)
    soft, sharp = preset("paper-shapenet", "softras").training.stages
    assert (soft.steps, sharp.steps, soft.batch, soft.learning_rate) == (150_000, 100_000, 64, 1e-4)
    assert sharp.learning_rate == pytest.approx(0.3 * soft.learning_rate)
    assert sharp.mesh.sigma == pytest.approx(0.3 * soft.mesh.sigma)
    assert (soft.views, soft.mesh.iou, soft.mesh.laplacian, soft.mesh.flatten) == (1, 1, 5e-3, 5e-4)
    terms = preset("paper-pascal3d", "cmr").training.stages[0].mesh
    weights = (terms.mask, terms.camera, terms.displacement, terms.smoothness, terms.texture, terms.texture_inside)
    assert weights == pytest.approx((2, 2, 10 / 30, 30 / 30, 0.5, 0.5))


def test_softras_starts_as_a_small_sphere_and_stays_in_the_cube():
    method = tiny("softras")
    assert isinstance(method, SoftRas)
    count = len(method.sphere)
    still = method.placed(torch.zeros(1, count, 3), torch.zeros(1, 3))[0]
    torch.testing.assert_close(still, 0.25 * method.sphere, atol=1e-6, rtol=1e-5)
    generator = torch.Generator().manual_seed(0)
    wild = 30 * torch.randn(2, count, 3, generator=generator)
    shift = torch.tensor([[4.0, -3.0, 2.0], [0.0, 0.0, 0.0]])
    found = method.placed(wild, shift)
    assert found.abs().max() <= 0.5
    assert torch.isfinite(found).all()
    # A coordinate that is 0 on the sphere comes out at half the centroid.
    flat = method.sphere[:, 0] == 0
    assert flat.any()
    torch.testing.assert_close(found[0, flat, 0], (0.5 * torch.tanh(torch.tensor(0.4))).expand(int(flat.sum())))


def test_cmr_is_symmetric_and_its_camera_is_one():
    method = tiny("cmr")
    assert isinstance(method, CMR)
    codes = torch.randn(2, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        method.displacement.weight.normal_(std=0.05)
        shape, camera = method.shape(codes), method.camera(codes)
    for vertices in shape.vertices:
        mirrored = vertices * torch.tensor([-1.0, 1.0, 1.0])
        partner = (mirrored[:, None] - vertices).norm(dim=-1).min(1).values
        assert partner.max() < 1e-5
    assert not torch.equal(shape.vertices[0], shape.vertices[1])
    torch.testing.assert_close(shape.template, method.mean_shape())
    torch.testing.assert_close(camera[:, 3:].norm(dim=1), torch.ones(2))
    assert (camera[:, 0] > 0).all()


def test_the_camera_that_cmr_predicts_is_reported(tmp_path):
    """Weak-perspective values are camera matrices and back, and `reconstruct` starts its fit from what CMR predicts."""
    poses = torch.tensor(
        np.array([look_at_origin(40.0 * i, 12.0 * i - 20, 2.5, roll=4.0 * i) for i in range(4)])
    ).float()
    intrinsics = torch.tensor([[50.0, 0, 20], [0, 50, 40], [0, 0, 1]]).repeat(4, 1, 1)
    true = Cameras(intrinsics, poses, torch.zeros(4, dtype=torch.bool))
    points = torch.rand(4, 30, 3, generator=torch.Generator().manual_seed(0)) - 0.5
    built = weak_cameras(weak_perspective(true, 64), 64)
    torch.testing.assert_close(built.project(points)[0], true.project(points)[0], atol=1e-3, rtol=1e-4)
    assert not built.perspective.any()

    method = tiny("cmr")
    assert isinstance(method, CMR)
    with torch.no_grad():  # one camera for all pictures: the third, from the side
        method.camera_head.weight.zero_()
        method.camera_head.bias.copy_(weak_perspective(true, 64)[2] - torch.tensor([1.0, 0, 0, 0, 0, 0, 0]))
    found = method.predict_camera(torch.zeros(2, 3, 64, 64))
    torch.testing.assert_close(found.project(points[:2])[0], true[[2, 2]].project(points[:2])[0], atol=1e-3, rtol=1e-4)

    reconstructor = Reconstructor(method, {}, torch.device("cpu"))
    assert reconstructor.predicts_camera
    with torch.no_grad():
        shape = method.shape(torch.zeros(1, 8))
    assert isinstance(shape, MeshShape)
    camera = centered_cameras(true)[2]
    seen = silhouette(shape.mesh(), *camera.pinhole(), 64, 64)
    result = reconstructor.reconstruct(np.full((64, 64, 3), 90, np.uint8), seen)
    assert result.camera is not None
    assert result.camera.source == "predicted"
    assert any(note.startswith("camera predicted") for note in result.notes)
    both = reconstructor.reconstruct_together([np.full((64, 64, 3), 90, np.uint8)] * 2, [seen] * 2)
    assert len(both.cameras) == 2
    np.testing.assert_allclose(both.mesh.vertices, result.mesh.vertices, atol=1e-6)
    none = Reconstructor(tiny("softras"), {}, torch.device("cpu"))
    assert not none.predicts_camera
    assert none.reconstruct(np.full((64, 64, 3), 90, np.uint8), seen).camera is None


def test_sphere_coordinates_are_published_ones():
    """CMR's published code: v = 2θ/π - 1 with θ = arccos z; u = (φ + π)/π - 1."""
    directions = torch.tensor([[0.0, 0, 2], [0, 0, -1], [3, 0, 0], [0, 1, 0], [0, -1, 0]])
    expected = torch.tensor([[0.0, -1], [0, 1], [0, 0], [0.5, 0], [-0.5, 0]])
    torch.testing.assert_close(sphere_coordinates(directions), expected)


def ball_shape() -> MeshShape:
    mesh = trimesh.creation.icosphere(subdivisions=4, radius=0.4)
    vertices = torch.tensor(np.asarray(mesh.vertices), dtype=torch.float32)[None]
    look_at = vertices[..., :2] * 2
    return MeshShape(vertices, torch.tensor(np.asarray(mesh.faces)), vertices[0] + 1, look_at)


def test_a_mesh_answers_what_any_shape_answers():
    shape = ball_shape()
    points = torch.rand(1, 200, 3, generator=torch.Generator().manual_seed(0)) - 0.5
    torch.testing.assert_close(shape.sdf(points), points.norm(dim=-1) - 0.4, atol=2e-3, rtol=0)
    on = 0.4 * points / points.norm(dim=-1, keepdim=True)
    torch.testing.assert_close(shape.canonical(points), on + 1, atol=2e-2, rtol=0)
    assert shape.features(points).shape == (1, 200, 0)
    samples = shape.sample(points)
    assert samples.displacement is not None
    torch.testing.assert_close(points + samples.displacement, shape.canonical(points))
    assert (shape.color(points) == 0.7).all()
    ramp = np.zeros((50, 50, 3), np.uint8)
    ramp[..., 0] = np.arange(50) * 5
    painted = shape.painted(ramp)
    assert painted.colors is not None
    x = painted.vertices[0, :, 0] * 2  # the column that each vertex looks at
    torch.testing.assert_close(painted.colors[0, :, 0], ((x + 1) * 25 - 0.5).clamp(0, 49) * 5 / 255, atol=1e-4, rtol=0)
    broken = replace(shape, vertices=shape.vertices * torch.nan)
    with pytest.raises(FloatingPointError, match="not finite"):
        broken.mesh()


def test_picture_batches_mirror_pictures_masks_and_cameras_together(bank):
    settings = {"batch": 4, "views": 2, "rays": 0, "boundary_rays": 0.0, "seed": 0}
    plain, mirrored = (PictureSampler(bank, flip=flip, **settings).draw_pictures(3) for flip in (False, True))
    assert plain.masks.shape == (8, 64, 64)
    assert torch.equal(plain.own_masks, plain.masks[::2])
    assert torch.equal(plain.index, mirrored.index)
    flipped = [not torch.equal(*pair) for pair in zip(plain.images, mirrored.images, strict=True)]
    assert any(flipped)
    point = torch.tensor([[[0.2, 0.1, -0.3]]]).expand(8, -1, -1)
    before = plain.cameras.project(point)[0]
    after = mirrored.cameras.project(point * torch.tensor([-1.0, 1.0, 1.0]))[0]
    for number, turned in enumerate(flipped):
        for view in (2 * number, 2 * number + 1):
            if turned:
                assert torch.equal(mirrored.masks[view], plain.masks[view].flip(-1))
                torch.testing.assert_close(after[view, 0, 0], 64 - before[view, 0, 0])
            else:
                assert torch.equal(mirrored.masks[view], plain.masks[view])


@pytest.mark.parametrize("name", NAMES)
def test_a_few_steps_fit_the_silhouettes(name, bank):
    settings = tiny_mesh(tiny_preset(color_jitter=(0.0,) * 4, flip=False), name)
    method = tiny(name).train()
    stage = replace(settings.training.stages[0], batch=6)
    runner = MESH_KINDS[stage.kind](method, stage, settings.training, bank, 0)
    term = "iou" if name == "softras" else "mask"
    optimizer = torch.optim.Adam(runner.parameters(), lr=5e-3)
    values = []
    for step in range(25):
        losses = runner.losses(step)
        optimizer.zero_grad()
        losses.total.backward()
        optimizer.step()
        values.append(losses.terms[term].item())
        assert all(torch.isfinite(value) for value in losses.terms.values())
    assert np.mean(values[-5:]) < 0.87 * np.mean(values[:5])


def test_the_mean_shape_does_not_shrink_to_a_point_as_at_weights_meant_for_keypoints(bank):
    settings, method = tiny_mesh(tiny_preset(), "cmr"), tiny("cmr")
    assert isinstance(method, CMR)
    with torch.no_grad():
        method.displacement.weight.zero_()
        runner = MESH_KINDS["cmr"](method, settings.training.stages[0], settings.training, bank, 0)
        start, totals = method.mean_half.data.clone(), {}
        for scale in (1.0, 0.8, 0.1):
            method.mean_half.copy_(scale * start)
            terms = runner.losses(0).terms
            totals[scale] = [2 * terms["mask"].item() + weight * terms["smoothness"].item() for weight in (1.0, 30.0)]
    assert totals[0.1][1] < min(totals[1.0][1], totals[0.8][1]), "published weights no longer shrink it; keep them"
    assert totals[0.1][0] > min(totals[1.0][0], totals[0.8][0])


def test_every_weight_learns_and_the_texture_moves_no_vertex(bank):
    settings = tiny_mesh(tiny_preset(), "cmr")
    method = tiny("cmr").train()
    stage = settings.training.stages[0]
    MESH_KINDS["cmr"](method, stage, settings.training, bank, 0).losses(0).total.backward()
    assert not [name for name, value in method.named_parameters() if value.grad is None]
    method.zero_grad()
    only = replace(stage.mesh, mask=0.0, camera=0.0, displacement=0.0, smoothness=0.0)
    MESH_KINDS["cmr"](method, replace(stage, mesh=only), settings.training, bank, 0).losses(0).total.backward()
    assert method.mean_half.grad is None or not method.mean_half.grad.any()
    assert method.flow.levels[-2].weight.grad.any()


@pytest.mark.parametrize("name", NAMES)
def test_commands_train_resume_evaluate_and_reconstruct(name, collection, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(presets.PRESETS, "tiny", tiny_preset)
    monkeypatch.setattr(presets, "for_mesh", tiny_mesh)
    options = ["--threads", "1", "--device", "cpu"]
    arguments = ["train", str(collection), *options, "--preset", "tiny", "--method", name]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    cli.main([*arguments, "--out", str(whole)])
    assert (whole / "report.html").exists()
    assert "chamfer_x10" in RunFolder(whole).read_history()[-1]
    cli.main([*arguments, "--out", str(cut), "--minutes", "0"])
    cli.main(["train", str(collection), *options, "--out", str(cut), "--resume", "--minutes", "0"])
    cli.main(["train", str(collection), *options, "--out", str(cut), "--resume"])
    found, expected = RunFolder(cut).read_state(), RunFolder(whole).read_state()
    assert found is not None
    assert expected is not None
    assert not [key for key, value in expected[0].items() if not torch.equal(found[0][key], value)]

    picture = collection / "images" / "toy4_0.png"
    common = ["--model", str(whole), "--device", "cpu", "--resolution", "16"]
    cli.main(["reconstruct", str(picture), *common, "--out", str(tmp_path)])
    assert (tmp_path / "toy4_0.glb").stat().st_size > 1000
    cli.main(["evaluate", str(collection), *common, "--samples", "300", "--emd-points", "0", "--out", str(tmp_path)])
    summary = json.loads((tmp_path / "metrics.json").read_text())
    assert np.isfinite(summary["instances"][0]["accuracy"])
    cli.main(
        ["evaluate", str(collection), *common, "--samples", "300", "--emd-points", "0", "--baseline", "mean-shape"]
    )

    result = load(whole, device="cpu").reconstruct(picture)
    assert result.mesh.is_watertight
    assert result.canonical.shape == (162, 3)
    assert result.framed.shape == (64, 64, 3)
    colors = np.asarray(result.mesh.visual.vertex_colors)[:, :3]
    assert (colors == 178).all() == (name == "softras"), "CMR takes the picture's colour, SoftRas has none"
    capsys.readouterr()


def test_what_cannot_be_trained_on_is_refused_in_one_line(collection, bank, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(presets.PRESETS, "tiny", tiny_preset)
    monkeypatch.setattr(presets, "for_mesh", tiny_mesh)
    base = ["train", collection, "--threads", "1", "--device", "cpu", "--preset", "tiny", "--out", tmp_path / "run"]
    opened = tmp_path / "open.ply"
    box = trimesh.creation.box()
    trimesh.Trimesh(box.vertices, box.faces[1:], process=False).export(opened)
    for name in NAMES:
        message = refused(capsys, *base, "--method", name, "--template", opened)
        assert "open.ply" in message
        assert "not closed" in message
        assert not (tmp_path / "run").exists(), "a refused run leaves nothing behind"
    assert "takes none" in refused(capsys, *base, "--template", opened)
    assert "takes none" in refused(capsys, *base, "--method", "softras", "--perceptual", opened)
    assert "no point features" in refused(capsys, *base, "--method", "cmr", "--point-features", "2").replace(
        "has none", "no point features"
    )
    weights = tmp_path / "weights.safetensors"
    save_file({"features.0.weight": torch.zeros(2)}, weights)
    assert "not LPIPS-AlexNet weights" in refused(capsys, *base, "--method", "cmr", "--perceptual", weights)
    assert not (tmp_path / "run").exists()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("mine")
    refused(capsys, *base, "--method", "cmr", "--perceptual", weights)
    assert [path.name for path in (tmp_path / "run").iterdir() if path.name != ".lock"] == ["notes.txt"]

    settings = tiny_mesh(tiny_preset(), "softras")
    empty = replace(bank, mask=bank.mask & (torch.arange(len(bank)) != 2)[:, None, None])
    with pytest.raises(UserError, match=rf"{bank.names[2]}: 1 of 6 pictures show no object.*;"):
        MESH_KINDS["softras"](tiny("softras"), settings.training.stages[0], settings.training, empty, 0)
    method = tiny("softras").train()
    with torch.no_grad():
        method.offset.bias.fill_(torch.nan)
    with pytest.raises(UserError, match=r"no finite position.*;"):
        MESH_KINDS["softras"](method, settings.training.stages[0], settings.training, bank, 0).losses(0)


@pytest.mark.parametrize("name", NAMES)
def test_a_users_template_is_where_training_starts_and_is_in_the_model_file(name, tmp_path):
    path = tmp_path / "brick.ply"
    trimesh.creation.box(extents=(0.9, 0.5, 0.3)).export(path)
    method = tiny(name, template=str(path))
    if isinstance(method, SoftRas):
        count = len(method.sphere)
        start = method.placed(torch.zeros(1, count, 3), torch.zeros(1, 3))[0]
    else:
        start = method.mean_shape()
    torch.testing.assert_close(
        (start.abs() / torch.tensor([0.45, 0.25, 0.15])).amax(1), torch.ones(len(start)), atol=1e-4, rtol=0
    )
    from tars3d.methods.inference import export_mesh_tensors, inference_model

    tensors = export_mesh_tensors(method, torch.zeros(8))
    path.unlink()
    again = inference_model(tensors, method.config, "model")
    codes = torch.randn(2, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found, expected = again.shape(codes), method.shape(codes)
    assert isinstance(found, MeshShape)
    assert torch.equal(found.vertices, expected.vertices)
    assert torch.equal(found.template, expected.template)


def test_perceptual_weights_are_read_and_measure_differences(tmp_path):
    torch.manual_seed(0)
    state: dict[str, Tensor] = {}
    for number, (place, (source, target, kernel, _, _)) in enumerate(LAYERS.items()):
        state[f"features.{place}.weight"] = 0.05 * torch.randn(target, source, kernel, kernel)
        state[f"features.{place}.bias"] = torch.zeros(target)
        state[f"lin{number}.model.1.weight"] = torch.rand(1, target, 1, 1)
    save_file(state, tmp_path / "alex.safetensors")
    loss = PerceptualLoss.load(tmp_path / "alex.safetensors")
    pictures = 2 * torch.rand(2, 3, 64, 64) - 1
    other = (2 * torch.rand(2, 3, 64, 64) - 1).requires_grad_()
    assert loss(pictures, pictures).item() == 0
    loss(other, pictures).backward()
    assert other.grad is not None
    assert torch.isfinite(other.grad).all()
    assert other.grad.any()
    # The first layer by hand.
    both = (torch.cat([other, pictures]) - loss.shift) / loss.scale
    features = torch.relu(torch.nn.functional.conv2d(both, state["features.0.weight"], stride=4, padding=2))
    unit = features / features.norm(dim=1, keepdim=True)
    weight = state["lin0.model.1.weight"][0]
    by_hand = ((unit[:2] - unit[2:]).square() * weight).sum(1).mean()
    for number in range(1, 5):
        loss.weights[number].data.zero_()
    torch.testing.assert_close(loss(other, pictures), by_hand)


def test_a_run_finds_its_mesh_files_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    preset = with_mesh_files(tiny_mesh(tiny_preset(), "cmr"), Path("brick.ply"), Path("lpips.safetensors"))
    assert preset.model.mesh.template == str(tmp_path / "brick.ply")
    assert {stage.mesh.perceptual for stage in preset.training.stages} == {str(tmp_path / "lpips.safetensors")}
