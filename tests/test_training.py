"""The whole curriculum on toys: every kind of stage, killed and resumed to the same weights bit by bit, and its errors."""

import dataclasses
import json
import multiprocessing
from pathlib import Path

import pytest
import torch

from helpers import tiny_method, tiny_preset, write_toy_collection
from tars3d import presets
from tars3d.config import Preset, from_dict, to_dict
from tars3d.data.bank import PictureBank, load_bank
from tars3d.data.collection import load_collection
from tars3d.errors import UserError
from tars3d.geometry.camera import Cameras
from tars3d.methods.tars import TARS, octave_weights
from tars3d.nn.resnet import ResNet
from tars3d.training import trainer
from tars3d.training.run_folder import RunFolder
from tars3d.training.stages import KINDS, encode_all, start_from_generator

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def collection(tmp_path_factory) -> Path:
    splits = {"train": ["toy0", "toy1", "toy2"], "val": ["toy3"], "test": ["toy4"]}
    return write_toy_collection(tmp_path_factory.mktemp("toys"), objects=5, views=2, splits=splits)


@pytest.fixture(scope="module")
def bank(collection) -> PictureBank:
    return load_bank(load_collection(collection).split("train"), size=32, framing="bbox", padding=1.2)


class Killed(Exception):
    """Stands for a kill: it may come at any step."""


def ignore(method: TARS, progress: trainer.Progress) -> None:
    pass


def run_all(preset: Preset, bank: PictureBank, root: Path, watch=ignore, **options) -> TARS:
    return trainer.train(preset, bank, RunFolder(root), device=CPU, watch=watch, watch_every=1, **options)


def weights(method: TARS) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in method.state_dict().items()}


def assert_identical(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    different = [name for name, value in expected.items() if not torch.equal(found[name], value)]
    assert not different, f"{len(different)} of {len(expected)} tensors differ, e.g. {different[:3]}"


@pytest.fixture(scope="module")
def undisturbed(bank, tmp_path_factory) -> tuple[dict[str, torch.Tensor], list[trainer.Progress]]:
    """Final weights of a run that nothing interrupts, and what its watcher saw."""
    seen: list[trainer.Progress] = []
    method = run_all(tiny_preset(), bank, tmp_path_factory.mktemp("run"), lambda _, progress: seen.append(progress))
    return weights(method), seen


def test_curriculum_visits_every_kind_of_stage_in_order(undisturbed):
    final, seen = undisturbed
    preset = tiny_preset()
    assert {stage.kind for stage in preset.training.stages} == set(KINDS)
    expected = [
        (number, step) for number, stage in enumerate(preset.training.stages) for step in range(1, stage.steps + 1)
    ]
    assert [(progress.number, progress.step) for progress in seen] == expected
    assert [progress.total_steps for progress in seen] == list(range(1, len(expected) + 1))
    for progress in seen:
        if progress.stage.kind == "reconstruct":
            weighted = {name for name, weight in vars(progress.stage.losses).items() if weight}
            assert set(progress.terms) == weighted, "a weighted term is not computed, or one without weight is"
    assert all(value == value for progress in seen for value in progress.terms.values())
    torch.manual_seed(0)
    start = TARS(preset.model).state_dict()
    still = [name for name, value in final.items() if torch.equal(value, start[name])]
    assert all(name.startswith("octave_weights") for name in still), f"never trained: {still}"


def test_the_same_seed_is_the_same_run_and_another_is_another(bank, undisturbed, tmp_path):
    assert_identical(weights(run_all(tiny_preset(), bank, tmp_path / "again")), undisturbed[0])
    other = weights(run_all(tiny_preset(seed=1), bank, tmp_path / "other"))
    assert any(not torch.equal(other[name], value) for name, value in undisturbed[0].items())


def test_killed_at_every_step_and_resumed_is_the_same_run(bank, undisturbed, tmp_path, monkeypatch):
    monkeypatch.setattr(trainer, "SAVE_EVERY_SECONDS", -1.0)  # a state after every step
    last_step = len(undisturbed[1])
    for kill in range(1, last_step + 1):

        def watch(method, progress, kill=kill):
            if progress.total_steps == kill:
                raise Killed

        with pytest.raises(Killed):
            run_all(tiny_preset(), bank, tmp_path, watch)
        torch.rand(kill)  # whatever another process did to the global generator
    assert_identical(weights(run_all(tiny_preset(), bank, tmp_path)), undisturbed[0])


@pytest.mark.parametrize("kill", [1, 4, 9, 12])
def test_killed_between_saves_goes_back_to_the_last_state(bank, undisturbed, tmp_path, kill):
    """With a state a minute only, the resumed run repeats the steps of its stage."""

    def watch(method, progress):
        if progress.total_steps == kill:
            raise Killed

    with pytest.raises(Killed):
        run_all(tiny_preset(), bank, tmp_path, watch)
    assert_identical(weights(run_all(tiny_preset(), bank, tmp_path)), undisturbed[0])


def test_stopped_by_the_clock_saves_its_work_and_goes_on(bank, undisturbed, tmp_path):
    """Sessions of no time at all still do a step each, also the last one of a stage."""
    steps = len(undisturbed[1])
    done: list[int] = []
    for _ in range(steps + 1):
        method = run_all(
            tiny_preset(), bank, tmp_path, lambda _, progress: done.append(progress.total_steps), stop_after_seconds=0
        )
    assert done == list(range(1, steps + 1)), "a session's work was lost"
    assert_identical(weights(method), undisturbed[0])


def test_a_finished_run_stays_as_it_is(bank, undisturbed, tmp_path):
    run_all(tiny_preset(), bank, tmp_path)
    before = (tmp_path / "state.safetensors").read_bytes()
    assert_identical(weights(run_all(tiny_preset(), bank, tmp_path)), undisturbed[0])
    assert (tmp_path / "state.safetensors").read_bytes() == before


def test_as_published_with_exact_derivatives_it_trains_too(bank, tmp_path):
    preset = tiny_preset(derivatives="exact", flip=False, color_jitter=(0.0, 0.0, 0.0, 0.0))
    stages = [
        dataclasses.replace(stage, views=1, boundary_rays=0.0, hull_points=0)
        for stage in preset.training.stages
        if stage.name not in ("hull", "color")
    ]
    preset = Preset(preset.model, dataclasses.replace(preset.training, stages=tuple(stages)))
    method = run_all(preset, bank, tmp_path)
    assert all(torch.isfinite(value).all() for value in method.state_dict().values())


def test_the_canonical_code_is_the_mean_code_of_all_pictures(bank, tmp_path):
    preset = tiny_preset()
    first = dataclasses.replace(preset.training, stages=preset.training.stages[:4])
    method = run_all(Preset(preset.model, first), bank, tmp_path)
    method.eval()
    with torch.no_grad():
        codes = method.encode(bank.images(torch.arange(len(bank))))
    torch.testing.assert_close(method.canonical_code.data, codes.mean(0), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(encode_all(method, bank, chunk=2), codes)


def test_a_sphere_is_learned_before_any_picture(bank, tmp_path):
    preset = tiny_preset()
    sphere = dataclasses.replace(preset.training.stages[0], steps=300, learning_rate=1e-2)
    method = run_all(Preset(preset.model, dataclasses.replace(preset.training, stages=(sphere,))), bank, tmp_path)
    points = 1.4 * (torch.rand(4, 500, 3, generator=torch.Generator().manual_seed(0)) - 0.5)
    codes = torch.cat([torch.randn(4, 8, generator=torch.Generator().manual_seed(1)), torch.zeros(4, 12)], dim=1)
    with torch.no_grad():
        sdf = method.object_space_shape(codes).sdf(points)
    assert (sdf - (points.norm(dim=-1) - 0.4)).abs().mean() < 0.12


@pytest.mark.parametrize("depths", [(1, 1), (2, 2), (1, 2), (2, 1)])
@pytest.mark.parametrize("point_features", [0, 2])
def test_deform_net_starts_from_the_generator_and_deforms_nothing(point_features, depths):
    method = tiny_method(point_features=point_features, generator_depth=depths[0], deform_depth=depths[1])
    start_from_generator(method)
    points = torch.rand(2, 5, 3, dtype=torch.float64) - 0.5
    codes = torch.randn(2, 8, dtype=torch.float64)
    shape = method.deformed_shape(codes)
    torch.testing.assert_close(shape.canonical(points), points)
    assert (shape.features(points) == 0).all(), "random point features are noise to the field that takes them"
    if depths[0] == depths[1] and not point_features:  # then g's trunk is f's
        torch.testing.assert_close(shape.color(points), method.object_space_shape(codes).color(points))


def test_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_state(bank, undisturbed, tmp_path):
    def poison(method, progress):
        if progress.stage.name == "stage 2" and progress.step == 1:
            with torch.no_grad():
                next(method.encoder.parameters()).fill_(float("nan"))

    with pytest.raises(UserError, match=r"not finite at step 1 of stage 2; the last good state is kept") as error:
        run_all(tiny_preset(), bank, tmp_path / "bad", poison)
    assert "\n" not in str(error.value)
    saved = RunFolder(tmp_path / "bad").read_state()
    assert saved is not None
    assert all(torch.isfinite(value).all() for value in saved[0].values())
    assert RunFolder(tmp_path / "bad").read_place() == saved[1]
    # What was good goes on to the same end.
    found = weights(run_all(tiny_preset(), bank, tmp_path / "bad"))
    assert_identical(found, undisturbed[0])


def test_gradients_that_are_not_finite_never_reach_the_saved_state(bank, tmp_path):
    """The loss of that step is finite, so only its weights tell; it is the last of its stage, after which states are saved."""
    handles = []

    def spoil_the_next_gradient(method, progress):
        if progress.stage.name == "stage 1" and progress.step == progress.stage.steps - 1:
            handles.append(method.encoder.code.weight.register_hook(lambda gradient: gradient * float("nan")))

    with pytest.raises(UserError, match="not finite"):
        run_all(tiny_preset(), bank, tmp_path, spoil_the_next_gradient)
    assert handles
    saved = RunFolder(tmp_path).read_state()
    assert saved is not None
    assert all(torch.isfinite(value).all() for value in saved[0].values())


def test_changed_data_are_refused(bank, tmp_path):
    run_all(tiny_preset(), bank, tmp_path)
    moved = bank.cameras.extrinsics.clone()
    moved[0, 0, 3] += 0.01
    cameras = Cameras(bank.cameras.intrinsics, moved, bank.cameras.perspective)
    with pytest.raises(UserError, match="data changed"):
        run_all(tiny_preset(), dataclasses.replace(bank, cameras=cameras), tmp_path)


def test_a_history_is_whole_but_for_a_last_line_cut_by_a_kill(tmp_path):
    run = RunFolder(tmp_path)
    assert run.read_history() == []
    run.append_history({"step": 1})
    with open(run.history, "a") as file:
        file.write('{"step": ')
    assert run.read_history() == [{"step": 1}]
    with open(run.history, "a") as file:
        file.write('\n{"step": 3}\n')
    with pytest.raises(UserError, match=r"history.jsonl: line 2 is damaged .*; take it out"):
        run.read_history()


def hold_lock(root: str, held, release) -> None:
    with RunFolder(root).locked():
        held.set()
        release.wait(60)


def test_a_folder_in_use_is_refused_and_free_again_when_its_process_dies(tmp_path):
    context = multiprocessing.get_context("fork")
    held, release = context.Event(), context.Event()
    holder = context.Process(target=hold_lock, args=(str(tmp_path), held, release))
    holder.start()
    assert held.wait(30)
    with pytest.raises(UserError, match="in use by another process"), RunFolder(tmp_path).locked():
        pass
    holder.kill()
    holder.join(30)
    with RunFolder(tmp_path).locked():
        pass


def test_settings_survive_json():
    for preset in (tiny_preset(), *(make() for make in presets.PRESETS.values())):
        again = from_dict(Preset, json.loads(json.dumps(to_dict(preset))), "settings.json")
        assert again == preset
    broken = to_dict(tiny_preset())
    broken["training"]["stages"][1]["losses"]["nosuch"] = 1.0
    with pytest.raises(UserError, match=r"settings.json: unknown setting 'nosuch' of LossWeights"):
        from_dict(Preset, broken, "settings.json")
    broken = to_dict(tiny_preset())
    broken["model"]["width"] = "wide"
    with pytest.raises(UserError, match="should be of type int"):
        from_dict(Preset, broken, "settings.json")


def test_scaled_presets_keep_a_step_where_there_was_one():
    scaled = presets.scaled(presets.preset("compact"), 1e-6)
    assert [stage.steps for stage in scaled.training.stages] == [
        int(stage.steps > 0) for stage in presets.preset("compact").training.stages
    ]


@pytest.mark.parametrize(("kind", "head"), [("color", "deform_net.heads.rgb."), ("camera", "camera_head.")])
def test_the_stages_of_one_head_move_that_head_alone(bank, tmp_path, kind, head):
    preset = tiny_preset()
    last = next(stage for stage in preset.training.stages if stage.kind == kind)
    sphere = preset.training.stages[0]
    start = Preset(preset.model, dataclasses.replace(preset.training, stages=(sphere,)))
    longer = Preset(preset.model, dataclasses.replace(preset.training, stages=(sphere, last)))
    before, after = weights(run_all(start, bank, tmp_path / "a")), weights(run_all(longer, bank, tmp_path / "b"))
    moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert moved
    assert all(name.startswith(head) for name in moved), f"{kind} moves shapes, or the encoder's statistics"


def only(number: int, **changes) -> Preset:
    """The tiny preset with one of its stages, changed."""
    preset = tiny_preset()
    stage = dataclasses.replace(preset.training.stages[number], **changes)
    return Preset(preset.model, dataclasses.replace(preset.training, stages=(stage,)))


@pytest.mark.parametrize("cosine", [False, True])
def test_the_learning_rate_warms_up_and_decays_where_a_stage_says_so(cosine):
    stage = dataclasses.replace(tiny_preset().training.stages[0], steps=1000, learning_rate=1e-3, cosine=cosine)
    method = tiny_method()
    optimizer = torch.optim.Adam(method.parameters(), lr=1.0)
    rates = []
    for step in (0, 10, 500, 999):
        trainer._set_schedule(method, optimizer, stage, step)
        rates.append(optimizer.param_groups[0]["lr"] / 1e-3)
    expected = [1 / 21, 11 / 21, 0.51, 0.02] if cosine else [1.0, 1.0, 1.0, 1.0]
    assert rates == pytest.approx(expected, abs=2e-3)


def test_octaves_fade_in_over_the_share_of_the_stage_that_is_named():
    method = tiny_method()
    optimizer = torch.optim.Adam(method.parameters())
    stage = dataclasses.replace(tiny_preset().training.stages[0], steps=100, anneal=0.5)
    for step, progress in ((0, 0.0), (25, 0.5), (50, 1.0), (90, 1.0)):
        trainer._set_schedule(method, optimizer, stage, step)
        expected = octave_weights(method.config, progress).to(method.octave_weights)
        torch.testing.assert_close(method.octave_weights, expected)


def test_all_octaves_are_on_after_a_stage_however_short(bank, tmp_path):
    method = run_all(only(2, steps=1, anneal=1.0), bank, tmp_path)
    torch.testing.assert_close(method.octave_weights, octave_weights(method.config))


def test_the_terms_that_are_shown_are_means_since_the_last_time(bank, tmp_path):
    preset, seen = only(0, steps=5), {}
    for every in (1, 3):
        watched: list[float] = []
        trainer.train(
            preset, bank, RunFolder(tmp_path / str(every)), device=CPU, watch_every=every,
            watch=lambda _, progress, watched=watched: watched.append(progress.terms["sphere"]),
        )  # fmt: skip
        seen[every] = watched
    assert seen[3] == pytest.approx([sum(seen[1][:3]) / 3, sum(seen[1][3:]) / 2], rel=1e-6)


def test_a_resumed_run_counts_the_time_of_earlier_sessions(bank, tmp_path):
    run_all(only(0, steps=3), bank, tmp_path, stop_after_seconds=0)
    run = RunFolder(tmp_path)
    saved = run.read_state()
    assert saved is not None
    run.write_state(saved[0], dataclasses.replace(saved[1], seconds=1000.0))
    seen: list[float] = []
    run_all(only(0, steps=3), bank, tmp_path, lambda _, progress: seen.append(progress.seconds))
    assert seen
    assert min(seen) >= 1000


def test_a_new_run_takes_the_pretrained_encoder_that_its_preset_names_and_a_resumed_one_does_not(
    bank, tmp_path, monkeypatch
):
    fetched: list[str] = []
    monkeypatch.setattr(ResNet, "load_pretrained", lambda _, name: fetched.append(name))
    preset = only(0, steps=2)
    preset = Preset(dataclasses.replace(preset.model, encoder_hub_id="somebody/resnet"), preset.training)
    run_all(preset, bank, tmp_path, stop_after_seconds=0)
    assert fetched == ["somebody/resnet"]
    run_all(preset, bank, tmp_path)
    assert fetched == ["somebody/resnet"]
