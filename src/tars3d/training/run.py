"""What `tars3d train` does: a run from its options to its model file and report, or on from where it stopped. `cli` and `bench.table_row` call it."""

import contextlib
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from tars3d import config as configs
from tars3d.arguments import choose_device, usable_cores
from tars3d.config import Preset
from tars3d.data.bank import PictureBank
from tars3d.data.collection import say_other_category
from tars3d.data.stream import Pictures
from tars3d.errors import UserError
from tars3d.mesh_presets import with_mesh_files
from tars3d.methods import MESH_METHODS
from tars3d.presets import preset as named_preset
from tars3d.presets import scaled, with_steps, with_symmetry
from tars3d.progress import progress_bar, remark
from tars3d.training.allocator import keep_freed_memory
from tars3d.training.budget import fitted_to_clock
from tars3d.training.hull_store import stored_hulls
from tars3d.training.mesh_monitor import MeshMonitor
from tars3d.training.monitor import Monitor, first_pictures
from tars3d.training.open_data import TrainingData, open_data, place_of
from tars3d.training.options import TrainOptions
from tars3d.training.run_folder import RunFolder
from tars3d.training.trainer import train
from tars3d.training.warm_start import started_from
from tars3d.weights import locate_model, read_description


def train_run(data: Sequence[str | Path], out: Path, options: TrainOptions) -> Path:
    """Train, or go on training, in the run folder `out`; returns the model file.

    Raises:
        UserError: an option makes no sense; see also `training.trainer.train`, `training.open_data`, `training.run_folder`.
    """
    started = time.monotonic()  # opening data and drawing hulls count, too
    options.check()

    def left() -> float:
        return math.inf if options.minutes is None else options.minutes - (time.monotonic() - started) / 60

    keep_freed_memory()
    torch.set_num_threads(options.threads or usable_cores())
    run, place = RunFolder(out), choose_device(options.device)
    beginning = contextlib.nullcontext() if options.resume else run.beginning()
    with run.locked(), beginning:
        if options.resume:
            preset, settings = _resumed(run)
        else:
            preset, settings = _begun(run, data, options)
        named, data = data, data or settings["data"]
        opened = open_data(data, preset, place)
        bank = opened.pictures
        if preset.model.method in MESH_METHODS and not isinstance(bank, PictureBank):
            raise UserError(f"{data[0]}: is packed; --method {preset.model.method} trains on folders of pictures")
        # Damaged ground truth is found now, not at the first measurement.
        for index in first_pictures(opened.watched, preset.training.validate_instances):
            opened.truth(int(opened.watched.instance[index]))
        if not options.resume and not options.fit:
            run.write_settings(settings)
        if options.start is not None and not options.resume:
            say_other_category(read_description(locate_model(options.start)).get("category"), opened.category)
        if options.resume and named:
            _remember_data(run, settings, named, bank)
        hulls = None
        if preset.training.wants_hulls and isinstance(bank, PictureBank):  # a stream brings its hulls with it
            hulls = stored_hulls(run, bank, preset.training)
        watcher = _watcher(preset, opened, settings)
        if options.fit:
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
                stop_after_seconds=None if options.minutes is None else max(0.0, 60 * left()),
                start=settings.get("start_file", settings.get("start")),
            )
        taken, whole = run.steps_taken(preset), sum(stage.steps for stage in preset.training.stages)
        monitor.finish(trained, run.last_stage(preset), taken)
        if taken < whole:
            remark(
                f"stopped after {taken:,} of {whole:,} steps, so the model is not what it will be; go on with --resume"
            )
    return run.model


@contextlib.contextmanager
def saying_how_to_go_on(out: Path) -> Iterator[None]:
    """Around a session of the command `train` in the run folder `out`: who stops one that can go on is told how."""
    try:
        yield
    except KeyboardInterrupt:
        if RunFolder(out).settings.exists():
            remark(f"{out}: go on with --resume")
        raise


def _remember_data(run: RunFolder, settings: dict[str, Any], data: Sequence[str | Path], bank: Pictures) -> None:
    """Note where the run's data are now, if they are its data; if not, `train` refuses them."""
    place = run.read_place()
    if place is None or place.data == bank.fingerprint():
        run.write_settings({**settings, "data": [place_of(source) for source in data]})


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


def _begun(run: RunFolder, data: Sequence[str | Path], options: TrainOptions) -> tuple[Preset, dict[str, Any]]:
    """What a new run trains: the named preset as the options change it, and the settings for its folder."""
    if run.state.exists():
        raise UserError(f"{run.root}: holds a run already; go on with --resume, or choose another --out")
    preset = scaled(named_preset(options.preset, options.method, options.point_features), options.scale)
    preset = with_mesh_files(preset, options.template, options.perceptual)
    model, stages = preset.model, preset.training.stages
    if options.learning_rate is not None:
        stages = tuple(replace(stage, learning_rate=options.learning_rate) for stage in stages)
    training = preset.training if options.cut is None else replace(preset.training, cut=options.cut)
    if not options.pretrained:
        model = replace(model, encoder_hub_id=None)
    preset = Preset(model, replace(training, seed=options.seed, stages=stages))
    if options.start is not None:
        preset = started_from(preset, options.start)
    preset = with_steps(with_symmetry(preset, options.symmetric), options.steps)
    return preset, {
        "preset_name": options.preset,
        "preset": configs.to_dict(preset),
        "data": [place_of(source) for source in data],
        "start": options.start,
        "start_file": None if options.start is None else os.path.abspath(locate_model(options.start)),
    }
