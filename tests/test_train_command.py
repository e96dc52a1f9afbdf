"""`tars3d train` and what it leaves: model, report, history; stopped and killed runs that go on; refusals in one line."""

import dataclasses
import json
import re
import shutil
import time
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
import trimesh

from helpers import AnalyticShape, coded_bank, refused, tiny_preset, write_toy_collection
from tars3d import cli, presets
from tars3d.config import Preset
from tars3d.data.bank import load_bank
from tars3d.data.collection import load_collection
from tars3d.errors import UserError
from tars3d.geometry.rasterize import silhouette
from tars3d.methods.tars import TARS
from tars3d.nn.resnet import ResNet
from tars3d.reconstruct import load
from tars3d.training.budget import Costs, step_costs
from tars3d.training.monitor import Monitor, render_maps
from tars3d.training.open_data import open_data
from tars3d.training.run_folder import RunFolder
from tars3d.training.trainer import Progress
from tars3d.training.warm_start import load_into, started_from
from tars3d.weights import load_model, save_model


@pytest.fixture(scope="module")
def collection(tmp_path_factory) -> Path:
    splits = {"train": ["toy0", "toy1", "toy2"], "val": ["toy3"], "test": ["toy4"]}
    return write_toy_collection(tmp_path_factory.mktemp("toys"), objects=5, views=2, splits=splits)


def visible_preset() -> Preset:
    """Long enough on spheres that there is a surface to see."""
    preset = tiny_preset()
    stages = list(preset.training.stages)
    stages[0] = dataclasses.replace(stages[0], steps=60, learning_rate=5e-3, batch=4)
    return Preset(preset.model, dataclasses.replace(preset.training, stages=tuple(stages)))


@pytest.fixture(scope="module")
def trained_run(collection, tmp_path_factory) -> Path:
    """A run of the command line over the whole curriculum."""
    out = tmp_path_factory.mktemp("runs") / "toy"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(presets.PRESETS, "tiny", visible_preset)
        cli.main(["train", str(collection), "--preset", "tiny", "--out", str(out), "--threads", "1", "--device", "cpu"])
    return out


def test_a_run_can_start_from_a_model(trained_run, collection, tmp_path, monkeypatch):
    monkeypatch.setitem(presets.PRESETS, "tiny", visible_preset)
    out = tmp_path / "more"
    train = ["train", str(collection), "--preset", "tiny", "--out", str(out), "--threads", "1", "--device", "cpu"]
    cli.main([*train, "--start", str(trained_run)])
    stages = [row["name"] for row in RunFolder(out).read_history()]
    assert "stage 2" in stages
    assert "stage 1" not in stages
    assert load(out, device="cpu").description["start"] == str(trained_run)


def test_stages_can_be_longer(collection, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(presets.PRESETS, "tiny", tiny_preset)
    train = ["train", str(collection), "--preset", "tiny", "--threads", "1", "--device", "cpu"]
    usual = {stage.name: stage.steps for stage in tiny_preset().training.stages}
    cli.main([*train, "--out", str(tmp_path / "run"), "--steps", "stage 1=4", "color=4", "--minutes", "0"])
    told = json.loads((tmp_path / "run" / "settings.json").read_text())["preset"]["training"]["stages"]
    assert {stage["name"]: stage["steps"] for stage in told} == usual | {"stage 1": 4, "color": 4}
    assert "--steps stage 7=3: give" in refused(capsys, *train, "--out", tmp_path / "none", "--steps", "stage 7=3")
    assert not (tmp_path / "none").exists()
    assert "keeps its stages" in refused(capsys, *train, "--out", tmp_path / "run", "--resume", "--steps", "stage 1=2")


@pytest.mark.parametrize(
    "wrong", ["stage 7=3", "stage 1", "stage 1=-2", "stage 1=many", "canonical code=5", "stage 1=٣"]
)
def test_steps_of_no_stage_and_no_number_are_refused(wrong):
    with pytest.raises(UserError, match=re.escape(f"--steps {wrong}: give STAGE=STEPS") + ".*stage 2"):
        presets.with_steps(tiny_preset(), [wrong])


def test_a_stage_of_no_steps_is_left_out():
    stages = [stage.name for stage in presets.with_steps(tiny_preset(), ["stage 1=0", "color=2"]).training.stages]
    assert stages == [stage.name for stage in tiny_preset().training.stages if stage.name != "stage 1"]
    every = [f"{stage.name}=0" for stage in tiny_preset().training.stages if stage.steps]
    with pytest.raises(UserError, match=r"leaves nothing to train; keep one of these stages: .*stage 2"):
        presets.with_steps(tiny_preset(), every)


def test_a_stage_is_named_once():
    with pytest.raises(UserError, match="stage 1 is named more than once"):
        presets.with_steps(tiny_preset(), ["stage 1=2", "stage 1=3"])


def test_a_curriculum_can_be_fitted_into_minutes(collection, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(presets.PRESETS, "tiny", tiny_preset)
    timed = Costs(tuple(25.0 if s.steps else 0.0 for s in tiny_preset().training.stages), ratio=1.0, around=60.0)
    monkeypatch.setattr("tars3d.training.budget.step_costs", lambda *_: timed)
    train = ["train", str(collection), "--preset", "tiny", "--threads", "1", "--device", "cpu", "--out", str(tmp_path)]
    cli.main([*train, "--scale", "2", "--minutes", "10", "--fit"])
    stages = json.loads((tmp_path / "settings.json").read_text())["preset"]["training"]["stages"]
    steps = {stage["name"]: stage["steps"] for stage in stages if stage["steps"]}
    assert 8 <= sum(steps.values()) <= 18  # 459 of 600 seconds at 25 a step, as 60 go into what is no step
    assert RunFolder(tmp_path).read_history()[-1]["total"] == sum(steps.values()), "it did not end"
    assert f"stage 2: {steps['stage 2']} of 6 steps, 0.04 a second" in capsys.readouterr().err
    assert "give --minutes" in refused(capsys, *train, "--fit")
    assert "--cut 1.5: give a share of the pictures" in refused(capsys, *train, "--cut", "1.5")
    assert "--cut 0.2: a run that goes on keeps its pictures" in refused(capsys, *train, "--cut", "0.2", "--resume")
    assert "--symmetric yes: a run that goes on" in refused(capsys, *train, "--symmetric", "yes", "--resume")
    assert "--method softras sees whole pictures" in refused(capsys, *train, "--cut", "0.2", "--method", "softras")
    assert "keeps its stages" in refused(capsys, *train, "--fit", "--minutes", "1", "--resume")
    short = [*train[:-1], str(tmp_path / "short"), "--fit", "--minutes", "0.5"]
    assert "minutes too long; give more --minutes" in refused(capsys, *short)
    assert not (tmp_path / "short").exists()


def test_what_a_run_does_besides_its_steps_is_timed_by_one_measurement(collection, monkeypatch):
    records = load_collection(collection).split("train")
    preset = tiny_preset()
    bank = load_bank(records, size=preset.model.picture_size, framing="bbox", padding=1.2)
    seen = []

    class Slow:
        measured = ("reconstruct", "color")

        def __call__(self, method, progress):
            seen.append((progress.stage.name, progress.step))
            time.sleep(0.5)

    monkeypatch.setattr(ResNet, "load_pretrained", lambda *_: pytest.fail("weights are fetched to be timed"))
    preset = Preset(dataclasses.replace(preset.model, encoder_hub_id="nobody/resnet"), preset.training)
    costs = step_costs(preset, bank, torch.device("cpu"), monitor_of=lambda run, preset: cast(Any, Slow()))
    assert seen == [("color", 2)]
    measured = [stage for stage in preset.training.stages if stage.kind in Slow.measured]
    assert costs.around >= 0.5 * len(measured)


def test_only_stages_that_are_ahead_of_a_start_can_be_longer(trained_run):
    ahead = started_from(tiny_preset(), str(trained_run))
    with pytest.raises(UserError, match=r"of one of these stages: .*stage 2"):
        presets.with_steps(ahead, ["stage 1=3"])


def test_a_start_fetches_no_other_encoder(trained_run, collection, tmp_path, monkeypatch):
    tensors, model, description = load_model(trained_run / "model.safetensors")
    file = tmp_path / "published.safetensors"
    save_model(file, tensors, dataclasses.replace(model, encoder_hub_id="nobody/resnet"), description=description)
    monkeypatch.setitem(presets.PRESETS, "tiny", visible_preset)
    arguments = ["train", str(collection), "--preset", "tiny", "--threads", "1", "--device", "cpu"]
    fetched: list[str] = []
    monkeypatch.setattr(ResNet, "load_pretrained", lambda _, name: fetched.append(name))
    cli.main([*arguments, "--start", str(file), "--out", str(tmp_path / "more"), "--minutes", "0"])
    assert fetched == []


def test_a_start_from_a_model_without_a_camera_head_leaves_its_stage_out(
    trained_run, collection, tmp_path, monkeypatch
):
    tensors, model, description = load_model(trained_run / "model.safetensors")
    headless = {name: value for name, value in tensors.items() if not name.startswith("camera_head.")}
    file, out = tmp_path / "headless.safetensors", tmp_path / "more"
    save_model(file, headless, dataclasses.replace(model, camera_hidden=0), description=description)
    monkeypatch.setitem(presets.PRESETS, "tiny", visible_preset)
    train = ["train", str(collection), "--preset", "tiny", "--out", str(out), "--threads", "1", "--device", "cpu"]
    cli.main([*train, "--start", str(file), "--minutes", "0"])
    stages = [stage["name"] for stage in RunFolder(out).read_settings()["preset"]["training"]["stages"]]
    assert "stage 2" in stages
    assert "camera" not in stages
    assert not load(out, device="cpu").predicts_camera


def test_a_start_has_a_camera_head_of_the_presets_form(trained_run, collection, tmp_path, monkeypatch):
    def deeper() -> presets.Preset:
        preset = visible_preset()
        return presets.Preset(dataclasses.replace(preset.model, camera_depth=3, camera_cells=(3, 2)), preset.training)

    monkeypatch.setitem(presets.PRESETS, "tiny", deeper)
    train = [
        "train",
        str(collection),
        "--preset",
        "tiny",
        "--threads",
        "1",
        "--device",
        "cpu",
        "--start",
        str(trained_run),
    ]
    steps = [
        f"{stage.name}=0" for stage in visible_preset().training.stages if stage.deformed and stage.kind != "camera"
    ]
    cli.main([*train, "--out", str(tmp_path / "more"), "--steps", *steps])
    before, after = (load_model(run / "model.safetensors")[0] for run in (trained_run, tmp_path / "more"))
    for name, value in before.items():
        if not name.startswith("camera_head."):
            assert torch.equal(after[name], value) or name == "mean_code" or name.startswith("template_"), name
    assert load(tmp_path / "more", device="cpu").model.config.camera_depth == 3
    assert RunFolder(tmp_path / "more").read_history()[-1]["name"] == "camera"


def test_a_start_with_other_point_features_is_refused(trained_run, collection, tmp_path, capsys):
    out = tmp_path / "x"
    arguments = ["train", str(collection), "--out", str(out), "--start", str(trained_run), "--point-features", "2"]
    assert "--point-features 2" in refused(capsys, *arguments)
    assert not out.exists()


@torch.no_grad()
def test_a_started_method_gives_the_fields_of_its_model(trained_run):
    model = load(trained_run, device="cpu").model
    method = TARS(model.config)
    load_into(method, str(trained_run))
    method.eval()
    picture = torch.rand(1, 3, model.config.encoder_input, model.config.encoder_input)
    points = torch.rand(1, 50, 3) - 0.5
    expected, found = model.shape(model.encode(picture)), method.shape(method.encode(picture))
    for kind in ("sdf", "color", "canonical", "features"):
        assert torch.allclose(getattr(found, kind)(points), getattr(expected, kind)(points), atol=1e-5), kind


@pytest.mark.parametrize(
    ("method", "words"), [("sdf-srn", "is a model of tars; give --method tars"), ("cmr", "is a model of tars")]
)
def test_a_start_of_another_method_is_refused(trained_run, collection, tmp_path, capsys, method, words):
    arguments = [
        "train",
        str(collection),
        "--out",
        str(tmp_path / "x"),
        "--start",
        str(trained_run),
        "--method",
        method,
    ]
    assert words in refused(capsys, *arguments)
    assert not (tmp_path / "x" / "settings.json").exists()


def test_train_command_leaves_a_model_a_report_and_a_history(trained_run):
    names = {path.name for path in trained_run.iterdir()}
    assert {"settings.json", "state.safetensors", "model.safetensors", "report.html", "history.jsonl"} <= names
    assert not [name for name in names if "partial" in name]
    history = RunFolder(trained_run).read_history()
    assert history[-1]["total"] == sum(stage.steps for stage in visible_preset().training.stages)
    measured = [row for row in history if "chamfer_x10" in row]
    assert [row["name"] for row in measured] == ["hull", "stage 1", "deformation", "stage 2", "color"]
    report = (trained_run / "report.html").read_text()
    assert "stage 2" in report
    assert "held-out objects" in report
    model = load(trained_run, device="cpu")
    assert model.category == "toy"
    assert model.description["preset"] == "tiny"
    assert model.description["pictures"] == 6
    saved = RunFolder(trained_run).read_state()
    assert saved is not None
    half = saved[0]["method.encoder.code.weight"].half().float()
    assert torch.equal(model.model.encoder.code.weight.data, half), "the model file is not of the final weights"


def test_killed_while_it_reports_it_leaves_its_model(collection, tmp_path, monkeypatch):
    def killed(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setitem(presets.PRESETS, "tiny", tiny_preset)
    monkeypatch.setattr(Monitor, "_pictures", killed)
    command = [
        "train",
        str(collection),
        "--preset",
        "tiny",
        "--out",
        str(tmp_path),
        "--threads",
        "1",
        "--device",
        "cpu",
    ]
    with pytest.raises(SystemExit):
        cli.main([*command, "--minutes", "0"])
    assert load(tmp_path, device="cpu").description["stage"] == "sphere"


def test_trained_model_reconstructs_and_is_evaluated(trained_run, collection, tmp_path, capsys):
    picture = collection / "images" / "toy4_0.png"
    common = ["--model", str(trained_run), "--resolution", "24", "--device", "cpu", "--out", str(tmp_path)]
    cli.main(["reconstruct", str(picture), *common])
    assert (tmp_path / "toy4_0.glb").stat().st_size > 1000
    assert capsys.readouterr().out.startswith(str(tmp_path / "toy4_0.glb"))
    cli.main(["evaluate", str(collection), *common, "--samples", "500", "--emd-points", "0"])
    summary = json.loads((tmp_path / "metrics.json").read_text())
    assert [row["instance"] for row in summary["instances"]] == ["toy4"]
    assert (tmp_path / "sheet.png").exists()


def test_resumed_command_line_run_is_the_same_run(trained_run, collection, tmp_path, monkeypatch, capsys):
    """Stopped by --minutes again and again; the last session of all ends with the same weights."""
    monkeypatch.setitem(presets.PRESETS, "tiny", visible_preset)
    arguments = ["train", str(collection), "--out", str(tmp_path), "--threads", "1", "--device", "cpu"]
    cli.main([*arguments, "--preset", "tiny", "--minutes", "0.002"])
    assert (tmp_path / "report.html").exists()
    said = " ".join(capsys.readouterr().err.split())
    assert re.search(r"stopped after \d+ of \d+ steps, so the model is not what it will be; go on with --resume", said)
    cli.main([*arguments, "--resume", "--minutes", "0.004"])
    watch = Monitor.__call__

    def killed_before_the_state_is_saved(self, method, progress):
        watch(self, method, progress)
        if progress.stage.name == "deformation":
            raise KeyboardInterrupt

    monkeypatch.setattr(Monitor, "__call__", killed_before_the_state_is_saved)
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        cli.main([*arguments, "--resume"])
    monkeypatch.setattr(Monitor, "__call__", watch)
    assert stop.value.code == 130
    assert capsys.readouterr().err.splitlines()[-2:] == [f"{tmp_path}: go on with --resume", "stopped"]
    cli.main([*arguments, "--resume"])
    found, expected = RunFolder(tmp_path).read_state(), RunFolder(trained_run).read_state()
    assert found is not None
    assert expected is not None
    different = [name for name, value in expected[0].items() if not torch.equal(found[0][name], value)]
    assert not different
    history = [(row["stage"], row["step"]) for row in RunFolder(tmp_path).read_history()]
    assert len(history) == len(set(history)), "measurements taken before and after a kill are both in the history"


def test_train_command_names_files_that_exist(collection, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(presets.PRESETS, "tiny", visible_preset)
    out = str(tmp_path / "run")
    options = ["--preset", "tiny", "--minutes", "0", "--threads", "1", "--device", "cpu"]
    cli.main(["train", str(collection), "--out", out, *options, "--cut", "0.5"])
    named = [Path(line) for line in capsys.readouterr().out.splitlines() if line.startswith(out)]
    assert named
    assert not [path for path in named if not path.exists()]
    assert RunFolder(out).read_settings()["preset"]["training"]["cut"] == 0.5


def test_objects_that_are_not_symmetric_are_mirrored_nowhere():
    compact = presets.preset("compact")
    assert compact.training.flip
    assert compact.model.mirrored
    uneven = presets.with_symmetry(compact, "no")
    assert not uneven.training.flip
    assert not uneven.model.mirrored
    assert uneven.model.symmetric is False
    published = presets.preset("paper-pix3d")
    assert any(stage.losses.symmetry for stage in published.training.stages)
    assert not any(s.losses.symmetry for s in presets.with_symmetry(published, "no").training.stages)
    even = presets.with_symmetry(published, "yes")
    assert even == dataclasses.replace(published, model=dataclasses.replace(published.model, symmetric=True))
    assert presets.with_symmetry(compact, "auto") is compact
    for name, method, cure in (("compact-single-view", "tars", "--preset"), ("compact", "cmr", "--method")):
        with pytest.raises(UserError, match=f"--symmetric no: .* symmetric here; choose another {cure}"):
            presets.with_symmetry(presets.preset(name, method), "no")


def test_options_of_a_run_are_what_it_trains_with(collection, tmp_path, monkeypatch):
    preset = tiny_preset()
    model = dataclasses.replace(preset.model, encoder_hub_id="somebody/resnet")
    monkeypatch.setitem(presets.PRESETS, "tiny", lambda: Preset(model, preset.training))
    monkeypatch.setattr(ResNet, "load_pretrained", lambda *_: pytest.fail("--no-pretrained is not heeded"))
    options = [
        "--learning-rate",
        "0.0003",
        "--seed",
        "11",
        "--cut",
        "0.25",
        "--no-pretrained",
        "--scale",
        "2",
        "--symmetric",
        "no",
    ]
    train = ["train", str(collection), "--preset", "tiny", "--threads", "1", "--device", "cpu", "--minutes", "0"]
    cli.main([*train, "--out", str(tmp_path), *options])
    told = RunFolder(tmp_path).read_settings()["preset"]
    assert told["model"]["encoder_hub_id"] is None
    assert told["model"]["symmetric"] is False
    assert (told["training"]["seed"], told["training"]["cut"]) == (11, 0.25)
    assert {stage["learning_rate"] for stage in told["training"]["stages"]} == {0.0003}
    assert [stage["steps"] for stage in told["training"]["stages"]] == [2 * s.steps for s in preset.training.stages]


def test_held_out_objects_are_measured_against_their_own_ground_truth(tmp_path):
    """Objects are spread over the bank: the second that is measured is not the second of it."""
    names = {"train": ["toy0", "toy1"], "val": ["toy2", "toy3", "toy4"], "test": []}
    folder = write_toy_collection(tmp_path / "toys", objects=5, views=1, splits=names)
    preset = tiny_preset(validate_instances=2)
    data = open_data([folder], preset, torch.device("cpu"))
    asked: list[int] = []

    def truth(number: int):
        asked.append(number)
        return data.truth(number)

    run = RunFolder(tmp_path / "run")
    run.root.mkdir()
    monitor = Monitor(run, preset, data.pictures, data.watched, truth, seen=False, description={})
    found = monitor._measure(TARS(preset.model), Progress(preset.training.stages[2], 2, 1, 1, {}, 0.0))
    assert asked == [0, 2]
    assert found["chamfer_x10"] > 0


def test_crops_of_training_pictures_waver_and_those_of_measured_ones_do_not(collection):
    preset = tiny_preset(crop_jitter=0.2, seed=3)
    data = open_data([collection], preset, torch.device("cpu"))
    records = {side: load_collection(collection).split(side) for side in ("train", "val")}
    framing = {"size": 32, "framing": "bbox", "padding": 1.2}
    wavering = load_bank(records["train"], **framing, crop_jitter=0.2, seed=3)
    assert not torch.equal(wavering.rgb, load_bank(records["train"], **framing).rgb)
    assert torch.equal(data.pictures.rgb, wavering.rgb)
    assert torch.equal(data.watched.rgb, load_bank(records["val"], **framing).rgb)
    assert not data.seen


def test_pictures_of_a_run_show_what_the_marcher_finds_and_how_it_faces(collection):
    """A ball in front of a marcher that goes straight to the depth of its middle."""
    preset = tiny_preset()
    stage = dataclasses.replace(preset.training.stages[2], march_steps=1)
    training = dataclasses.replace(preset.training, stages=(stage,), near=-0.8, far=0.8, bisection_steps=12)
    model = dataclasses.replace(preset.model, width=3)  # features that steer are points here
    method = TARS(model)
    with torch.no_grad():
        method.marcher.step.weight.zero_()
        method.marcher.step.bias.fill_(0.8)
    ball = AnalyticShape(lambda points: points.norm(dim=-1) - 0.3)
    bank = coded_bank(size=32)
    found = render_maps(method, ball, bank, 0, Preset(model, training))
    k, rt = bank.cameras.intrinsics[0].numpy(), bank.cameras.extrinsics[0].numpy()
    shown = silhouette(trimesh.creation.icosphere(4, 0.3), k, rt, True, 32, 32)
    hit = found["mask"][..., 0] == 0
    assert (hit != shown).sum() < 0.1 * shown.sum()
    assert (found["mask"][~hit] == 1).all()
    for name in ("color", "depth", "normal"):
        assert (found[name][~hit] == 1).all(), "the ground is white"
    middle, right, lower = found["normal"][16, 16], found["normal"][16, 19], found["normal"][19, 16]
    assert middle == pytest.approx([0.5, 0.5, 1.0], abs=0.1)  # towards the camera
    assert right[0] < middle[0] - 0.15
    assert lower[1] < middle[1] - 0.15
    assert found["depth"][16, 16, 0] > found["depth"][16, 19, 0] + 0.02, "near is bright"
    eye = -rt[:, :3].T @ rt[:, 3]
    assert found["color"][16, 16] == pytest.approx(0.3 * eye / np.linalg.norm(eye) + 0.5, abs=0.05)


def test_a_run_goes_on_from_any_folder_and_knows_where_its_data_have_gone(trained_run, tmp_path, monkeypatch):
    monkeypatch.setitem(presets.PRESETS, "tiny", visible_preset)
    options = ["--out", str(tmp_path / "run"), "--threads", "1", "--device", "cpu", "--minutes", "0"]
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    elsewhere.mkdir()
    write_toy_collection(home / "toys", objects=2, views=1)
    shutil.copy(trained_run / "model.safetensors", home / "model.safetensors")
    monkeypatch.chdir(home)
    cli.main(["train", "toys", "--preset", "tiny", "--start", "model.safetensors", *options])
    monkeypatch.chdir(elsewhere)
    cli.main(["train", "--resume", *options])
    (tmp_path / "run" / "state.safetensors").unlink()  # as if killed within the first minute
    cli.main(["train", "--resume", *options])
    (home / "toys").rename(elsewhere / "moved")
    cli.main(["train", "moved", "--resume", *options])
    monkeypatch.chdir(tmp_path)
    cli.main(["train", "--resume", *options])
    assert load(tmp_path / "run", device="cpu").description["start"] == "model.safetensors"


def test_a_stopped_run_says_how_many_steps_its_model_has(collection, tmp_path, monkeypatch):
    monkeypatch.setitem(presets.PRESETS, "tiny", visible_preset)
    cli.main(
        ["train", str(collection), "--preset", "tiny", "--out", str(tmp_path), "--threads", "1", "--device", "cpu", "--minutes", "0"]
    )  # fmt: skip
    assert load(tmp_path, device="cpu").description["steps"] == RunFolder(tmp_path).steps_taken(visible_preset()) == 1


def test_folders_that_are_no_one_collection_are_not_trained_on_together(collection, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(presets.PRESETS, "tiny", tiny_preset)
    train = ["--preset", "tiny", "--out", tmp_path / "run", "--threads", "1", "--device", "cpu"]
    other = write_toy_collection(tmp_path / "cars", objects=2)
    index = json.loads((other / "cameras.json").read_text())
    (other / "cameras.json").write_text(json.dumps({**index, "category": "car"}))
    message = refused(capsys, "train", collection, other, *train)
    assert f"{other}: is a collection of 'car', but {collection} of 'toy'; train them one by one" in message
    assert "is given twice; name each" in refused(
        capsys, "train", collection, f"{collection}/../{collection.name}/", *train
    )
    assert not (tmp_path / "run").exists()


def test_damaged_ground_truth_is_found_before_training(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(presets.PRESETS, "tiny", tiny_preset)
    data = write_toy_collection(tmp_path / "toys", objects=3, splits={"train": ["toy0", "toy1"], "val": ["toy2"]})
    (data / "ground_truth" / "toy2.npz").write_bytes(b"PK")
    monkeypatch.setattr("tars3d.training.run.train", lambda *_, **__: pytest.fail("it trains"))
    message = refused(
        capsys, "train", data, "--preset", "tiny", "--out", tmp_path / "run", "--threads", "1", "--device", "cpu"
    )
    assert "toy2.npz: cannot be read" in message


def test_a_model_of_another_category_is_noted(trained_run, collection, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(presets.PRESETS, "tiny", visible_preset)
    tensors, model, description = load_model(trained_run / "model.safetensors")
    file = tmp_path / "chair.safetensors"
    save_model(file, tensors, model, description={**description, "category": "chair"})
    note = "note: the model is of chair, the data of toy"
    cpu = ["--device", "cpu"]
    train = [
        "train",
        str(collection),
        "--preset",
        "tiny",
        "--out",
        str(tmp_path / "more"),
        "--minutes",
        "0",
        "--threads",
        "1",
    ]
    cli.main([*train, *cpu, "--start", str(file)])
    assert note in capsys.readouterr().err
    evaluate = ["evaluate", str(collection), *cpu, "--resolution", "16", "--samples", "100", "--emd-points", "0"]
    cli.main([*evaluate, "--model", str(file)])
    assert note in capsys.readouterr().err
    cli.main([*evaluate, "--model", str(trained_run)])
    assert "note: the model" not in capsys.readouterr().err


def test_train_command_refuses_what_cannot_work(trained_run, collection, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(presets.PRESETS, "tiny", visible_preset)
    base = ["train", str(collection), "--threads", "1", "--device", "cpu"]
    assert "holds a run already; go on with --resume" in refused(capsys, *base, "--out", str(trained_run))
    fresh = str(tmp_path / "fresh")
    assert "no such preset; choose one of compact" in refused(capsys, *base, "--out", fresh, "--preset", "nosuch")
    assert "there is no run to resume" in refused(capsys, *base, "--out", fresh, "--resume")
    for option, wrong in {"--scale": ("0.0", "nan", "inf"), "--learning-rate": ("-1.0", "0.0", "nan")}.items():
        for value in wrong:
            assert f"{option} {value}: give a positive number" in refused(capsys, *base, "--out", fresh, option, value)
    for value in ("-5.0", "nan"):
        assert f"--minutes {value}: give 0 or more" in refused(capsys, *base, "--out", fresh, "--minutes", value)
    assert "--threads 0: give at least 1" in refused(capsys, "train", str(collection), "--out", fresh, "--threads", "0")
    assert "no such folder" in refused(
        capsys, "train", str(tmp_path / "nothing"), "--out", fresh, "--preset", "tiny", "--threads", "1"
    )
    file = tmp_path / "file"
    file.write_text("")
    assert "cannot be written" in refused(capsys, *base, "--out", str(file / "run"), "--preset", "tiny")
    left = {path.name for path in (tmp_path / "fresh").rglob("*")}
    assert left <= {".lock"}, "a refused command leaves files behind"


def test_damaged_run_folders_are_refused(collection, tmp_path, capsys, monkeypatch, trained_run):
    monkeypatch.setitem(presets.PRESETS, "tiny", visible_preset)
    base = ["train", str(collection), "--threads", "1", "--device", "cpu", "--resume", "--out", str(tmp_path)]
    (tmp_path / "settings.json").write_text("{")
    assert "cannot be read" in refused(capsys, *base)
    (tmp_path / "settings.json").write_text("{}")
    assert "settings.json" in refused(capsys, *base)
    (tmp_path / "settings.json").write_bytes((trained_run / "settings.json").read_bytes())
    whole = (trained_run / "state.safetensors").read_bytes()
    (tmp_path / "state.safetensors").write_bytes(whole[: len(whole) // 2])
    assert "cut short" in refused(capsys, *base)


def test_resuming_with_other_pictures_is_refused(trained_run, tmp_path, capsys):
    other = write_toy_collection(tmp_path / "other", objects=4, views=1)
    base = ["train", str(other), "--threads", "1", "--device", "cpu", "--resume", "--out", str(trained_run)]
    assert "data changed" in refused(capsys, *base)


def test_objects_of_one_name_in_two_collections_have_their_own_ground_truth(tmp_path):
    splits = {"train": ["toy0"], "val": ["toy1"], "test": []}
    folders = [write_toy_collection(tmp_path / name, objects=2, splits=splits) for name in ("a", "b")]
    file = folders[1] / "ground_truth" / "toy1.npz"
    truth = dict(np.load(file))
    np.savez(file, **{**truth, "points": 0.5 * truth["points"]})
    data = open_data(folders, tiny_preset(), torch.device("cpu"))
    first, second = (data.truth(number) for number in range(2))
    np.testing.assert_allclose(second[0], 0.5 * first[0], atol=1e-6)
