"""SDF-SRN, DIT and DIF: what each adds to or takes from TARS, its schedule, and a few steps of training each."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from helpers import (
    plain_head,
    plain_layers,
    plain_point,
    plain_trunk,
    tiny_model,
    tiny_preset,
    write_toy_collection,
)
from tars3d import cli, presets
from tars3d.config import LossWeights, Stage, TrainingConfig
from tars3d.data.bank import PictureBank, load_bank
from tars3d.data.collection import load_collection
from tars3d.errors import UserError
from tars3d.methods import build_method
from tars3d.methods.inference import export_tensors
from tars3d.methods.tars import TARS, ObjectSpaceShape
from tars3d.presets import for_method, preset
from tars3d.reconstruct import load
from tars3d.training import trainer
from tars3d.training.derivatives import central_differences, exact_derivatives
from tars3d.training.run_folder import RunFolder
from tars3d.training.stages import SphereDeformationStage
from tars3d.weights import save_model

METHODS = ("tars", "sdf-srn", "dit", "dif")


def variant(name: str, **changes) -> TARS:
    """Tiny untrained networks in float64, with a canonical code and a correction that are not zero."""
    torch.manual_seed(0)
    method = build_method(tiny_model(method=name, **{"point_features": 0, **changes})).double().eval()
    with torch.no_grad():
        if method.has_canonical_space:
            method.canonical_code.normal_()
        if method.correction:
            method.deform_net.head_layer("correction").last.weight.normal_()
    return method


def draw(batch: int = 2, count: int = 9) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    codes = torch.randn(batch, 8, generator=generator, dtype=torch.float64)
    return codes, torch.rand(batch, count, 3, generator=generator, dtype=torch.float64) - 0.5


@pytest.mark.parametrize("name", ["dit", "dif"])
def test_sdf_is_a_deformed_template_plus_for_dif_a_correction(name):
    method = variant(name)
    codes, points = draw()
    shape = method.shape(codes)
    found = shape.sample(points)
    octaves, decay = method.config.octaves, method.config.octave_decay
    template, heads = plain_layers(method.generator, method.canonical_code)
    for number, code in enumerate(codes):
        layers, deform_heads = plain_layers(method.deform_net, code)
        steering = plain_trunk(layers, plain_point(points[number], octaves, decay))
        moved = points[number] + plain_head(deform_heads["deformation"], steering)
        sdf = plain_head(heads["level"], plain_trunk(template, plain_point(moved, octaves, decay)))[:, 0]
        if name == "dif":
            correction = plain_head(deform_heads["correction"], steering)[:, 0]
            assert correction.abs().min() > 0
            torch.testing.assert_close(found.correction[number], correction)
            sdf = sdf + correction
        torch.testing.assert_close(found.sdf[number], sdf)
        torch.testing.assert_close(shape.canonical(points)[number], moved)
    assert shape.features(points).shape == (2, 9, 0)
    assert (found.correction is None) == (name == "dit")


def test_dif_starts_as_dit():
    torch.manual_seed(0)
    method = build_method(tiny_model(method="dif", point_features=0))
    codes, points = (values.float() for values in draw())
    assert not method.shape(codes).sample(points).correction.any()


def test_correction_waits_while_the_deformation_learns_a_sphere(bank):
    method = variant("dif").float()
    stage = Stage(name="x", kind="sphere_deformation", batch=2, points=50)
    runner = SphereDeformationStage(method, stage, TrainingConfig(), bank, 0)
    trained = {id(parameter) for parameter in runner.parameters()}
    for name, parameter in method.deform_net.named_parameters():
        assert (id(parameter) in trained) == (not name.startswith("heads.correction"))


@pytest.mark.parametrize("way", ["exact", "differences"])
def test_both_ways_of_differentiating_hand_the_correction_on(way):
    shape, points = (variant("dif").shape(draw()[0]), draw()[1])
    found = exact_derivatives(shape, points) if way == "exact" else central_differences(shape, points, 1e-3)
    torch.testing.assert_close(found.correction, shape.sample(points).correction)


def test_sdf_srn_knows_no_canonical_space():
    method = variant("sdf-srn")
    codes, points = draw()
    shape = method.shape(codes)
    assert isinstance(shape, ObjectSpaceShape)
    assert torch.equal(shape.canonical(points), points)
    assert shape.features(points).shape == (2, 9, 0)
    assert shape.sample(points).displacement is None
    modules = {name.split(".")[0] for name in method.state_dict()}
    assert modules == {"encoder", "generator", "marcher", "camera_head", "octave_weights"}


@pytest.mark.parametrize("name", METHODS[1:])
def test_methods_without_point_features_refuse_them(name):
    with pytest.raises(UserError, match="no point features"):
        build_method(tiny_model(method=name, point_features=2))
    with pytest.raises(UserError, match=r"--point-features 4.*--method tars"):
        preset("compact", name, 4)


def test_any_number_of_point_features_for_tars():
    for k in (0, 1, 16):
        config = preset("compact", "tars", k).model
        assert config.point_features == k
        with torch.device("meta"):
            assert ("features" in build_method(config).deform_net.heads) == (k > 0)
    with pytest.raises(UserError, match="from 0 to"):
        preset("compact", "tars", -1)
    with pytest.raises(UserError, match="no such method; choose one of tars, sdf-srn, dit, dif"):
        preset("compact", "nosuch")


@pytest.mark.parametrize("name", presets.PRESETS)
def test_variants_train_as_tars_does_but_for_what_they_are(name):
    tars = preset(name)
    for method in ("dit", "dif"):
        found = preset(name, method)
        assert found.model == replace(tars.model, method=method, point_features=0)
        assert found.training == replace(tars.training, stages=found.training.stages)
        for stage, ours in zip(tars.training.stages, found.training.stages, strict=True):
            weight = 10 * stage.losses.deformation if method == "dif" else 0
            assert ours == replace(stage, losses=replace(stage.losses, correction=weight))
    object_space = preset(name, "sdf-srn").training.stages
    kinds = {
        "compact": ["sphere", "reconstruct", "reconstruct", "color", "camera"],
        "compact-single-view": ["sphere", "reconstruct", "reconstruct", "color", "camera"],
    }
    assert [stage.kind for stage in object_space] == kinds.get(name, ["sphere", "reconstruct"])
    assert not any(stage.deformed for stage in object_space)


def test_sdf_srn_has_its_published_schedule():
    """docs/methods.md, Steps; `compact` gives each stage the steps of its deformed twin too."""
    shapenet, pascal = preset("paper-shapenet", "sdf-srn"), preset("paper-pascal3d", "sdf-srn")
    for found, point_range, size, code in ((shapenet, 1, 64, 512), (pascal, 2, 64, 256)):
        sphere, first = found.training.stages
        assert (sphere.steps, sphere.batch, sphere.radius, sphere.point_range) == (1000, 16, 0.5, point_range)
        assert (first.march_steps, first.rays, first.batch, first.learning_rate) == (10, 1024, 16, 1e-4)
        assert first.point_range == point_range
        assert (found.model.picture_size, found.model.encoder_input, found.model.code_width) == (size, size, code)
    assert shapenet.training.stages[1].losses == LossWeights(1, 3, 1, 0.1, 0.01)
    assert pascal.training.stages[1].losses == LossWeights(10, 3, 1, 0.1, 1)
    assert shapenet.training.stages[1].steps == 200_000
    assert pascal.training.stages[1].steps == 29_700
    assert (pascal.training.crop_jitter, pascal.training.color_jitter) == (0.2, (0.2, 0.2, 0.2, 0.5))
    on_pictures = [stage.steps for stage in preset("compact").training.stages if stage.kind == "reconstruct"]
    own = [stage.steps for stage in preset("compact", "sdf-srn").training.stages if stage.kind == "reconstruct"]
    assert sum(own) == sum(on_pictures)


@pytest.fixture(scope="module")
def collection(tmp_path_factory) -> Path:
    return write_toy_collection(tmp_path_factory.mktemp("toys"), objects=3, views=2)


@pytest.fixture(scope="module")
def bank(collection) -> PictureBank:
    return load_bank(load_collection(collection).split("train"), size=32, framing="bbox", padding=1.2)


@pytest.mark.parametrize(("name", "point_features"), [*((name, None) for name in METHODS), ("tars", 0)])
def test_two_steps_of_every_stage_and_the_model_that_comes_out(name, point_features, bank, tmp_path):
    settings = for_method(tiny_preset(), name, point_features)
    stages = tuple(replace(stage, steps=min(stage.steps, 2)) for stage in settings.training.stages)
    settings = replace(settings, training=replace(settings.training, stages=stages))
    seen: list[trainer.Progress] = []

    def watch(method: TARS, progress: trainer.Progress) -> None:
        seen.append(progress)

    cpu = torch.device("cpu")
    method = trainer.train(settings, bank, RunFolder(tmp_path), device=cpu, watch=watch, watch_every=1).eval()
    assert all(np.isfinite(list(progress.terms.values())).all() for progress in seen)
    with_correction = {p.stage.kind for p in seen if "correction" in p.terms}
    assert with_correction == ({"distill_deformation", "reconstruct"} if name == "dif" else set())

    torch.manual_seed(0)
    start = build_method(settings.model).state_dict()
    still = {key for key, value in method.state_dict().items() if torch.equal(value, start[key])}
    assert still <= {"octave_weights"}, f"never trained: {still}"

    palette = settings.model.palette_width
    tensors = export_tensors(method, deformed=method.has_canonical_space, mean_code=torch.zeros(8 + palette))
    save_model(tmp_path / "model.safetensors", tensors, settings.model, description={}, half=False)
    loaded = load(tmp_path)
    assert (loaded.space is None) == (name == "sdf-srn")  # positions of an object correspond to nothing
    model = loaded.model
    codes, points = (values.float() for values in draw())
    codes = torch.cat([codes, torch.zeros(len(codes), palette)], dim=1)
    with torch.no_grad():
        expected, found = method.shape(codes), model.shape(codes)
        for field in ("sdf", "color", "canonical", "features"):
            torch.testing.assert_close(getattr(found, field)(points), getattr(expected, field)(points))
    assert found.features(points).shape[-1] == settings.model.point_features


def test_train_and_reconstruct_with_a_method_from_the_command_line(collection, tmp_path, monkeypatch):
    monkeypatch.setitem(presets.PRESETS, "tiny", tiny_preset)
    run = tmp_path / "run"
    cli.main(["train", str(collection), "--out", str(run), "--preset", "tiny", "--method", "sdf-srn", "--threads", "1"])
    assert (run / "report.html").exists()
    picture = Image.open(collection / "images" / "toy0_0.png")
    result = load(run).reconstruct(picture, resolution=16)
    assert result.canonical.shape == (len(result.mesh.vertices), 3)
    np.testing.assert_allclose(result.canonical, result.mesh.vertices, atol=1e-6)
