"""`tars3d convert`: official checkpoints become models that give the field of the published forward pass; other files are refused.

Checkpoints are built here with the published names and shapes and random values; `published` holds the plain twin.
"""

import os
import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from helpers import refused
from published import published_shapes, random_state
from tars3d import cli
from tars3d.bench.published import SIZES, Published, State, forward, march, resnet18
from tars3d.convert import PUBLISHED_FOR, convert_checkpoint, open_official, recognise
from tars3d.errors import UserError
from tars3d.methods.base import Shape
from tars3d.reconstruct import load

TOLERANCE = 1e-5
CUB = SIZES["paper-cub"]
KINDS = [("tars", 1), ("tars", 2), ("sdf-srn", 1)]


def write_checkpoint(path, state: State, key: str = "model"):
    """As the published trainers save: weights, Adam's state, and where training was."""
    moments = {0: {"step": 7, "exp_avg": torch.zeros(3), "exp_avg_sq": torch.zeros(3)}}
    optim = {"state": moments, "param_groups": [{"lr": 1e-4, "betas": (0.9, 0.999), "params": [0]}]}
    torch.save({"epoch": 300, "iter": 112_000, key: state, "optim": optim}, path)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("official")


@pytest.fixture(scope="module")
def states(folder) -> dict[tuple[str, int], State]:
    """The smallest published networks of each kind, whose surfaces pass through the middle of space."""
    found: dict[tuple[str, int], State] = {}
    for seed, (system, stage) in enumerate(KINDS):
        state = random_state(published_shapes(CUB, system=system, stage=stage), seed)
        for name, value in state.items():
            if name.startswith("deformnet.hyper_pts_deformations.0.2"):
                value *= 0.1  # deformations of the size of the object, not many times that
        f = "generator" if system == "sdf-srn" else "sdf_generator"
        last = f"{f}.hyper_level.0.{2 * CUB.depth_f}.bias"
        points, codes = 2 * torch.rand(200, 3) - 1, resnet18(state, pictures())
        levels = torch.cat([forward(state, CUB, c, points, stage=stage, system=system).level for c in codes])
        state[last][0] -= levels.median()
        found[system, stage] = state
        write_checkpoint(folder / f"{system}{stage}.ckpt", state, "graph" if system == "sdf-srn" else "model")
    return found


def pictures(size: int = 64) -> torch.Tensor:
    return 2 * torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(5)) - 1


def double(state: State) -> State:
    return {name: value.double() for name, value in state.items()}


def close(found, expected, tolerance: float = TOLERANCE) -> None:
    found, expected = torch.as_tensor(found).double(), torch.as_tensor(expected).double()
    torch.testing.assert_close(found, expected, atol=tolerance, rtol=0)


def agree(shape: Shape, expected: list[Published], points: torch.Tensor, tolerance: float = TOLERANCE) -> None:
    """A batch of shapes is what the published networks say at points [batch, n, 3]."""
    close(shape.sdf(points), torch.stack([found.level for found in expected]), tolerance)
    moved = torch.stack([found.canonical for found in expected])
    close(shape.canonical(points) - points, moved - points, tolerance)
    close(shape.features(points), torch.stack([found.features for found in expected]), tolerance)
    close(2 * shape.color(points) - 1, torch.stack([found.rgb for found in expected]), tolerance)


@pytest.mark.parametrize(
    ("name", "system", "stage"), [(name, *kind) for kind in KINDS for name in PUBLISHED_FOR[kind[0]]]
)
def test_every_published_size_is_recognised(name, system, stage):
    shapes = published_shapes(SIZES[name], system=system, stage=stage)
    state = {
        key: torch.zeros((), dtype=torch.int64 if key.endswith("tracked") else torch.float32).expand(shape)
        for key, shape in shapes.items()
    }
    found, notes = recognise(state, system, "x.ckpt")
    assert {key: tuple(shape) for key, shape in found.shapes.items()} == shapes
    assert found.deformed == (stage == 2)
    if (name, system, stage) == ("paper-cub", "tars", 1):  # Pascal3D's and CUB's f are of one size
        assert found.preset == "paper-pascal3d"
        assert "paper-cub" in notes[0]
        found, notes = recognise(state, system, "x.ckpt", "paper-cub")
    assert found.preset == name
    assert notes == [] or stage == 1


def test_the_shapes_above_have_the_published_parameter_counts():
    totals = {"paper-shapenet": 99.3e6, "paper-pascal3d": 24.3e6, "paper-cub": 23.3e6, "paper-pix3d": 26.0e6}
    for name, total in totals.items():
        shapes = published_shapes(SIZES[name])
        counted = [np.prod(shape) for key, shape in shapes.items() if "running" not in key and "tracked" not in key]
        assert sum(counted) == pytest.approx(total, abs=0.05e6)


@pytest.mark.parametrize(("system", "stage"), KINDS)
def test_opened_checkpoint_is_the_published_forward_pass(folder, states, system, stage):
    """Code, sdf, deformation, point features, colour and marched depth."""
    state, size = double(states[system, stage]), CUB
    official = open_official(folder / f"{system}{stage}.ckpt", "paper-pascal3d" if system == "sdf-srn" else "paper-cub")
    assert official.place == {"epoch": 300, "iter": 112_000}
    method = official.method.double()
    images = pictures(method.config.encoder_input).double()
    codes = method.encode(images)
    close(codes, resnet18(state, images))

    generator = torch.Generator().manual_seed(1)
    points = 2 * torch.rand(2, 300, 3, generator=generator, dtype=torch.float64) - 1
    shape = method.deformed_shape(codes) if stage == 2 else method.object_space_shape(codes)
    twins = [forward(state, size, code, x, stage=stage, system=system) for code, x in zip(codes, points, strict=True)]
    agree(shape, twins, points)
    assert torch.stack([twin.canonical for twin in twins]).sub(points).abs().max() > 0.1 or stage == 1

    origins = torch.rand(2, 80, 3, generator=generator, dtype=torch.float64) - 0.5
    rays = torch.randn(2, 80, 3, generator=generator, dtype=torch.float64)
    start = torch.full((2, 80), -0.4, dtype=torch.float64)
    found = method.marcher(shape.probe, origins, rays, start, steps=20, bisection_steps=10)
    for number in range(2):

        def query(x, code=codes[number]):
            return forward(state, size, code, x, stage=stage, system=system)

        marched = march(state, query, origins[number], rays[number], start[number], 20)
        mask = marched.levels[..., -1] <= 0
        close(
            found.surface_depth[number].abs(), (marched.point - origins[number]).norm(dim=1) / rays[number].norm(dim=1)
        )
        assert torch.equal(found.hit[number], mask)
        assert 10 < mask.sum() < 70


@pytest.mark.parametrize(("system", "stage"), KINDS)
def test_converted_file_reconstructs_the_published_field(folder, states, tmp_path, capsys, system, stage):
    """From the command line to the mesh.

    The file is exact to 1e-5 where nothing else is rounded; in single precision the published code itself is not.
    """
    state, out = states[system, stage], tmp_path / "model"
    cli.main(["convert", str(folder / f"{system}{stage}.ckpt"), "--out", str(out), "--category", "bird"])
    printed = capsys.readouterr().out
    assert str(out / "model.safetensors") in printed
    assert ("note: the networks of paper-pascal3d and paper-cub" in printed) == (stage == 1 and system == "tars")
    assert ("note: the checkpoint holds no mean code" in printed) == (stage == 1)
    model = load(out)
    assert model.category == "bird"
    assert model.description["iter"] == 112_000
    rows, columns = np.mgrid[:90, :100]
    rgba = np.random.default_rng(0).integers(0, 255, (90, 100, 4), dtype=np.uint8)
    rgba[..., 3] = 255 * (np.hypot(rows - 45, columns - 50) < 35)
    with torch.no_grad():
        result = model.reconstruct(Image.fromarray(rgba), resolution=16)
        images = torch.from_numpy(result.framed.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
        code = resnet18(state, images)[0]
        points = 2 * torch.rand(1, 300, 3, generator=torch.Generator().manual_seed(1)) - 1
        agree(result.shape, [forward(state, CUB, code, points[0], stage=stage, system=system)], points, 1e-4)
        vertices = torch.from_numpy(np.array(result.mesh.vertices, dtype=np.float32))
        assert len(vertices) > 20
        twin = forward(state, CUB, code, vertices, stage=stage, system=system)

        networks, images, points, state = model.model.double(), images.double(), points.double(), double(state)
        exact = forward(state, CUB, resnet18(state, images)[0], points[0], stage=stage, system=system)
        agree(networks.shape(networks.encode(images)), [exact], points)
    close(result.canonical, torch.cat([twin.canonical, twin.features], dim=1), 1e-4)
    seen = np.asarray(result.mesh.visual.vertex_colors)[:, :3] / 255
    np.testing.assert_allclose(seen, (twin.rgb.numpy() + 1) / 2, atol=0.5 / 255 + 1e-4)


def light_state(system: str = "tars", stage: int = 2) -> State:
    """A complete checkpoint of zeros that takes next to no room."""
    shapes = published_shapes(CUB, system=system, stage=stage)
    kinds = {key: torch.int64 if key.endswith("tracked") else torch.float32 for key in shapes}
    return {key: torch.zeros((), dtype=kinds[key]).expand(shape) for key, shape in shapes.items()}


def without(state: State, *names: str) -> State:
    return {name: value for name, value in state.items() if name not in names}


LAST = "deformnet.hyper_rgb.0.2"
BROKEN = {
    "missing layer": (
        lambda state: without(state, f"{LAST}.weight", f"{LAST}.bias"),
        f"missing: {LAST}.weight, {LAST}.bias;",
    ),
    "no canonical code": (lambda state: without(state, "meannet_latent"), "missing: meannet_latent;"),
    "extra module": (
        lambda state: state | {"discriminator.0.weight": torch.zeros(2)},
        "unknown: discriminator.0.weight;",
    ),
    "wrong shape": (
        lambda state: state | {"encoder.fc.weight": torch.zeros(256, 100)},
        r"wrong: encoder.fc.weight \[256, 100\] instead of \[256, 512\];",
    ),
    "whole numbers": (
        lambda state: state | {"meannet_latent": torch.zeros(256, dtype=torch.int64)},
        r"wrong: meannet_latent \(torch.int64\);",
    ),
    "no tensor": (lambda state: state | {"meannet_latent": [0.0] * 256}, r"wrong: meannet_latent \(no dense tensor\);"),
    "NaN": (
        lambda state: state | {"renderer.lstm_pred.bias": torch.tensor([float("nan")])},
        "renderer.lstm_pred.bias holds NaN or infinity; .*earlier checkpoint",
    ),
    "infinity": (
        lambda state: state | {"meannet_latent": torch.full((256,), float("inf"))},
        "meannet_latent holds NaN or infinity; .*earlier checkpoint",
    ),
    "a whole module missing": (
        lambda state: {name: value for name, value in state.items() if not name.startswith("renderer.")},
        "missing: renderer.",
    ),
    "pretraining of f": (
        lambda state: {name: value for name, value in state.items() if name.startswith("sdf_generator")},
        "pretraining checkpoint without an encoder",
    ),
    "nothing": (lambda state: {}, "missing: "),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_checkpoints_that_are_not_complete_and_published_are_refused(kind, tmp_path):
    change, says = BROKEN[kind]
    file = write_checkpoint(tmp_path / "x.ckpt", change(light_state()))
    with pytest.raises(UserError, match=f"^{file}: .*{says}") as caught:
        convert_checkpoint(file, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_many_wrong_names_are_counted(tmp_path):
    state = light_state() | {f"extra.{number}": torch.zeros(1) for number in range(50)}
    with pytest.raises(UserError, match=r"unknown: extra.0, .* and 30 more; fetch"):
        recognise(state, "tars", "x.ckpt")


def test_a_named_data_set_must_fit():
    with pytest.raises(UserError, match="nearest: paper-pix3d, stage 2"):
        recognise(light_state(), "tars", "x.ckpt", "paper-pix3d")
    with pytest.raises(UserError, match="--preset paper-cub: none of the published sizes of sdf-srn"):
        recognise(light_state("sdf-srn", 1), "sdf-srn", "x.ckpt", "paper-cub")


class RunsCode:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("packed", [True, False])
def test_code_in_a_pickle_never_runs(packed, tmp_path):
    file, marker = tmp_path / "x.ckpt", tmp_path / "ran"
    content = {"model": light_state(), "optim": RunsCode(marker)}
    if packed:
        torch.save(content, file)
    else:
        file.write_bytes(pickle.dumps(RunsCode(marker)))
    with pytest.raises(UserError, match="Python objects besides tensors and is not opened"):
        convert_checkpoint(file, tmp_path / "out")
    assert not marker.exists()


@pytest.mark.parametrize("kind", ["missing layer", "extra module", "wrong shape", "NaN", "code"])
def test_command_refuses_bad_checkpoints_in_one_line(kind, tmp_path, capsys):
    file, marker, out = tmp_path / "x.ckpt", tmp_path / "ran", tmp_path / "out"
    if kind == "code":
        torch.save(
            {"model": light_state() | {"meannet_latent": RunsCode(marker)}}, file
        )  # among the weights themselves
    else:
        write_checkpoint(file, BROKEN[kind][0](light_state()))
    says = refused(capsys, "convert", file, "--out", out)
    assert says.startswith(f"error: {file}: ")
    assert not marker.exists()
    assert not out.exists()


def test_a_folder_of_a_checkpoint_and_a_file_in_place_of_the_folder_are_refused(tmp_path, capsys):
    (tmp_path / "folder.ckpt").mkdir()
    file = write_checkpoint(tmp_path / "folder.ckpt" / "x.ckpt", light_state())
    assert "a folder; give the .ckpt file in it" in refused(capsys, "convert", file.parent, "--out", tmp_path / "out")
    (tmp_path / "out").write_text("mine")
    assert "cannot be written" in refused(capsys, "convert", file, "--out", tmp_path / "out")
    assert (tmp_path / "out").read_text() == "mine"


def test_files_that_are_no_checkpoint(tmp_path, capsys):
    whole = write_checkpoint(tmp_path / "whole.ckpt", light_state())
    other = tmp_path / "other.ckpt"
    torch.save({"weights": {"a": torch.zeros(1)}}, other)
    listed = tmp_path / "list.ckpt"
    torch.save([1, 2], listed)
    contents = {"empty": b"", "text": b"<!DOCTYPE html>", "cut": whole.read_bytes()[:-2000], "short": b"PK"}
    files = {name: tmp_path / f"{name}.ckpt" for name in contents}
    for name, content in contents.items():
        files[name].write_bytes(content)
    says = {
        files["empty"]: "an empty file",
        files["text"]: "no PyTorch checkpoint, or cut short",
        files["cut"]: "no PyTorch checkpoint, or cut short",
        files["short"]: "no PyTorch checkpoint, or cut short",
        other: "no weights under `model`",
        listed: "no weights under `model`",
        tmp_path: "a folder",
        tmp_path / "nosuch.ckpt": "no such file",
    }
    for file, expected in says.items():
        with pytest.raises(SystemExit) as stopped:
            cli.main(["convert", str(file), "--out", str(tmp_path / "out")])
        assert stopped.value.code == 1
        printed = capsys.readouterr().err
        assert printed.startswith(f"error: {file}: ")
        assert expected in printed
        assert printed.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_model_that_is_there_is_not_overwritten(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"precious")
    with pytest.raises(UserError, match="exists already; choose another --out"):
        convert_checkpoint(write_checkpoint(tmp_path / "x.ckpt", light_state()), tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == b"precious"


def test_half_precision_and_older_files_open(tmp_path):
    """Files from before PyTorch 1.6 have another container; numbers may be of another precision than here."""
    state = {name: value.half() if value.is_floating_point() else value for name, value in light_state().items()}
    state["meannet_latent"] = torch.arange(256, dtype=torch.float64)
    file = tmp_path / "old.ckpt"
    torch.save({"model": state}, file, _use_new_zipfile_serialization=False)
    official = open_official(file)
    assert official.place == {}
    assert torch.equal(official.method.canonical_code, torch.arange(256.0))
