"""A curriculum that fits into minutes: what a step of each stage costs, and how many of each there is time for.

Called by `training.run` (`tars3d train --fit`), `bench.tables` and `bench.table_row`.
"""

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from tars3d.config import Preset
from tars3d.data.hull import HullSamples
from tars3d.data.stream import Pictures
from tars3d.errors import UserError
from tars3d.methods.base import Method
from tars3d.progress import console
from tars3d.training.monitor import Monitor
from tars3d.training.run_folder import RunFolder
from tars3d.training.trainer import Progress, train

TIMED = {"cpu": 4, "cuda": 20}
"""Steps of each stage that are timed; the first is left out, since stages prepare in it."""
LEAST_SHARE = 0.05
"""Of the time for each stage: a sphere of six steps is no start for anything."""
FOR_STEPS = 0.85
"""Of the minutes that are left for steps; the rest is for steps that take longer than those that were timed, and for measurements within long stages."""


@dataclass(frozen=True)
class Costs:
    """What was measured of a curriculum.

    Attributes:
        cpu: processor seconds of a step of each stage; neighbours on the machine hardly change them.
        ratio: seconds on the clock for a processor second.
        around: seconds on the clock that a run takes besides its steps: what stages begin with, and what is measured after them.
    """

    cpu: tuple[float, ...]
    ratio: float
    around: float = 0.0


def step_costs(
    preset: Preset,
    bank: Pictures,
    device: torch.device,
    hulls: HullSamples | None = None,
    monitor_of: Callable[[RunFolder, Preset], Monitor] | None = None,
) -> Costs:
    """Train a few steps of every stage from nothing, and throw the result away.

    Args:
        monitor_of: what will watch the run; it is asked for one measurement, all of which are taken to last as long.
    """
    timed = TIMED["cpu" if device.type == "cpu" else "cuda"]
    stages = tuple(replace(stage, steps=min(stage.steps, timed)) for stage in preset.training.stages)
    model = replace(preset.model, encoder_hub_id=None)  # the weights' values cost no time, fetching them would
    short = Preset(model, replace(preset.training, stages=stages))
    marks: list[list[tuple[float, float]]] = [[] for _ in stages]

    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder(Path(folder))
        monitor = monitor_of(run, preset) if monitor_of else None
        measured = (
            [] if monitor is None else [n for n, s in enumerate(stages) if s.steps and s.kind in monitor.measured]
        )
        measurement = 0.0

        def watch(method: Method, progress: Progress) -> None:
            nonlocal measurement
            marks[progress.number].append((time.process_time(), time.perf_counter()))
            if monitor and measured and (progress.number, progress.step) == (measured[-1], progress.stage.steps):
                begin = time.perf_counter()
                monitor(method, progress)
                measurement = time.perf_counter() - begin

        begin = time.perf_counter()
        train(short, bank, run, device=device, watch=watch, watch_every=1, hulls=hulls)
        whole = time.perf_counter() - begin
    cpu, clock, costs = 0.0, 0.0, []
    for taken in marks:
        steps = max(len(taken) - 1, 1)
        spent = [taken[-1][i] - taken[0][i] if taken else 0.0 for i in range(2)]
        cpu, clock = cpu + spent[0], clock + spent[1]
        costs.append(max(spent[0] / steps, 1e-6) if taken else 0.0)
    unmeasured = max(len(measured) - 1, 0)  # one measurement is in `whole`
    return Costs(tuple(costs), clock / cpu if cpu else 1.0, whole - clock + unmeasured * measurement)


def fitted(preset: Preset, costs: Costs, minutes: float | None) -> Preset:
    """The preset with as many steps of each stage as fit; never more than it has. Schedules follow, as they depend on a stage's length.

    Stages share the time as they would in full, but none gets less than `LEAST_SHARE`, unless it needs less.

    Args:
        minutes: on the clock; None leaves the preset as it is.
    """
    stages = preset.training.stages
    if minutes is None:
        return preset
    seconds = 60 * minutes / costs.ratio
    full = [stage.steps * cost for stage, cost in zip(stages, costs.cpu, strict=True)]
    if sum(full) <= seconds:
        return preset
    fitting = tuple(
        replace(stage, steps=min(stage.steps, max(1, int(share / cost)))) if stage.steps else stage
        for stage, share, cost in zip(stages, _shared(full, seconds), costs.cpu, strict=True)
    )
    return replace(preset, training=replace(preset.training, stages=fitting))


def _shared(full: list[float], seconds: float) -> list[float]:
    """Seconds for each stage, of which all in full would take more than there are."""
    least = LEAST_SHARE * seconds
    shares = [0.0] * len(full)
    sharing = set(range(len(full)))
    while True:
        part = (seconds - sum(shares)) / (sum(full[number] for number in sharing) or 1.0)
        short = {number for number in sharing if part * full[number] < min(least, full[number])}
        if not short:
            break
        for number in short:
            shares[number] = min(least, full[number])
        sharing -= short
    return [part * each if number in sharing else shares[number] for number, each in enumerate(full)]


def fitted_to_clock(
    preset: Preset,
    bank: Pictures,
    device: torch.device,
    hulls: HullSamples | None,
    left: Callable[[], float],
    monitor_of: Callable[[RunFolder, Preset], Monitor],
) -> Preset:
    """The preset as it fits into the minutes that are `left` once its steps are timed; says what became of it.

    Raises:
        UserError: none are left.
    """
    with console.status("timing the steps of every stage"):
        costs = step_costs(preset, bank, device, hulls, monitor_of)
    minutes = left() - costs.around / 60
    if minutes <= 0:
        raise UserError(
            f"--fit: reading, measuring and writing alone last {-minutes:.1f} minutes too long; give more --minutes, for these and for the steps"
        )
    found = fitted(preset, costs, FOR_STEPS * minutes)
    for whole, stage, cost in zip(preset.training.stages, found.training.stages, costs.cpu, strict=True):
        if stage.steps:
            rate = 1 / (cost * costs.ratio)
            console.print(f"{stage.name}: {stage.steps:,} of {whole.steps:,} steps, {rate:.3g} a second")
    return found
