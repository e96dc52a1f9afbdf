"""The published networks once more: a plain transcription of their forward pass, under their checkpoints' own names.

Our own code for docs/paper-vs-code.md, C1 to C4, C10 and C11. It uses nothing of tars3d, so that tests can hold the
product against it. Codes are [code] with points [n, 3], or [batch, code] with points [batch, n, 3].
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


def resnet18(state: State, images: Tensor, *, training: bool = False) -> Tensor:
    """Codes of pictures [batch, 3, height, width], as torchvision computes them; training normalises by the batch."""

    def conv(name: str, x: Tensor, stride: int, padding: int) -> Tensor:
        return F.conv2d(x, state[f"encoder.{name}.weight"], stride=stride, padding=padding)

    def norm(name: str, x: Tensor) -> Tensor:
        weight, bias, mean, variance = (
            state[f"encoder.{name}.{kind}"] for kind in ("weight", "bias", "running_mean", "running_var")
        )
        return F.batch_norm(x, mean, variance, weight, bias, training=training)

    x = torch.relu(norm("bn1", conv("conv1", images, 2, 3)))
    x = F.max_pool2d(x, kernel_size=3, stride=2, padding=1)
    for stage in (1, 2, 3, 4):
        for block in (0, 1):
            name = f"layer{stage}.{block}"
            down = stage > 1 and block == 0
            y = torch.relu(norm(f"{name}.bn1", conv(f"{name}.conv1", x, 2 if down else 1, 1)))
            y = norm(f"{name}.bn2", conv(f"{name}.conv2", y, 1, 1))
            if f"encoder.{name}.downsample.0.weight" in state:
                x = norm(f"{name}.downsample.1", conv(f"{name}.downsample.0", x, 2 if down else 1, 0))
            x = torch.relu(x + y)
    return x.mean(dim=(2, 3)) @ state["encoder.fc.weight"].T + state["encoder.fc.bias"]


def posenc(values: Tensor, octaves: int) -> Tensor:
    """γ of [..., d]: per coordinate the sines, then the cosines."""
    parts = []
    for i in range(values.shape[-1]):
        parts += [torch.sin(2**octave * math.pi * values[..., i]) for octave in range(octaves)]
        parts += [torch.cos(2**octave * math.pi * values[..., i]) for octave in range(octaves)]
    return torch.stack(parts, dim=-1)


def encode(points: Tensor) -> Tensor:
    """E(x): five octaves, then the coordinates."""
    return torch.cat([posenc(points, 5), points], dim=-1)


def mlp(state: State, name: str, x: Tensor) -> Tensor:
    """Linear layers at even indices with ReLU between."""
    number = 0
    while f"{name}.{number}.weight" in state:
        x = torch.relu(x) if number else x
        x = F.linear(x, state[f"{name}.{number}.weight"], state[f"{name}.{number}.bias"])
        number += 2
    return x


def matrices(state: State, code: Tensor) -> State:
    """The layers that all hypernetworks make of codes; f's of the canonical code where there is a DeformNet."""
    names = {name.rsplit(".", 2)[0] for name in state if ".hyper_" in name}
    canonical = state["meannet_latent"].expand(code.shape) if "meannet_latent" in state else code
    return {name: mlp(state, name, code if name.startswith("deformnet.") else canonical) for name in sorted(names)}


def layer(made: State, name: str, x: Tensor) -> Tensor:
    """x through a made layer; row 0 of the matrix is the bias."""
    matrix = made[name].unflatten(-1, (x.shape[-1] + 1, -1))
    return x @ matrix[..., 1:, :] + matrix[..., :1, :]


def trunk(made: State, module: str, first: Tensor, encoded: Tensor) -> Tensor:
    """Four layers with dense coordinate skips."""
    x = first
    for number in range(4):
        x = x if number == 0 else torch.cat([x, encoded], dim=-1)
        x = layer(made, f"{module}.hyper_impl.{number}", x)
        x = torch.relu(F.layer_norm(x, x.shape[-1:]))
    return x


@dataclass(frozen=True)
class Published:
    """What the published code says of points: level, colour in [-1, 1], canonical point, φ, and what the LSTM is fed."""

    level: Tensor
    rgb: Tensor
    canonical: Tensor
    features: Tensor
    steering: Tensor


def forward(state: State, size: Size, code: Tensor, points: Tensor, *, stage: int, system: str = "tars") -> Published:
    """The networks of codes at points, as at test time."""
    if stage == 1:
        state = {name: value for name, value in state.items() if name != "meannet_latent"}
    return at_points(state, size, matrices(state, code), points, stage=stage, system=system)


def at_points(
    state: State, size: Size, made: State, points: Tensor, *, stage: int, system: str = "tars", switched: int = 0
) -> Published:
    """The made networks at points.

    Args:
        switched: the half-batch switch: so many objects, the first ones, take φ from u in stage 2; 0 as at test time.
    """
    encoded = encode(points)
    if system == "sdf-srn":
        feat = trunk(made, "generator", encoded, encoded)
        level = layer(made, "generator.hyper_level.0", feat)[..., 0]
        return Published(level, torch.tanh(layer(made, "generator.hyper_rgb.0", feat)), points, points[..., :0], feat)
    if stage == 1:
        canonical, features = points, mlp(state, "sdf_generator.point_feat_predictor", encoded)
    else:
        steering = trunk(made, "deformnet", encoded, encoded)
        canonical = points + layer(made, "deformnet.hyper_pts_deformations.0", steering)
        features = layer(made, "deformnet.hyper_pts_feat.0", steering)
        encoded = encode(canonical)
        if switched:
            own = mlp(state, "sdf_generator.point_feat_predictor", encoded)
            features = torch.cat([own[:switched], features[switched:]])
    lifted = torch.cat([posenc(features, size.feature_octaves), encoded], dim=-1)
    feat = trunk(made, "sdf_generator", lifted, encoded)
    level = layer(made, "sdf_generator.hyper_level.0", feat)[..., 0]
    if stage == 1:
        return Published(level, torch.tanh(layer(made, "sdf_generator.hyper_rgb.0", feat)), canonical, features, feat)
    return Published(level, torch.tanh(layer(made, "deformnet.hyper_rgb.0", steering)), canonical, features, steering)


@dataclass(frozen=True)
class Marched:
    """Where rays went: levels at the start, after each step but the last, and at the end; the bisected surface point."""

    levels: Tensor
    point: Tensor


def march(state: State, query, origins: Tensor, rays: Tensor, start: Tensor, steps: int) -> Marched:
    """The renderer along rays [..., 3], bisection with its graph included; `query` gives a `Published` at points."""
    depth, memory = start, None
    kinds = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    weights = [state[f"renderer.ray_lstm.{kind}"] for kind in kinds]
    x0, levels = origins, []
    for _ in range(steps):
        x0 = origins + depth[..., None] * rays
        found = query(x0)
        levels.append(found.level)
        flat = found.steering.flatten(0, -2)
        if memory is None:
            memory = (flat.new_zeros(len(flat), 32), flat.new_zeros(len(flat), 32))
        memory = torch.lstm_cell(flat, memory, *weights)
        step = F.linear(memory[0], state["renderer.lstm_pred.weight"], state["renderer.lstm_pred.bias"])
        depth = depth + step.view(depth.shape).abs()
    x1 = origins + depth[..., None] * rays
    y0 = levels[-1]
    levels.append(query(x1).level)
    for _ in range(10):
        x2 = (x0 + x1) / 2
        y2 = query(x2).level
        near = (y0 < 0) ^ (y2 > 0)
        x0, y0 = torch.where(near[..., None], x2, x0), torch.where(near, y2, y0)
        x1 = torch.where(near[..., None], x1, x2)
    return Marched(torch.stack(levels, dim=-1), (x0 + x1) / 2)
