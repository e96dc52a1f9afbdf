"""The shapes of the official checkpoints (docs/paper-vs-code.md, C10 and C11), and random values for them.

`tars3d.bench.published` is their forward pass.
"""

import math

import torch

from tars3d.bench.published import Size, State


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
