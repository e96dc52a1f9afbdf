"""The training loop: runs the stages of a curriculum in order, saves its state, and goes on exactly where it was killed.

`run.train_run` and `training.budget` call `train`. What a stage does is in `stages`; what is measured on the way is in `monitor`.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tars3d.config import Preset, Stage
from tars3d.data.bank import PictureBank
from tars3d.data.hull import HullSamples
from tars3d.data.stream import Pictures
from tars3d.errors import UserError
from tars3d.methods import build_method
from tars3d.methods.base import Method
from tars3d.methods.tars import TARS, octave_weights
from tars3d.nn.encoder import Encoder
from tars3d.training.hull_store import draw_hulls
from tars3d.training.mesh_stages import MESH_KINDS
from tars3d.training.run_folder import Place, RunFolder
from tars3d.training.stage_runner import StageRunner
from tars3d.training.stages import KINDS
from tars3d.training.warm_start import load_into
from tars3d.weights import unprefixed

SAVE_EVERY_SECONDS = 60.0
LONGEST_WARM_UP = 50  # steps; it is a fiftieth of shorter stages


@dataclass(frozen=True)
class Progress:
    """Where training is, for whoever watches."""

    stage: Stage
    number: int
    step: int
    """Steps of this stage done."""
    total_steps: int
    """Steps of all stages done."""
    terms: dict[str, float]
    """Mean unweighted loss terms since the last call."""
    seconds: float
    """Training time of the whole run so far, earlier sessions included."""


Watcher = Callable[[Method, Progress], None]


def train(
    preset: Preset,
    bank: Pictures,
    run: RunFolder,
    *,
    device: torch.device,
    watch: Watcher,
    watch_every: int = 50,
    hulls: HullSamples | None = None,
    stop_after_seconds: float | None = None,
    start: str | None = None,
) -> Method:
    """Train from the run's last state (or from nothing) to the end of the curriculum.

    Args:
        bank: the training pictures, on `device`.
        watch: called every `watch_every` steps of a stage, and at its end.
        hulls: of the bank's objects, where they are at hand (see `TrainingConfig.wants_hulls`); drawn here otherwise.
        stop_after_seconds: save and return early after this long; None runs to the end.
        start: the model that a new run starts from, of the same configuration.

    Raises:
        UserError: a loss is not finite; the state on disk is then the last good one.
    """
    torch.manual_seed(preset.training.seed)
    method = build_method(preset.model).to(device)
    data = bank.fingerprint()
    tensors, place = run.read_state() or ({}, Place(data=data))
    if place.data != data:
        raise UserError(f"{run.root}: its data changed since it was saved; restore them, or choose another --out")
    if tensors:
        method.load_state_dict(unprefixed(tensors, "method."))
    else:
        _begin(method, preset, start)
    started = time.monotonic()

    def spent() -> float:
        return time.monotonic() - started

    def out_of_time() -> bool:
        return stop_after_seconds is not None and spent() > stop_after_seconds

    def here(stage: int, step: int) -> Place:
        return replace(place, stage=stage, step=step, seconds=place.seconds + spent())

    # What was measured after the last saved state is measured again.
    run.truncate_history(lambda row: (row["stage"], row["step"]) <= (place.stage, place.step))
    stages = preset.training.stages
    # A stream brings its hulls with it.
    if hulls is None and preset.training.wants_hulls and isinstance(bank, PictureBank):
        hulls = draw_hulls(bank, preset.training)
    for number in range(place.stage, len(stages)):
        stage = stages[number]
        before = sum(earlier.steps for earlier in stages[:number])
        runner = (KINDS | MESH_KINDS)[stage.kind](method, stage, preset.training, bank, number, hulls)
        resumed = number == place.stage and place.step > 0
        if resumed:
            runner.remember(unprefixed(tensors, "stage."))
        else:
            runner.begin()
        optimizer = _optimizer(runner, tensors if resumed else {}) if stage.steps else None
        last_saved, told = time.monotonic(), _Means()
        for step in range(place.step if resumed else 0, stage.steps):
            assert optimizer is not None
            _set_schedule(method, optimizer, stage, step)
            method.train()
            found = runner.losses(step)
            optimizer.zero_grad(set_to_none=True)
            found.total.backward()
            if not torch.isfinite(found.total):  # asked when a GPU has its work for the way back
                bad = [name for name, value in found.terms.items() if not torch.isfinite(value)]
                raise UserError(
                    f"{run.root}: {', '.join(bad)} is not finite at step {step} of {stage.name}; the last good state is kept, "
                    "check the cameras (`tars3d data check`) or lower --learning-rate"
                )
            optimizer.step()
            told.add(found.terms)
            done = step + 1
            if done % watch_every == 0 or done == stage.steps:
                watch(method, Progress(stage, number, done, before + done, told.take(), here(number, done).seconds))
            if done < stage.steps and (out_of_time() or time.monotonic() - last_saved > SAVE_EVERY_SECONDS):
                _save(run, method, here(number, done), runner, optimizer)
                last_saved = time.monotonic()
                if out_of_time():
                    return method
        if isinstance(method, TARS):
            method.octave_weights.copy_(octave_weights(method.config))
        _save(run, method, here(number + 1, 0))
        if out_of_time():
            break
    return method


def _begin(method: Method, preset: Preset, start: str | None) -> None:
    """What a new run begins with besides random weights: those of a model, or of a pretrained encoder."""
    if start is not None:  # its encoder is trained already
        assert isinstance(method, TARS), "`started_from` lets no mesh through"
        load_into(method, start)
    elif preset.model.encoder_hub_id and isinstance(method.encoder, Encoder):
        method.encoder.backbone.load_pretrained(preset.model.encoder_hub_id)


class _Means:
    """Means of loss terms since they were last taken. They are summed on the device, which is not waited for at every step."""

    def __init__(self):
        self._sums: dict[str, Tensor] = {}
        self._count = 0

    def add(self, terms: dict[str, Tensor]) -> None:
        for name, value in terms.items():
            self._sums[name] = value.detach().double() + self._sums.get(name, 0.0)
        self._count += 1

    def take(self) -> dict[str, float]:
        found = {name: value.item() / self._count for name, value in self._sums.items()}
        self._sums, self._count = {}, 0
        return found


def _set_schedule(method: Method, optimizer: torch.optim.Optimizer, stage: Stage, step: int) -> None:
    """Learning rate and octave fade-in of a step: functions of the step alone, so nothing of them is saved."""
    progress = step / stage.steps
    rate = stage.learning_rate
    if stage.cosine:
        warm_up = min(1.0, (step + 1) / (min(0.02 * stage.steps, LONGEST_WARM_UP) + 1))
        rate *= warm_up * (0.02 + 0.98 * (1 + math.cos(math.pi * progress)) / 2)
    for group in optimizer.param_groups:
        group["lr"] = rate
    if stage.anneal and isinstance(method, TARS):
        method.octave_weights.copy_(octave_weights(method.config, min(1.0, progress / stage.anneal)))


def _optimizer(runner: StageRunner, saved: dict[str, Tensor]) -> torch.optim.Adam:
    """Adam on what a stage moves, as a saved state left it if there is one."""
    parameters = list(runner.parameters())
    optimizer = torch.optim.Adam(parameters, lr=runner.stage.learning_rate, fused=True)
    for index, parameter in enumerate(parameters):
        if entries := unprefixed(saved, f"adam.{index}."):
            optimizer.state[parameter] = {name: value.to(parameter.device) for name, value in entries.items()}
    return optimizer


def _save(
    run: RunFolder,
    method: Method,
    place: Place,
    runner: StageRunner | None = None,
    optimizer: torch.optim.Optimizer | None = None,
) -> None:
    """Write the state; between stages there is neither a runner nor an optimiser."""
    tensors = {f"method.{name}": value for name, value in method.state_dict().items()}
    broken = [name for name, value in tensors.items() if not torch.isfinite(value).all()]
    if broken:  # a gradient can overflow although the loss is finite
        raise UserError(
            f"{run.root}: {len(broken)} weights are not finite ({broken[0]}); the last good state is kept, "
            "check the cameras (`tars3d data check`) or lower --learning-rate"
        )
    if runner is not None:
        tensors |= {f"stage.{name}": value for name, value in runner.memory().items()}
    if optimizer is not None:
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        for index, parameter in enumerate(parameters):
            for name, value in optimizer.state.get(parameter, {}).items():
                tensors[f"adam.{index}.{name}"] = value
    run.write_state(tensors, place)
