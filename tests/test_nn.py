"""The networks' clever paths against plain twins: encoding, hypernetwork layers, fields with split products, the ray marcher."""

import math

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from helpers import AnalyticShape, close, plain_head, plain_layers, plain_trunk
from tars3d.errors import UserError
from tars3d.geometry.camera import SHAPENET_FOCAL, Cameras, look_at_origin
from tars3d.nn.encoder import Encoder
from tars3d.nn.encoding import annealed_octaves, encode_points, positional_encoding
from tars3d.nn.fields import Field, HyperField
from tars3d.nn.hypernetwork import HyperLayer, apply_layer
from tars3d.nn.norm_relu import norm_relu
from tars3d.nn.ray_marcher import RayMarcher
from tars3d.nn.resnet import ResNet


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_encoding_order():
    values, octaves = randn(2, 3, 2), 3
    encoded = positional_encoding(values, octaves)
    for b in range(2):
        for p in range(3):
            expected = []
            for coordinate in range(2):
                v = values[b, p, coordinate].item()
                expected += [math.sin(2**octave * math.pi * v) for octave in range(octaves)]
                expected += [math.cos(2**octave * math.pi * v) for octave in range(octaves)]
            close(encoded[b, p], torch.tensor(expected, dtype=torch.float64))


def test_norm_relu_is_layer_norm_and_relu():
    values = (3 * randn(2, 5, 7) + 1).requires_grad_()
    close(norm_relu(values), torch.relu(torch.nn.functional.layer_norm(values, (7,))))
    assert torch.autograd.gradcheck(norm_relu, (values,))
    assert torch.autograd.gradgradcheck(norm_relu, (values,))


def test_points_follow_their_encoding():
    points = randn(2, 4, 3)
    encoded = encode_points(points, 5)
    assert encoded.shape == (2, 4, 33)
    close(encoded[..., 30:], points)
    close(encoded[..., :30], positional_encoding(points, 5))


def test_octave_weights_scale_sine_and_cosine_and_spare_the_raw_point():
    points, weights = randn(1, 4, 3), torch.tensor([1.0, 0.5, 0.0]).double()
    plain, weighted = encode_points(points, 3), encode_points(points, 3, weights)
    for i in range(3):
        for wave in range(2):
            start = 6 * i + 3 * wave
            close(weighted[..., start : start + 3], plain[..., start : start + 3] * weights)
    close(weighted[..., 18:], points)


def test_octaves_fade_in_one_after_the_other():
    steps = torch.stack([annealed_octaves(6, p / 30) for p in range(31)])
    assert steps[0, 0] == 1
    assert steps[0, -1] == 0
    assert (steps[-1] == 1).all()
    assert (steps.diff(dim=0) >= 0).all()
    assert (steps.diff(dim=1) <= 0).all(), "a fine octave is on before a coarse one"
    assert (((steps > 0) & (steps < 1)).sum(dim=1) <= 1).all(), "more than one octave fades at a time"


@pytest.mark.parametrize("octaves", [1, 2, 3])
def test_few_octaves_are_always_on(octaves):
    assert annealed_octaves(octaves, 1.0).tolist() == [1.0] * octaves
    assert annealed_octaves(octaves, 0.0)[0] == 1


def test_hypernetwork_row_0_is_the_bias():
    layer = HyperLayer(5, 7, 2, 3, 4).double()
    codes = randn(2, 5)
    made = layer(codes)
    assert made.shape == (2, 4, 4)
    for b in range(2):
        hidden = codes[b]
        for linear in (layer.mlp[0], layer.mlp[2]):
            hidden = torch.relu(linear.weight @ hidden + linear.bias)
        row = layer.mlp[4].weight @ hidden + layer.mlp[4].bias
        close(made[b], row.reshape(4, 4))
    inputs = randn(2, 6, 3, seed=1)
    outputs = apply_layer(made, inputs)
    for b in range(2):
        for p in range(6):
            expected = [made[b, 0, o] + sum(inputs[b, p, i] * made[b, i + 1, o] for i in range(3)) for o in range(4)]
            close(outputs[b, p], torch.stack(expected))


def test_a_shared_layer_is_the_same_layer_for_everyone():
    layer, inputs = randn(1, 4, 5), randn(3, 6, 3, seed=1)
    close(apply_layer(layer, inputs), apply_layer(layer.expand(3, -1, -1), inputs))
    assert apply_layer(layer, inputs[:, :0]).shape == (3, 0, 5)
    assert apply_layer(layer.expand(3, -1, -1), inputs[:, :0]).shape == (3, 0, 5)


def test_near_constant_start_makes_well_scaled_layers():
    torch.manual_seed(0)
    layer = HyperLayer(16, 32, 1, 64, 64, near_constant=True)
    outputs = apply_layer(layer(0.3 * torch.randn(8, 16)), torch.randn(8, 100, 64))
    assert 0.7 < outputs.std() < 1.6


@pytest.mark.parametrize("extra_width", [0, 4])
@pytest.mark.parametrize("shared", [False, True])
def test_field_equals_plain_twin_in_values_and_gradients(shared, extra_width):
    torch.manual_seed(0)
    hyper = HyperField(
        code_width=5, hidden=9, depth=2, encoded=7, extra=extra_width, width=8, heads={"level": 1, "rgb": 3}
    ).double()
    codes = randn(1 if shared else 3, 5).requires_grad_(True)
    encoded = randn(3, 11, 7, seed=1).requires_grad_(True)
    extra = randn(3, 11, extra_width, seed=2).requires_grad_(True) if extra_width else None
    leaves = [codes, encoded, *hyper.parameters()] + ([extra] if extra_width else [])

    field = hyper(codes)
    features = field.features(encoded, extra)
    found = torch.cat([features, field.head("level", features), field.head("rgb", features)], dim=-1)

    rows = []
    for b in range(3):
        trunk, heads = plain_layers(hyper, codes[0 if shared else b])
        points = []
        for p in range(11):
            value = plain_trunk(trunk, encoded[b, p], None if extra is None else extra[b, p])
            points.append(torch.cat([value, plain_head(heads["level"], value), plain_head(heads["rgb"], value)]))
        rows.append(torch.stack(points))
    expected = torch.stack(rows)
    close(found, expected)

    weight = randn(*found.shape, seed=3)
    found_gradients = torch.autograd.grad((found * weight).sum(), leaves)
    expected_gradients = torch.autograd.grad((expected * weight).sum(), leaves)
    for one, other in zip(found_gradients, expected_gradients, strict=True):
        close(one, other)


def test_field_is_its_tensors():
    torch.manual_seed(0)
    field = HyperField(code_width=5, hidden=9, depth=1, encoded=7, extra=0, width=8, heads={"a": 1, "b": 2})(
        torch.randn(1, 5)
    )
    again = Field.from_tensors(dict(reversed(field.tensors().items())))
    encoded = torch.randn(2, 4, 7)
    assert torch.equal(again.features(encoded), field.features(encoded))
    assert torch.equal(again.head("b", field.features(encoded)), field.head("b", field.features(encoded)))


def plain_march(marcher: RayMarcher, probe, origins, directions, start, steps, bisection_steps):
    """The published march: a written-out LSTM per ray, bisection with gradients on (docs/paper-vs-code.md, C4)."""
    levels, depths, surfaces = [], [], []
    for b in range(origins.shape[0]):
        for r in range(origins.shape[1]):
            origin, direction = origins[b, r], directions[b, r]

            def at(depth, b=b, origin=origin, direction=direction):
                level, features = probe(b, origin + depth * direction)
                return level, features

            hidden = cell = torch.zeros(marcher.lstm.hidden_size, dtype=torch.float64)
            depth, ray_levels, ray_depths = start[b, r], [], []
            for _ in range(steps):
                level, features = at(depth)
                ray_levels.append(level)
                ray_depths.append(depth)
                gates = marcher.lstm.weight_ih @ features + marcher.lstm.bias_ih
                gates = gates + marcher.lstm.weight_hh @ hidden + marcher.lstm.bias_hh
                i, f, g, o = gates.chunk(4)
                cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(g)
                hidden = torch.sigmoid(o) * torch.tanh(cell)
                depth = depth + (marcher.step.weight @ hidden + marcher.step.bias).abs()[0]
            ray_levels.append(at(depth)[0])
            ray_depths.append(depth)
            x0, x1, y0 = ray_depths[-2], ray_depths[-1], ray_levels[-2]
            for _ in range(bisection_steps):
                middle = (x0 + x1) / 2
                y = at(middle)[0]
                if bool(y0 < 0) != bool(y > 0):
                    x0, y0 = middle, y
                else:
                    x1 = middle
            levels.append(torch.stack(ray_levels))
            depths.append(torch.stack(ray_depths))
            surfaces.append((x0 + x1) / 2)
    shape = (origins.shape[0], origins.shape[1], -1)
    return (
        torch.stack(levels).view(shape),
        torch.stack(depths).view(shape),
        torch.stack(surfaces).view(shape[:2]),
    )


def test_march_equals_published_march_in_values_and_gradients():
    torch.manual_seed(1)
    marcher = RayMarcher(6, hidden=5).double()
    with torch.no_grad():
        marcher.step.bias.fill_(0.15)
    mix = randn(2, 3, 5, seed=4).requires_grad_(True)
    radius = torch.tensor([0.5, 0.7], dtype=torch.float64).requires_grad_(True)

    def probe(points):
        level = points.norm(dim=-1) - radius[:, None]
        waves = torch.sin(points @ mix)
        return level, torch.cat([waves, level[..., None]], dim=-1)

    def probe_one(b, point):
        level = point.norm() - radius[b]
        return level, torch.cat([torch.sin(point @ mix[b]), level[None]])

    origins = 0.2 * randn(2, 12, 3, seed=5) + torch.tensor([0.0, 0.0, -2.0]).double()
    directions = torch.cat([0.2 * randn(2, 12, 2, seed=6), torch.ones(2, 12, 1).double()], dim=-1)
    start = torch.linspace(0.6, 1.6, 24, dtype=torch.float64).view(2, 12).requires_grad_(True)
    march = marcher(probe, origins, directions, start, steps=5, bisection_steps=10)
    levels, depths, surface = plain_march(marcher, probe_one, origins, directions, start, 5, 10)

    assert march.levels.shape == (2, 12, 6)
    close(march.levels, levels)
    close(march.depths, depths)
    close(march.surface_depth, surface)
    assert torch.equal(march.hit, levels[..., -1] <= 0)
    crossed = (levels[..., -2] > 0) & (levels[..., -1] < 0)
    assert crossed.any(), "no ray crosses the surface in its last step: the comparison would not see bisection"
    assert (~crossed).any()

    leaves = [mix, radius, start, *marcher.parameters()]

    def total(levels, depths, surface):
        return (levels * levels.sin()).sum() + depths.square().sum() + (surface * surface.cos()).sum()

    found = torch.autograd.grad(total(march.levels, march.depths, march.surface_depth), leaves)
    expected = torch.autograd.grad(total(levels, depths, surface), leaves)
    for one, other in zip(found, expected, strict=True):
        close(one, other, 1e-7)


def striding_marcher(length: float) -> RayMarcher:
    """A marcher that takes steps of one length, whatever it sees."""
    marcher = RayMarcher(3, hidden=4)
    with torch.no_grad():
        marcher.step.weight.zero_()
        marcher.step.bias.fill_(-length)  # the sign must not matter
    return marcher


def test_bisection_finds_a_sphere_from_the_shapenet_camera():
    focal = 64 * SHAPENET_FOCAL
    intrinsics = torch.tensor([[[focal, 0, 32.0], [0, focal, 32.0], [0, 0, 1]]])
    camera = Cameras(intrinsics, torch.tensor(look_at_origin(20, 30, 2.732)[None]).float(), torch.tensor([True]))
    origins, directions = camera.rays(torch.tensor([[[32.0, 32.0], [1.0, 1.0]]]))
    sphere = AnalyticShape(lambda points: points.norm(dim=-1) - 0.5)
    marcher = striding_marcher(0.25)
    march = marcher(sphere.probe, origins, directions, torch.full((1, 2), 2.0), steps=1, bisection_steps=10)
    assert march.hit.tolist() == [[True, False]]
    assert abs(march.surface_depth[0, 0].item() - 2.232) < 0.25 * 2**-11 + 1e-5
    # Nothing found: the estimate runs to the end of the march, up to 2^-11 of the last step.
    assert abs(march.surface_depth[0, 1].item() - 2.25) < 0.25 * 2**-11 + 1e-5


@pytest.mark.parametrize("steps", [10, 20])
def test_levels_are_one_more_than_the_steps(steps):
    sphere = AnalyticShape(lambda points: points.norm(dim=-1) - 0.5)
    origins = torch.tensor([[[0.0, 0.0, -2.0]]])
    march = striding_marcher(0.1)(
        sphere.probe, origins, torch.tensor([[[0.0, 0.0, 1.0]]]), torch.ones(1, 1), steps=steps, bisection_steps=0
    )
    assert march.levels.shape == march.depths.shape == (1, 1, steps + 1)
    torch.testing.assert_close(march.depths[0, 0], 1 + 0.1 * torch.arange(steps + 1.0))


def test_forget_gates_start_open():
    lstm = RayMarcher(16).lstm
    for bias in (lstm.bias_ih, lstm.bias_hh):
        assert (bias[32:64] == 1).all()
        assert (bias[:32].abs() < 0.5).all()
        assert (bias[64:].abs() < 0.5).all()


def test_encoder_takes_any_size_from_32_up():
    encoder = Encoder((8, 8, 16, 16), (1, 1, 1, 1), 6).eval()
    for size in (32, 50, 64):
        assert encoder(torch.zeros(2, 3, size, size)).shape == (2, 6)


def test_a_resnet_computes_what_its_weights_say():
    """Plain functions on the tensors, by the names that files on the hub have."""
    torch.manual_seed(0)
    resnet = ResNet((8, 8, 16), (1, 2, 1))
    x = torch.rand(3, 3, 40, 56)
    resnet(x)  # the running means are those of a batch, not 0 and 1
    resnet.eval()
    weights = resnet.state_dict()

    def convolved(x, name, stride):
        kernel = weights[f"{name}.convolution.weight"]
        x = functional.conv2d(x, kernel, stride=stride, padding=kernel.shape[-1] // 2)
        norm = [weights[f"{name}.normalization.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
        return functional.batch_norm(x, *norm)

    at = functional.max_pool2d(convolved(x, "embedder.embedder", 2).relu(), 3, 2, 1)
    for stage, found in enumerate(resnet(x)):
        for layer in range((1, 2, 1)[stage]):
            name, stride = f"encoder.stages.{stage}.layers.{layer}", 2 if stage and not layer else 1
            inner = convolved(convolved(at, f"{name}.layer.0", stride).relu(), f"{name}.layer.1", 1)
            projected = f"{name}.shortcut.convolution.weight" in weights
            assert projected == (stage > 0 and layer == 0)
            at = (inner + (convolved(at, f"{name}.shortcut", stride) if projected else at)).relu()
        torch.testing.assert_close(found, at)


def test_encoder_takes_pretrained_weights_from_a_folder(tmp_path):
    torch.manual_seed(0)
    source = ResNet((8, 8, 16, 16), (1, 1, 1, 1)).state_dict()
    save_file(source, tmp_path / "model.safetensors")
    other = ResNet((8, 8, 16, 16), (1, 1, 1, 1))
    other.load_pretrained(str(tmp_path))
    for name, value in other.state_dict().items():
        assert torch.equal(value, source[name]), name
    with pytest.raises(UserError, match="layers differ"):
        ResNet((8, 8, 16, 24), (1, 1, 1, 1)).load_pretrained(str(tmp_path))
    with pytest.raises(UserError, match="no pretrained ResNet"):
        other.load_pretrained(str(tmp_path / "nothing"))


def test_the_classifier_of_a_pretrained_file_is_left_out(tmp_path):
    source = ResNet((8, 8, 16, 16), (1, 1, 1, 1)).state_dict()
    classifier = {"classifier.1.weight": torch.rand(10, 16), "classifier.1.bias": torch.rand(10)}
    save_file(
        {**{f"resnet.{name}": value for name, value in source.items()}, **classifier}, tmp_path / "model.safetensors"
    )
    other = ResNet((8, 8, 16, 16), (1, 1, 1, 1))
    other.load_pretrained(str(tmp_path))
    assert all(torch.equal(value, source[name]) for name, value in other.state_dict().items())
