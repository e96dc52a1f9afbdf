"""A curriculum that fits into minutes: what a step of each stage costs, and how many of each there is time for. Called by `bench.tables`."""

import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from tars3d.config import Preset
from tars3d.data.bank import PictureBank
from tars3d.training.run_folder import RunFolder
from tars3d.training.trainer import train

TIMED = 4
"""Steps of each stage that are timed; the first is left out, since stages prepare in it."""
LEAST_SHARE = 0.05
"""Of the time for each stage: a sphere of six steps is no start for anything."""


@dataclass(frozen=True)
class Costs:
    """What was measured of a curriculum.

    Attributes:
        cpu: processor seconds of a step of each stage; neighbours on the machine hardly change them.
        ratio: seconds on the clock for a processor second.
    """

    cpu: tuple[float, ...]
    ratio: float


def step_costs(preset: Preset, bank: PictureBank, device: torch.device) -> Costs:
    """Train a few steps of every stage from nothing, and throw the result away."""
    stages = tuple(replace(stage, steps=min(stage.steps, TIMED)) for stage in preset.training.stages)
    short = replace(preset, training=replace(preset.training, stages=stages))
    marks: list[list[tuple[float, float]]] = [[] for _ in stages]

    def watch(method, progress) -> None:
        marks[progress.number].append((time.process_time(), time.perf_counter()))

    with tempfile.TemporaryDirectory() as folder:
        train(short, bank, RunFolder(Path(folder)), device=device, watch=watch, watch_every=1)
    cpu, clock, costs = 0.0, 0.0, []
    for taken in marks:
        steps = max(len(taken) - 1, 1)
        spent = [taken[-1][i] - taken[0][i] if taken else 0.0 for i in range(2)]
        cpu, clock = cpu + spent[0], clock + spent[1]
        costs.append(max(spent[0] / steps, 1e-6) if taken else 0.0)
    return Costs(tuple(costs), clock / max(cpu, 1e-9))


def fitted(preset: Preset, costs: Costs, minutes: float | None, ratio: float | None = None) -> Preset:
    """The preset with as many steps of each stage as fit; never more than it has. Schedules follow, as they depend on a stage's length.

    Stages share the time as they would in full, but none gets less than `LEAST_SHARE`.

    Args:
        minutes: on the clock; None leaves the preset as it is.
        ratio: seconds on the clock for a processor second, where it is to be the same for several rows.
    """
    stages = preset.training.stages
    if minutes is None:
        return preset
    seconds = 60 * minutes / (costs.ratio if ratio is None else ratio)
    full = [stage.steps * cost for stage, cost in zip(stages, costs.cpu, strict=True)]
    if sum(full) <= seconds:
        return preset
    shares = [max(each / sum(full), LEAST_SHARE) if each else 0.0 for each in full]
    fitting = tuple(
        replace(stage, steps=min(stage.steps, max(1, int(share / sum(shares) * seconds / cost))))
        if stage.steps
        else stage
        for stage, share, cost in zip(stages, shares, costs.cpu, strict=True)
    )
    return replace(preset, training=replace(preset.training, stages=fitting))
