"""One row of a table of the paper: trained, and measured. Called by `tables`.

OUT/rows/NAME-KEY/ is its run folder, with what was measured of it: row.json, views.png. The key is a digest of everything that the row depends on,
so a row that is finished is found again, by other tables too.
"""

import hashlib
import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tars3d.atomic import atomic_path
from tars3d.bench.paper_tables import TableRow
from tars3d.bench.table_options import TableOptions
from tars3d.bench.unpaired import Held
from tars3d.config import Preset, to_dict
from tars3d.data.bank import load_bank
from tars3d.data.collection import load_collection
from tars3d.evaluate.evaluation import measure
from tars3d.evaluate.metrics import Protocol
from tars3d.evaluate.predictors import AnswerSettings
from tars3d.reconstruct import load
from tars3d.sheets import write_picture
from tars3d.training.budget import Costs, step_costs
from tars3d.training.options import TrainOptions
from tars3d.training.run_folder import RunFolder

TIMING_PICTURES = 64
"""As many as the largest batch."""


@dataclass(frozen=True)
class Job:
    """A row that can be run: its uncut curriculum and its data."""

    row: TableRow
    preset: Preset
    data: Path
    held: Held
    folder: Path


def row_folder(job: Job, options: TableOptions, minutes: float | None) -> Path:
    """Where a row lives: a digest of all that its training depends on is in the name. DIT is TARS without point features, one row."""
    preset = job.preset
    if preset.model.method == "dit":
        preset = replace(preset, model=replace(preset.model, method="tars"))
    key = digest_of(to_dict(preset), job.data.name, minutes, options.threads, options.device)
    return options.out / "rows" / f"{job.row.category}-{preset.model.method}-{key}"


def timed(job: Job, device: torch.device) -> Costs:
    """What the steps of a row cost, on some of its pictures."""
    model = job.preset.model
    records = load_collection(job.data).split("train")[:TIMING_PICTURES]
    bank = load_bank(records, size=model.picture_size, framing=model.framing, padding=model.padding)
    return step_costs(job.preset, bank.to(device), device)


def train(job: Job, cut: Preset | None, options: TableOptions) -> None:
    """Train the row, or go on where it was interrupted."""
    from tars3d.training.run import train_run

    run = RunFolder(job.folder)
    if cut is not None and not run.settings.exists():
        run.write_settings({"preset_name": options.preset, "preset": to_dict(cut), "data": [str(job.data.resolve())]})
    # Visual hulls belong to pictures and seed (`hull_store` checks it), so rows of one collection share them.
    shared = job.data / "hulls.safetensors"
    if shared.exists() and not run.hulls.exists():
        os.link(shared, run.hulls)
    # A folder with settings and no state is a run that has not begun: `resume` then begins it, with what those settings say.
    train_run((), job.folder, TrainOptions(resume=True, threads=options.threads, device=options.device))
    if run.hulls.exists() and not (shared.exists() and shared.samefile(run.hulls)):
        shared.unlink(missing_ok=True)
        os.link(run.hulls, shared)


def _protocol(job: Job, options: TableOptions) -> Protocol:
    return Protocol(
        options.samples, options.threshold, options.emd_points, icp_iterations=50 if job.row.orthographic else 0,
        resolution=options.resolution,
    )  # fmt: skip


def _asked(job: Job, options: TableOptions) -> dict[str, Any]:
    """How a row is measured, as its row.json says, by which it is found again."""
    settings = {name: value for name, value in asdict(_protocol(job, options)).items() if name != "icp_points"}
    return {**settings, "as_published": options.as_published and not job.row.is_mesh, "seed": options.seed}


def finished(job: Job, options: TableOptions) -> dict[str, Any] | None:
    """What was measured of the row, if it was under the same protocol."""
    file = job.folder / "row.json"
    if not file.exists():
        return None
    found = json.loads(file.read_text())
    return found if found["asked"] == _asked(job, options) else None


def measured(job: Job, options: TableOptions) -> dict[str, Any]:
    """Measure the trained row on its test split; writes row.json and views.png, returns what row.json holds."""
    asked = _asked(job, options)
    collection = load_collection(job.data)
    reconstructor = load(job.folder, device=options.device)
    found = measure(
        collection, collection.split("test"), AnswerSettings(options.resolution).mesh(reconstructor), seed=options.seed,
        protocol=_protocol(job, options), published_bound=reconstructor.model.config.bound if asked["as_published"] else None,
        device=reconstructor.device,
    )  # fmt: skip
    run = RunFolder(job.folder)
    steps = {
        stage["name"]: stage["steps"] for stage in run.read_settings()["preset"]["training"]["stages"] if stage["steps"]
    }
    history = run.read_history()
    summary = found.summary()
    result = {
        "asked": asked,
        "measured": {name: value for name, value in summary.items() if name != "as_published"},
        "as_published": summary.get("as_published"),
        "chamfer_x10_of_each": [score.chamfer_x10 for score in found.scores],
        "method": job.row.method,
        "point_features": job.preset.model.point_features,
        "objects": job.held.train,
        "pictures": job.held.pictures,
        "steps": steps,
        "full_steps": {stage.name: stage.steps for stage in job.preset.training.stages if stage.steps},
        "training_seconds": round(history[-1]["seconds"], 1) if history else None,
    }
    write_picture(job.folder / "views.png", np.concatenate([np.concatenate(row, axis=1) for row in found.tiles]))
    with atomic_path(job.folder / "row.json") as temporary:
        temporary.write_text(json.dumps(result, indent=1))
    return result


def digest_of(*values: Any) -> str:
    """A short name for settings: equal ones have the same."""
    text = json.dumps(values, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=5).hexdigest()
