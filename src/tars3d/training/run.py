"""What `tars3d train` does: a run from its options to its model file and report, or on from where it stopped. `cli` and `bench.tables` call it."""

import contextlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from tars3d import config as configs
from tars3d.arguments import check_at_least, check_positive, check_seed, check_threads, choose_device
from tars3d.config import Preset
from tars3d.data.bank import PictureBank
from tars3d.errors import UserError
from tars3d.mesh_presets import with_mesh_files
from tars3d.methods import MESH_METHODS
from tars3d.presets import preset as named_preset
from tars3d.presets import scaled, with_steps
from tars3d.progress import console, progress_bar
from tars3d.training.allocator import keep_freed_memory
from tars3d.training.budget import fitted_to_clock
from tars3d.training.hull_store import stored_hulls
from tars3d.training.mesh_monitor import MeshMonitor
from tars3d.training.monitor import Monitor
from tars3d.training.open_data import TrainingData, open_data
from tars3d.training.run_folder import RunFolder
from tars3d.training.trainer import last_stage, steps_taken, train, wants_hulls
from tars3d.training.warm_start import started_from


def train_run(
    data: Sequence[str | Path],
    out: Path,
    *,
    preset_name: str,
    method: str,
    resume: bool,
    scale: float,
    minutes: float | None,
    pretrained: bool,
    learning_rate: float | None,
    seed: int,
    threads: int | None,
    device: str,
    point_features: int | None = None,
    template: Path | None = None,
    perceptual: Path | None = None,
    start: str | None = None,
    steps: Sequence[str] = (),
    fit: bool = False,
    cut: float | None = None,
) -> Path:
    """Train, or go on training, in the run folder `out`; returns the model file.

    Raises:
        UserError: an option makes no sense; see also `training.trainer.train`, `training.open_data`, `training.run_folder`.
    """
    started = time.monotonic()  # opening data and drawing hulls count, too
    threads = check_threads(threads)
    check_positive(scale=scale, learning_rate=learning_rate)
    check_at_least(0, minutes=minutes)
    check_seed(seed)
    _refuse_contradictions(
        resume=resume,
        minutes=minutes,
        point_features=point_features,
        start=start,
        steps=steps,
        fit=fit,
        cut=cut,
        method=method,
    )

    def left() -> float:
        return math.inf if minutes is None else minutes - (time.monotonic() - started) / 60

    keep_freed_memory()
    torch.set_num_threads(threads)
    run, place = RunFolder(out), choose_device(device)
    with run.locked(), contextlib.nullcontext() if resume else run.beginning():
        if resume:
            preset, settings = _resumed(run)
        else:
            preset, settings = _begun(
                run, data, preset_name=preset_name, method=method, scale=scale, pretrained=pretrained,
                learning_rate=learning_rate, seed=seed, point_features=point_features, template=template,
                perceptual=perceptual, start=start, steps=steps, cut=cut,
            )  # fmt: skip
        data = data or settings["data"]
        opened = open_data(data, preset, place)
        bank = opened.pictures
        if preset.model.method in MESH_METHODS and not isinstance(bank, PictureBank):
            raise UserError(f"{data[0]}: is packed; --method {preset.model.method} trains on folders of pictures")
        if not resume and not fit:
            run.write_settings(settings)
        hulls = None
        if wants_hulls(preset) and isinstance(bank, PictureBank):  # a stream brings its hulls with it
            hulls = stored_hulls(run, bank, preset.training)
        watcher = _watcher(preset, opened, settings)
        if fit:
            preset = fitted_to_clock(preset, bank, place, hulls, left, watcher)
            run.write_settings({**settings, "preset": configs.to_dict(preset)})
        with progress_bar() as bar:
            task = bar.add_task("training", total=sum(stage.steps for stage in preset.training.stages))
            monitor = watcher(
                run,
                preset,
                advance=lambda progress: bar.update(
                    task, completed=progress.total_steps, description=progress.stage.name
                ),
            )
            trained = train(
                preset,
                bank,
                run,
                device=place,
                watch=monitor,
                hulls=hulls,
                stop_after_seconds=None if minutes is None else max(0.0, 60 * left()),
                start=settings.get("start"),
            )
        monitor.finish(trained, last_stage(run, preset))
        taken, whole = steps_taken(run, preset), sum(stage.steps for stage in preset.training.stages)
        if taken < whole:
            console.print(
                f"stopped after {taken:,} of {whole:,} steps, so the model is not what it will be; go on with --resume"
            )
    return run.model


def _refuse_contradictions(
    *,
    resume: bool,
    minutes: float | None,
    point_features: int | None,
    start: str | None,
    steps: Sequence[str],
    fit: bool,
    cut: float | None,
    method: str,
) -> None:
    """Refuse options that say two things, or nothing."""
    if cut is not None and not 0 <= cut <= 1:
        raise UserError(f"--cut {cut}: give a share of the pictures, from 0 to 1")
    if cut is not None and resume:
        raise UserError(f"--cut {cut}: a run that goes on keeps its pictures; leave it out, or begin another run")
    if cut and method in MESH_METHODS:
        raise UserError(f"--cut {cut}: --method {method} sees whole pictures; leave it out")
    if start is not None and point_features is not None:
        raise UserError(
            f"--point-features {point_features}: the model of --start has its own; leave one of the two out"
        )
    if resume and steps:
        raise UserError(f"--steps {steps[0]}: a run that goes on keeps its stages; leave it out, or begin another run")
    if fit and resume:
        raise UserError("--fit: a run that goes on keeps its stages; leave it out, or begin another run")
    if fit and minutes is None:
        raise UserError("--fit: into how many minutes? give --minutes, too")


def _watcher(preset: Preset, opened: TrainingData, settings: dict[str, Any]) -> Callable[..., Monitor]:
    """Makes the monitor of a run from its folder, its preset, and who is told how far it is."""
    bank = opened.pictures
    description = {
        "category": opened.category,
        "preset": settings["preset_name"],
        "objects": bank.objects,
        "pictures": len(bank),
    }
    if settings.get("start"):
        description["start"] = settings["start"]
    return partial(
        MeshMonitor if preset.model.method in MESH_METHODS else Monitor,
        bank=bank,
        held_out=opened.watched,
        truth=opened.truth,
        seen=opened.seen,
        description=description,
    )


def _resumed(run: RunFolder) -> tuple[Preset, dict[str, Any]]:
    """What a run that goes on trains: its preset, and the settings in its folder."""
    settings = run.read_settings()
    return configs.from_dict(Preset, settings["preset"], str(run.settings)), settings


def _begun(
    run: RunFolder,
    data: Sequence[str | Path],
    *,
    preset_name: str,
    method: str,
    scale: float,
    pretrained: bool,
    learning_rate: float | None,
    seed: int,
    point_features: int | None,
    template: Path | None,
    perceptual: Path | None,
    start: str | None,
    steps: Sequence[str],
    cut: float | None,
) -> tuple[Preset, dict[str, Any]]:
    """What a new run trains: the named preset as the options change it, and the settings for its folder."""
    if run.state.exists():
        raise UserError(f"{run.root}: holds a run already; go on with --resume, or choose another --out")
    preset = scaled(named_preset(preset_name, method, point_features), scale)
    preset = with_mesh_files(preset, template, perceptual)
    model, stages = preset.model, preset.training.stages
    if learning_rate is not None:
        stages = tuple(replace(stage, learning_rate=learning_rate) for stage in stages)
    training = preset.training if cut is None else replace(preset.training, cut=cut)
    if not pretrained:
        model = replace(model, encoder_hub_id=None)
    preset = Preset(model, replace(training, seed=seed, stages=stages))
    if start is not None:
        preset = started_from(preset, start)
    preset = with_steps(preset, steps)
    return preset, {
        "preset_name": preset_name,
        "preset": configs.to_dict(preset),
        "data": [str(folder) for folder in data],
        "start": start,
    }
