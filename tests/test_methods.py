"""TARS as published: parameter counts, layer shapes, how shapes compose, the half-batch switch, and the exported model."""

import pytest
import torch
from torch import nn

from helpers import close, plain_tars, tiny_method, tiny_model
from tars3d.config import ModelConfig
from tars3d.errors import UserError
from tars3d.methods import build_method
from tars3d.methods.inference import export_tensors, inference_model
from tars3d.methods.tars import TARS, DeformNet, SDFGenerator, octave_weights
from tars3d.nn.ray_marcher import RayMarcher
from tars3d.presets import PRESETS, preset
from tars3d.reconstruct import load
from tars3d.training.stages import half_batch_switch
from tars3d.weights import load_model, save_model

PUBLISHED = {
    # parameters of f, g and the ray marcher (docs/paper-vs-code.md, C11)
    "paper-shapenet": (43_867_880, 44_000_010, 20_769),
    "paper-pascal3d": (5_990_376, 6_943_626, 12_577),
    "paper-cub": (5_990_376, 6_022_538, 12_577),
    "paper-pix3d": (7_173_096, 7_402_378, 12_577),
}
LAYERS = {
    # code, hypernetwork width, its hidden layers in f and g, first trunk layer of f, of g, later layers, width
    # (docs/paper-vs-code.md, C2, C3 and C11)
    "paper-shapenet": (512, 512, 5, 5, 7424, 4352, 20736, 128),
    "paper-pascal3d": (256, 256, 1, 3, 2688, 2176, 6272, 64),
    "paper-cub": (256, 256, 1, 1, 2688, 2176, 6272, 64),
    "paper-pix3d": (512, 256, 3, 3, 2688, 2176, 6272, 64),
}


def networks(name: str) -> tuple[SDFGenerator, DeformNet, RayMarcher]:
    """f, g and the marcher of a preset, without memory for their weights."""
    config = preset(name).model
    with torch.device("meta"):
        return SDFGenerator(config), DeformNet(config), RayMarcher(config.width)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_parameter_counts(name):
    counts = tuple(sum(p.numel() for p in module.parameters()) for module in networks(name))
    assert counts == PUBLISHED[name]


@pytest.mark.parametrize("name", LAYERS)
def test_published_layer_shapes(name):
    code, hidden, depth_f, depth_g, first_f, first_g, later, width = LAYERS[name]
    generator, deform_net, marcher = networks(name)
    heads_f = {"level": 1, "rgb": 3}
    heads_g = {"deformation": 3, "features": 4, "rgb": 3}
    assert list(generator.heads) == list(heads_f)
    assert list(deform_net.heads) == list(heads_g)
    for module, depth, first, heads in (
        (generator, depth_f, first_f, heads_f),
        (deform_net, depth_g, first_g, heads_g),
    ):
        rows = [first, later, later, later, *((width + 1) * outputs for outputs in heads.values())]
        for layer, outputs in zip([*module.trunk, *module.heads.values()], rows, strict=True):
            shapes = [tuple(linear.weight.shape) for linear in layer.mlp if isinstance(linear, nn.Linear)]
            assert shapes == [(hidden, code), *[(hidden, hidden)] * (depth - 1), (outputs, hidden)]
    assert generator.unconditioned is not None
    linears = [linear for linear in generator.unconditioned if isinstance(linear, nn.Linear)]
    assert [tuple(linear.weight.shape) for linear in linears] == [(32, 33), (32, 32), (4, 32)]
    assert marcher.lstm.weight_ih.shape == (128, width)
    assert marcher.lstm.weight_hh.shape == (128, 32)
    assert marcher.step.weight.shape == (1, 32)


def test_published_settings():
    """What docs/paper-vs-code.md, C5, C6 and C11, says, where a slip would go unnoticed by everything else."""
    shapenet, pascal, cub, pix3d = (PRESETS[name]().training for name in PUBLISHED)
    for training in (shapenet, pascal, cub, pix3d):
        sphere, first, canonical, deformation, second = training.stages
        kinds = [stage.kind for stage in training.stages]
        assert kinds == ["sphere", "reconstruct", "canonical_code", "sphere_deformation", "reconstruct"]
        assert (sphere.steps, sphere.batch, sphere.points) == (4000, 1, 10_000)
        assert (deformation.steps, deformation.batch, deformation.points) == (4000, 1, 10_000)
        assert canonical.steps == 0
        for stage in (first, second):
            assert (stage.batch, stage.points, stage.learning_rate, stage.views) == (16, 10_000, 1e-4, 1)
            assert (stage.cosine, stage.anneal, stage.boundary_rays, stage.surface_points) == (False, 0, 0, 0)
            assert stage.losses.carving == stage.losses.curvature == 0
        assert not first.deformed
        assert second.deformed
        assert (training.silhouette_samples, training.bisection_steps, training.margin) == (5, 10, 0.01)
        assert training.derivatives == "exact"
        assert training.switch_features
        assert not training.flip
    # Depths: relative to 2.732 in [2, 3.5] for ShapeNet, relative to 2.5 in [1.2, 3.8] for the orthographic ones.
    assert (shapenet.near, shapenet.far) == (pytest.approx(2 - 2.732), pytest.approx(3.5 - 2.732))
    for training in (pascal, cub, pix3d):
        assert (training.near, training.far) == (pytest.approx(1.2 - 2.5), pytest.approx(3.8 - 2.5))
    marches = [
        tuple(s.march_steps for s in t.stages if s.kind == "reconstruct") for t in (shapenet, pascal, cub, pix3d)
    ]
    assert marches == [(10, 10), (10, 20), (20, 20), (20, 20)]
    rays = [t.stages[1].rays for t in (shapenet, pascal, cub, pix3d)]
    assert rays == [1024, 1024, 2048, 2048]
    assert [t.stages[0].radius for t in (shapenet, pascal, cub, pix3d)] == [0.5, 1, 1, 1]
    assert [t.stages[3].radius for t in (shapenet, pascal, cub, pix3d)] == [0.5, 0.5, 1, 0.5]
    assert [t.stages[1].point_range for t in (shapenet, pascal, cub, pix3d)] == [1, 2, 2, 2]
    weights = [
        [getattr(t.stages[number].losses, name) for name in
         ("render", "silhouette", "intersection", "free_space", "eikonal", "deformation", "symmetry")]
        for t in (shapenet, pascal, cub, pix3d) for number in (1, 4)
    ]  # fmt: skip
    assert weights == [
        [1, 1, 3, 0.1, 0.01, 0, 0], [1, 3, 1, 0.1, 0.1, 0.01, 0],
        [10, 3, 1, 0.1, 1, 0, 0], [10, 3, 3, 0.1, 0.1, 0.1, 0],
        [10, 3, 1, 0.1, 1, 0, 0], [5, 3, 3, 0.1, 1, 0.1, 0],
        [10, 3, 10, 1, 2, 0, 1], [10, 3, 3, 0.1, 0.1, 0.1, 1],
    ]  # fmt: skip
    assert [t.color_jitter for t in (shapenet, pascal, cub, pix3d)] == [(0, 0, 0, 0), *[(0.2, 0.2, 0.2, 0.5)] * 3]
    assert [t.crop_jitter for t in (shapenet, pascal, cub, pix3d)] == [0, 0.2, 0.2, 0]


def draw(batch: int, count: int = 9) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    codes = torch.randn(batch, 8, generator=generator, dtype=torch.float64)
    return codes, 1.2 * (torch.rand(batch, count, 3, generator=generator, dtype=torch.float64) - 0.5)


@pytest.mark.parametrize("changes", [{}, {"octave_decay": 0.5, "near_constant": False, "generator_depth": 2}])
@pytest.mark.parametrize("deformed", [False, True])
def test_shapes_equal_the_plain_twin(deformed, changes):
    method = tiny_method(**changes)
    codes, points = draw(3)
    shape = method.shape(codes, deformed=deformed)
    assert shape.batch_size == 3
    samples = shape.sample(points)
    for b in range(3):
        expected = plain_tars(method, codes[b], points[b], deformed=deformed)
        close(samples.sdf[b], expected.sdf)
        close(samples.steering[b], expected.steering)
        close(shape.sdf(points)[b], expected.sdf)
        close(shape.color(points)[b], expected.rgb)
        close(shape.canonical(points)[b], expected.canonical)
        close(shape.features(points)[b], expected.features)
    level, steering = shape.probe(points)
    assert torch.equal(level, samples.sdf)
    assert torch.equal(steering, samples.steering)


def test_canonical_is_position_plus_displacement():
    method = tiny_method()
    codes, points = draw(2)
    shape = method.deformed_shape(codes)
    close(shape.canonical(points), points + shape.sample(points).displacement)
    flat = method.object_space_shape(codes)
    assert flat.sample(points).displacement is None
    assert torch.equal(flat.canonical(points), points)


def test_colours_stay_in_range_far_outside_the_training_cube():
    method = tiny_method(near_constant=False)
    codes, points = draw(2)
    for shape in (method.deformed_shape(codes), method.object_space_shape(codes)):
        rgb = shape.color(50 * points)
        assert rgb.shape == points.shape
        assert (rgb >= 0).all()
        assert (rgb <= 1).all()


def test_without_point_features_the_canonical_space_has_three_dimensions():
    method = tiny_method(point_features=0)
    codes, points = draw(2)
    for shape in (method.deformed_shape(codes), method.object_space_shape(codes)):
        assert shape.features(points).shape == (2, 9, 0)
        assert shape.sdf(points).shape == (2, 9)
    assert "features" not in method.deform_net.heads


@pytest.mark.parametrize(("batch", "replaced"), [(16, 8), (5, 2), (2, 1), (1, 0)])
def test_half_batch_switch_takes_the_first_half_rounded_down(batch, replaced):
    assert half_batch_switch(batch, True).tolist() == [True] * replaced + [False] * (batch - replaced)
    assert not half_batch_switch(batch, False).any()


@pytest.mark.parametrize("point_features", [0, 2])
def test_template_gradient_is_that_of_the_template_with_the_objects_point_features(point_features):
    method = tiny_method(point_features=point_features)
    codes, points = draw(2)
    shape = method.deformed_shape(codes, replace=half_batch_switch(2, True))
    places = shape.canonical(points).detach().requires_grad_(True)
    features = shape.features(points).detach() if point_features else None
    trunk = shape.template.lifted(shape.template.encode(places), features)
    (expected,) = torch.autograd.grad(shape.template.field.head("level", trunk).sum(), places)
    assert expected.std() > 1e-3
    close(shape.template_gradient(points, 1e-7), expected, 1e-6)


def test_half_batch_switch_replaces_features_of_the_first_half_only():
    method = tiny_method()
    codes, points = draw(5)
    shape = method.deformed_shape(codes, replace=half_batch_switch(5, True))
    for b in range(5):
        expected = plain_tars(method, codes[b], points[b], deformed=True, unconditioned=b < 2)
        close(shape.sdf(points)[b], expected.sdf)
    # At test time everyone has the DeformNet's features.
    plain = plain_tars(method, codes[0], points[0], deformed=True)
    close(method.shape(codes).sdf(points)[0], plain.sdf)
    assert (plain.sdf - shape.sdf(points)[0]).abs().max() > 1e-4


def test_the_template_is_shared_and_every_object_has_its_own_deformation():
    method = tiny_method()
    codes, points = draw(3)
    together = method.deformed_shape(codes).sdf(points)
    for b in range(3):
        alone = method.deformed_shape(codes[b : b + 1]).sdf(points[b : b + 1])
        close(together[b], alone[0])


def test_pictures_are_averaged_down_to_the_encoders_input():
    method = tiny_method(picture_size=64, encoder_input=32)
    large = torch.rand(2, 3, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    small = large.unflatten(2, (32, 2)).unflatten(4, (32, 2)).mean(dim=(3, 5))
    close(method.encode(large), method.encoder(small))
    close(method.encode(small), method.encoder(small))


def test_octave_weights_combine_decay_and_fade_in():
    config = tiny_model(octaves=6, octave_decay=0.5)
    torch.testing.assert_close(octave_weights(config), 0.5 ** torch.arange(6.0))
    assert (octave_weights(config, 0.0) <= octave_weights(config)).all()
    assert octave_weights(config, 0.0)[-1] == 0


def trained(**changes) -> TARS:
    """Weights as training leaves them: float32, running statistics that are not the start's, evaluation mode."""
    method = tiny_method(seed=1, **changes).float()
    method.train()
    for _ in range(2):
        method.encode(torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(1)))
    return method.eval()


@pytest.mark.parametrize("deformed", [False, True])
@pytest.mark.parametrize("changes", [{}, {"point_features": 0}, {"octave_decay": 0.5}])
def test_exported_model_is_the_trained_one(deformed, changes):
    method = trained(**changes)
    images = 2 * torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) - 1
    points = draw(2)[1].float()
    mean_code = torch.arange(8.0)
    tensors = export_tensors(method, deformed=deformed, mean_code=mean_code)
    model = inference_model(tensors, method.config, "test")
    assert model.deformed is deformed
    with torch.no_grad():
        expected = method.shape(method.encode(images), deformed=deformed)
        found = model.shape(model.encode(images))
        for field in ("sdf", "color", "canonical", "features"):
            torch.testing.assert_close(
                getattr(found, field)(points), getattr(expected, field)(points), atol=1e-6, rtol=1e-5
            )
    assert torch.equal(model.mean_code, mean_code)


def test_model_exported_while_octaves_fade_in_is_the_model_at_that_step():
    method = trained(octaves=6)
    method.octave_weights.copy_(octave_weights(method.config, 0.3))
    codes, points = draw(2)
    tensors = export_tensors(method, deformed=False, mean_code=torch.zeros(8))
    model = inference_model(tensors, method.config, "test")
    with torch.no_grad():
        expected = method.object_space_shape(codes.float()).sdf(points.float())
        found = model.shape(codes.float()).sdf(points.float())
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("deformed", [False, True])
def test_model_file_in_half_precision_loads(tmp_path, deformed):
    method = trained()
    tensors = export_tensors(method, deformed=deformed, mean_code=torch.zeros(8))
    save_model(tmp_path / "model.safetensors", tensors, method.config, description={"category": "toy"})
    whole = tmp_path / "whole.safetensors"
    save_model(whole, tensors, method.config, description={}, half=False)
    assert (tmp_path / "model.safetensors").stat().st_size < 0.65 * whole.stat().st_size
    reconstructor = load(tmp_path / "model.safetensors", device="cpu")
    assert reconstructor.category == "toy"
    codes, points = draw(2)
    with torch.no_grad():
        expected = method.shape(codes.float(), deformed=deformed).sdf(points.float())
        found = reconstructor.model.shape(codes.float()).sdf(points.float())
    assert (found - expected).abs().mean() < 0.02, (
        "of sdf values around 1: these weights are random, and enlarge what rounding does"
    )
    again, config, _ = load_model(whole)
    assert config == method.config
    for name, value in tensors.items():
        assert torch.equal(again[name], value), name


def test_header_length_does_not_decide_whether_a_file_is_a_pickle(tmp_path):
    """A safetensors file begins with its header's length, whose bytes can be those that a pickle or a zip begins with."""
    tensors, config = {"a": torch.zeros(3)}, tiny_model()
    path = tmp_path / "model.safetensors"
    starts = set()
    for padding in range(0, 257, 8):
        save_model(path, tensors, config, description={"note": "x" * padding})
        starts.add(path.read_bytes()[0])
        assert torch.equal(load_model(path)[0]["a"], tensors["a"])
    assert 0x80 in starts


def test_weights_of_another_preset_are_refused():
    method = trained()
    tensors = export_tensors(method, deformed=True, mean_code=torch.zeros(8))
    with pytest.raises(UserError, match="another preset"):
        inference_model(tensors, tiny_model(hidden=24), "model.safetensors")
    del tensors["encoder.code.weight"]
    with pytest.raises(UserError, match=r"1 tensors missing and 0 unknown, first 'encoder\.code\.weight'"):
        inference_model(tensors, method.config, "model.safetensors")


def test_unknown_method():
    with pytest.raises(UserError, match="no such method"):
        build_method(ModelConfig(method="nosuch"))
