"""The published networks once more: the shapes of their checkpoints, and a plain transcription of their forward pass.

Written from FACTS §1.1, §1.2, §1.10 and §2, under the checkpoints' own names, for one object at a time; it uses no code of tars3d.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

State = dict[str, Tensor]


@dataclass(frozen=True)
class Size:
    """A data set's networks: code, hypernetwork width, its hidden layers in f and g, trunk width, octaves of φ."""

    code: int
    hidden: int
    depth_f: int
    depth_g: int
    width: int
    feature_octaves: int


SIZES = {
    "paper-shapenet": Size(512, 512, 5, 5, 128, 3),
    "paper-pascal3d": Size(256, 256, 1, 3, 64, 1),
    "paper-cub": Size(256, 256, 1, 1, 64, 1),
    "paper-pix3d": Size(512, 256, 3, 3, 64, 1),
}


def resnet_shapes(code: int) -> dict[str, tuple[int, ...]]:
    """torchvision's ResNet-18 with another last layer."""

    def norm(name: str, channels: int) -> dict[str, tuple[int, ...]]:
        kinds = ("weight", "bias", "running_mean", "running_var")
        return {f"{name}.{kind}": (channels,) for kind in kinds} | {f"{name}.num_batches_tracked": ()}

    found: dict[str, tuple[int, ...]] = {"conv1.weight": (64, 3, 7, 7), **norm("bn1", 64)}
    before = 64
    for stage, channels in enumerate((64, 128, 256, 512), start=1):
        for block in range(2):
            name = f"layer{stage}.{block}"
            found[f"{name}.conv1.weight"] = (channels, before if block == 0 else channels, 3, 3)
            found |= norm(f"{name}.bn1", channels)
            found[f"{name}.conv2.weight"] = (channels, channels, 3, 3)
            found |= norm(f"{name}.bn2", channels)
            if block == 0 and stage > 1:
                found[f"{name}.downsample.0.weight"] = (channels, before, 1, 1)
                found |= norm(f"{name}.downsample.1", channels)
        before = channels
    return found | {"fc.weight": (code, 512), "fc.bias": (code,)}


def published_shapes(size: Size, *, system: str = "tars", stage: int = 2) -> dict[str, tuple[int, ...]]:
    """Key names and shapes of an official checkpoint's weights."""
    found: dict[str, tuple[int, ...]] = {}

    def linear(name: str, inputs: int, outputs: int) -> None:
        found[f"{name}.weight"] = (outputs, inputs)
        found[f"{name}.bias"] = (outputs,)

    def hyper(name: str, depth: int, inputs: int, outputs: int) -> None:
        linear(f"{name}.0", size.code, size.hidden)
        for number in range(1, depth):
            linear(f"{name}.{2 * number}", size.hidden, size.hidden)
        linear(f"{name}.{2 * depth}", size.hidden, (inputs + 1) * outputs)

    def trunk(module: str, depth: int, first: int) -> None:
        for number, inputs in enumerate([first] + [size.width + 33] * 3):
            hyper(f"{module}.hyper_impl.{number}", depth, inputs, size.width)

    if stage == 2:
        found["meannet_latent"] = (size.code,)
    found |= {f"encoder.{name}": shape for name, shape in resnet_shapes(size.code).items()}
    f = "sdf_generator" if system == "tars" else "generator"
    trunk(f, size.depth_f, 33 + (8 * size.feature_octaves if system == "tars" else 0))
    hyper(f"{f}.hyper_level.0", size.depth_f, size.width, 1)
    hyper(f"{f}.hyper_rgb.0", size.depth_f, size.width, 3)
    if system == "tars":
        for number, (inputs, outputs) in enumerate([(33, 32), (32, 32), (32, 4)]):
            linear(f"{f}.point_feat_predictor.{2 * number}", inputs, outputs)
    found["renderer.ray_lstm.weight_ih"] = (128, size.width)
    found["renderer.ray_lstm.weight_hh"] = (128, 32)
    found["renderer.ray_lstm.bias_ih"] = found["renderer.ray_lstm.bias_hh"] = (128,)
    linear("renderer.lstm_pred", 32, 1)
    if stage == 2:
        trunk("deformnet", size.depth_g, 33)
        for head, outputs in {"pts_deformations": 3, "pts_feat": 4, "rgb": 3}.items():
            hyper(f"deformnet.hyper_{head}.0", size.depth_g, size.width, outputs)
    return found


def random_state(shapes: dict[str, tuple[int, ...]], seed: int = 0) -> State:
    """Values for every tensor, linear layers about as PyTorch starts them.

    Much larger ones would make the march chaotic: 20 steps then blow a rounding error up to the size of the object.
    """
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in shapes.items():
        if name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(1234)
        elif "bn" in name or "downsample.1" in name:
            positive = name.endswith(("weight", "running_var"))
            noise = torch.rand(shape, generator=generator)
            state[name] = 0.5 + noise if positive else 0.4 * noise - 0.2
        elif len(shape) > 1:
            bound = math.sqrt((3 if len(shape) == 4 else 1) / math.prod(shape[1:]))
            state[name] = bound * (2 * torch.rand(shape, generator=generator) - 1)
        else:
            state[name] = 0.1 * torch.randn(shape, generator=generator)
    return state


def resnet18(state: State, images: Tensor) -> Tensor:
    """Codes of pictures [batch, 3, height, width], as torchvision computes them in evaluation mode."""

    def conv(name: str, x: Tensor, stride: int, padding: int) -> Tensor:
        return F.conv2d(x, state[f"encoder.{name}.weight"], stride=stride, padding=padding)

    def norm(name: str, x: Tensor) -> Tensor:
        kinds = ("weight", "bias", "running_mean", "running_var")
        weight, bias, mean, variance = (state[f"encoder.{name}.{kind}"][:, None, None] for kind in kinds)
        return weight * (x - mean) / torch.sqrt(variance + 1e-5) + bias

    x = torch.relu(norm("bn1", conv("conv1", images, 2, 3)))
    x = F.max_pool2d(x, kernel_size=3, stride=2, padding=1)
    for stage in (1, 2, 3, 4):
        for block in (0, 1):
            name = f"layer{stage}.{block}"
            down = stage > 1 and block == 0
            y = torch.relu(norm(f"{name}.bn1", conv(f"{name}.conv1", x, 2 if down else 1, 1)))
            y = norm(f"{name}.bn2", conv(f"{name}.conv2", y, 1, 1))
            if down:
                x = norm(f"{name}.downsample.1", conv(f"{name}.downsample.0", x, 2, 0))
            x = torch.relu(x + y)
    return x.mean(dim=(2, 3)) @ state["encoder.fc.weight"].T + state["encoder.fc.bias"]


def posenc(values: Tensor, octaves: int) -> Tensor:
    """γ of [n, d]: per coordinate the sines, then the cosines."""
    parts = []
    for i in range(values.shape[1]):
        parts += [torch.sin(2**octave * math.pi * values[:, i]) for octave in range(octaves)]
        parts += [torch.cos(2**octave * math.pi * values[:, i]) for octave in range(octaves)]
    return torch.stack(parts, dim=1)


def mlp(state: State, name: str, x: Tensor) -> Tensor:
    """Linear layers at even indices with ReLU between."""
    number = 0
    while f"{name}.{number}.weight" in state:
        x = torch.relu(x) if number else x
        x = x @ state[f"{name}.{number}.weight"].T + state[f"{name}.{number}.bias"]
        number += 2
    return x


def hyper_layer(state: State, name: str, code: Tensor, x: Tensor) -> Tensor:
    """x through the layer that a hypernetwork makes of a code; row 0 of the matrix is the bias."""
    matrix = mlp(state, name, code).reshape(x.shape[1] + 1, -1)
    return x @ matrix[1:] + matrix[0]


def trunk(state: State, module: str, code: Tensor, first: Tensor, encoded: Tensor) -> Tensor:
    x = first
    for number in range(4):
        x = x if number == 0 else torch.cat([x, encoded], dim=1)
        x = hyper_layer(state, f"{module}.hyper_impl.{number}", code, x)
        centred = x - x.mean(dim=1, keepdim=True)
        x = torch.relu(centred / torch.sqrt(centred.square().mean(dim=1, keepdim=True) + 1e-5))
    return x


@dataclass(frozen=True)
class Published:
    """What the published code says of points: level [n], colour in [-1, 1], canonical point, φ, and what the LSTM is fed."""

    level: Tensor
    rgb: Tensor
    canonical: Tensor
    features: Tensor
    steering: Tensor


def forward(state: State, size: Size, code: Tensor, points: Tensor, *, stage: int, system: str = "tars") -> Published:
    """One object's networks at points [n, 3], as at test time (every φ from g in stage 2)."""

    def encode(x: Tensor) -> Tensor:
        return torch.cat([posenc(x, 5), x], dim=1)

    if system == "sdf-srn":
        feat = trunk(state, "generator", code, encode(points), encode(points))
        level = hyper_layer(state, "generator.hyper_level.0", code, feat)[:, 0]
        rgb = torch.tanh(hyper_layer(state, "generator.hyper_rgb.0", code, feat))
        return Published(level, rgb, points, points[:, :0], feat)
    if stage == 1:
        canonical, condition, head = points, code, "sdf_generator.hyper_rgb.0"
        features = mlp(state, "sdf_generator.point_feat_predictor", encode(points))
    else:
        steering = trunk(state, "deformnet", code, encode(points), encode(points))
        canonical = points + hyper_layer(state, "deformnet.hyper_pts_deformations.0", code, steering)
        features = hyper_layer(state, "deformnet.hyper_pts_feat.0", code, steering)
        condition, head = state["meannet_latent"], "deformnet.hyper_rgb.0"
    lifted = torch.cat([posenc(features, size.feature_octaves), encode(canonical)], dim=1)
    feat = trunk(state, "sdf_generator", condition, lifted, encode(canonical))
    level = hyper_layer(state, "sdf_generator.hyper_level.0", condition, feat)[:, 0]
    feat = feat if stage == 1 else steering
    return Published(level, torch.tanh(hyper_layer(state, head, code, feat)), canonical, features, feat)


def marched_depth(
    state: State, query, origins: Tensor, rays: Tensor, start: float, steps: int
) -> tuple[Tensor, Tensor]:
    """The renderer's depth along rays [n, 3] after bisection, and its mask; `query` gives a `Published` at points."""
    depth = torch.full_like(origins[:, 0], start)
    h = c = torch.zeros(len(origins), 32, dtype=origins.dtype)
    kinds = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    weight_ih, weight_hh, bias_ih, bias_hh = (state[f"renderer.ray_lstm.{kind}"] for kind in kinds)
    x0 = origins
    level = None
    for _ in range(steps):
        x0 = origins + depth[:, None] * rays
        found = query(x0)
        level = found.level
        gates = found.steering @ weight_ih.T + bias_ih + h @ weight_hh.T + bias_hh
        i, f, g, o = gates.chunk(4, dim=1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        step = h @ state["renderer.lstm_pred.weight"].T + state["renderer.lstm_pred.bias"]
        depth = depth + step[:, 0].abs()
    x1 = origins + depth[:, None] * rays
    mask = query(x1).level <= 0
    y0 = level
    for _ in range(10):
        x2 = (x0 + x1) / 2
        y2 = query(x2).level
        near = (y0 < 0) ^ (y2 > 0)
        x0, y0 = torch.where(near[:, None], x2, x0), torch.where(near, y2, y0)
        x1 = torch.where(near[:, None], x1, x2)
    return ((x0 + x1) / 2 - origins).norm(dim=1) / rays.norm(dim=1), mask
