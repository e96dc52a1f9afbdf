"""Training and reconstruction with everything on another device than the host, on a pretended GPU: no operation mixes devices, and numbers are the CPU's."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers import tiny_method, tiny_preset, write_toy_collection
from pretended_gpu import MixedDevices, PretendedGPU, device
from tars3d import cli, presets
from tars3d.config import Preset
from tars3d.data.bank import PictureBank, load_bank
from tars3d.data.collection import load_collection
from tars3d.demo import sample_pictures
from tars3d.methods.base import Method
from tars3d.reconstruct import load
from tars3d.training import trainer
from tars3d.training.hull_store import draw_hulls
from tars3d.training.run_folder import RunFolder
from tars3d.training.stages import KINDS
from test_gpu import one_step
from test_mesh_methods import tiny_mesh

pytestmark = pytest.mark.skipif(
    torch.cuda.is_available(), reason="beside a CUDA device none can be pretended; test_gpu.py runs on the real one"
)


@pytest.fixture(scope="module")
def bank(tmp_path_factory) -> PictureBank:
    folder = write_toy_collection(tmp_path_factory.mktemp("toys"), objects=2, views=2)
    return load_bank(load_collection(folder).split("train"), size=32, framing="bbox", padding=1.2)


def run(preset: Preset, bank: PictureBank, root: Path, where: torch.device, watch: Callable) -> Method:
    return trainer.train(preset, bank.to(where), RunFolder(root), device=where, watch=watch, watch_every=1)


def losses(
    preset: Preset, bank: PictureBank, root: Path, where: torch.device
) -> dict[tuple[str, int], dict[str, float]]:
    """The terms of every step that is left of a run."""
    seen = {}

    def note(method: Method, progress: trainer.Progress) -> None:
        seen[progress.stage.name, progress.step] = progress.terms

    run(preset, bank, root, where, note)
    return seen


def test_a_pretended_gpu_refuses_what_a_real_one_refuses():
    with PretendedGPU() as gpu:
        values = torch.ones(3).to(device())
        with pytest.raises(MixedDevices):
            torch.where(torch.tensor([True, False, True]), values, values)
        with pytest.raises(MixedDevices):
            torch.rand(3, device=device(), generator=torch.Generator())
        assert (2 * values + torch.tensor(1.0)).sum().item() == 9
    assert sum(gpu.waits.values()) == 1


def only(preset: Preset, steps: int, *names: str) -> Preset:
    """Some of the stages of a preset, and so many steps of each."""
    stages = tuple(
        replace(stage, steps=min(stage.steps, steps)) for stage in preset.training.stages if stage.name in names
    )
    return Preset(preset.model, replace(preset.training, stages=stages))


def test_a_whole_curriculum_has_the_losses_of_the_cpu(bank, tmp_path):
    preset = tiny_preset()
    preset = only(preset, 1, *(stage.name for stage in preset.training.stages))
    expected = losses(preset, bank, tmp_path / "host", torch.device("cpu"))
    with PretendedGPU():
        found = losses(preset, bank, tmp_path / "device", device())
    assert found.keys() == expected.keys()
    for step in list(expected)[:3]:  # then Adam, which makes a sign of rounding errors, takes them apart
        assert found[step] == pytest.approx(expected[step], rel=0.01, abs=1e-4), step


def gradients(
    preset: Preset, name: str, bank: PictureBank, where: torch.device
) -> tuple[float, dict[str, torch.Tensor]]:
    """The total loss of a step of the stage `name`, and its gradients."""
    stage = next(stage for stage in preset.training.stages if stage.name == name)
    method, hulls = tiny_method().float().to(where), draw_hulls(bank, preset.training).to(where)
    total = KINDS[stage.kind](method, stage, preset.training, bank.to(where), 0, hulls).losses(0).total
    total.backward()
    return total.item(), {key: value.grad.cpu() for key, value in method.named_parameters() if value.grad is not None}


@pytest.mark.parametrize("name", ["stage 1", "stage 2"])
def test_exact_derivatives_in_parts_have_the_gradients_of_the_cpu(bank, name):
    preset = tiny_preset(derivatives="exact")
    expected, slopes = gradients(preset, name, bank, torch.device("cpu"))
    with PretendedGPU():
        found, others = gradients(preset, name, bank, device())
    assert found == pytest.approx(expected, rel=1e-4)
    assert others.keys() == slopes.keys()
    assert any(key.startswith("marcher.") for key in slopes)
    for key, value in slopes.items():
        assert (others[key] - value).norm() <= 1e-3 * value.norm() + 1e-6, key


def test_the_step_of_the_gpu_tests_runs():
    """Where these are skipped, it has never been taken otherwise."""
    expected = one_step(torch.device("cpu"))
    with PretendedGPU():
        found = one_step(device())
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert (found[name] - value).norm() <= 1e-6 * value.norm() + 1e-9, name


def test_stopped_within_a_stage_it_goes_on_there(bank, tmp_path, monkeypatch):
    preset = only(tiny_preset(), 2, "hull")

    save = trainer._save

    def save_and_die(*arguments) -> None:
        save(*arguments)
        raise KeyboardInterrupt

    with PretendedGPU():
        expected = losses(preset, bank, tmp_path / "whole", device())
        monkeypatch.setattr(trainer, "SAVE_EVERY_SECONDS", 0.0)
        monkeypatch.setattr(trainer, "_save", save_and_die)
        with pytest.raises(KeyboardInterrupt):
            losses(preset, bank, tmp_path / "stopped", device())
        monkeypatch.setattr(trainer, "_save", save)
        found = losses(preset, bank, tmp_path / "stopped", device())
    assert found == {("hull", 2): expected["hull", 2]}


def test_the_train_command_times_measures_and_reports(tmp_path, monkeypatch):
    folder = write_toy_collection(tmp_path / "toys", objects=1, views=2)
    monkeypatch.setitem(presets.PRESETS, "tiny", lambda: only(tiny_preset(), 1, "stage 2"))
    monkeypatch.setattr("tars3d.arguments.choose_device", lambda name: device())
    command = ["train", str(folder), "--preset", "tiny", "--threads", "1", "--minutes", "100", "--fit"]
    with PretendedGPU():
        cli.main([*command, "--out", str(tmp_path / "run")])
    measured = [row["name"] for row in RunFolder(tmp_path / "run").read_history() if "chamfer_x10" in row]
    assert measured == ["stage 2"]
    assert (tmp_path / "run" / "report.html").exists()


@pytest.mark.parametrize("method", ["softras", "cmr"])
def test_mesh_systems(bank, tmp_path, method):
    preset = tiny_mesh(tiny_preset(), method)
    preset = only(preset, 1, *(stage.name for stage in preset.training.stages))
    expected = losses(preset, bank, tmp_path / "host", torch.device("cpu"))
    with PretendedGPU():
        found = losses(preset, bank, tmp_path / "device", device())
    first = next(iter(expected))
    assert found[first] == pytest.approx(expected[first], rel=0.01, abs=1e-4)
    assert found.keys() == expected.keys()


def test_a_picture_becomes_the_mesh_of_the_cpu(monkeypatch):
    expected = load("chair", device="cpu").reconstruct(sample_pictures()[0], resolution=24)
    monkeypatch.setattr("tars3d.reconstruct.choose_device", lambda name: device())
    monkeypatch.setattr("tars3d.photo.together.ROUNDS", 1)
    monkeypatch.setattr("tars3d.photo.together.DOUBTED", 0.0)
    with PretendedGPU():
        found = load("chair").reconstruct(sample_pictures()[0], resolution=24, refine=2)
        assert found.camera is not None
        together = load("chair").reconstruct_together(sample_pictures()[:2], resolution=24)
        assert len(together.cameras) == 2
        found = load("chair").reconstruct(sample_pictures()[0], resolution=24)
    np.testing.assert_allclose(
        found.mesh.vertices, expected.mesh.vertices, atol=5e-4
    )  # the outline's fit adds up differently
    np.testing.assert_allclose(found.canonical, expected.canonical, atol=1e-3)


@pytest.mark.parametrize("derivatives", ["differences", "exact"])
def test_a_step_hardly_waits_for_the_device(bank, derivatives):
    preset = tiny_preset(derivatives=derivatives)
    stage = replace(preset.training.stages[-3], batch=4)
    assert stage.name == "stage 2"
    hulls = draw_hulls(bank, preset.training)
    with PretendedGPU() as gpu:
        step = KINDS[stage.kind](
            tiny_method().float().to(device()), stage, preset.training, bank.to(device()), 0, hulls.to(device())
        )
        step.losses(0).total.backward()
        gpu.waits.clear()
        gpu.arrivals.clear()
        step.losses(1).total.backward()
    assert sum(gpu.waits.values()) == 1, gpu.waits
    assert sum(gpu.arrivals.values()) <= 16, gpu.arrivals  # what is drawn, and a few constants
