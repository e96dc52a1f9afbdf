"""`tars3d bench table1` to `table4` and `figure8`: the paper's rows trained and measured on given collections, beside the paper's figures.

OUT/collections/KEY/            the pictures that a row trains on and is tested on, an index of pictures that stay where they are
OUT/rows/NAME-KEY/              each row, see `table_row`
OUT/timing.json                 what steps cost with given threads and device, so that rows are cut to the budget by one measure
OUT/TABLE.txt .json .png .svg   the results
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from tars3d.arguments import check_at_least, check_positive, check_resolution, check_seed, check_threads, choose_device
from tars3d.atomic import atomic_path
from tars3d.bench.paper_tables import TableRow, added_rows, columns_of, rows_of
from tars3d.bench.table_options import TableOptions
from tars3d.bench.table_output import write_results
from tars3d.bench.table_row import Job, digest_of, finished, measured, row_folder, timed, train
from tars3d.bench.unpaired import Held, unpaired_collection
from tars3d.config import Preset, to_dict
from tars3d.data.collection import ImageCollection, load_collection
from tars3d.errors import UserError
from tars3d.presets import preset as named_preset
from tars3d.progress import console, remark
from tars3d.training.budget import Costs, fitted


def run_table(
    table: str, options: TableOptions, *, sizes: Sequence[int] = (500, 1000, 2000), k: Sequence[int] = (0, 1, 2, 4, 8)
) -> dict:
    """Train and measure what is missing of a table, print it and write it; returns what the JSON file holds.

    Raises:
        UserError: the data cannot be used, or a setting is impossible.
    """
    _check(options, sizes)
    sources: dict[str, list[ImageCollection]] = {}
    for folder in options.data:
        collection = load_collection(folder)
        sources.setdefault(collection.category, []).append(collection)
    digests = {category: [_digest(source) for source in found] for category, found in sources.items()}
    notes: list[str] = []
    jobs = []
    for row in added_rows(rows_of(table, list(sources), sizes=sizes, k=k), options.add):
        job = _job(row, sources[row.category], digests[row.category], options, notes)
        jobs += [] if job is None else [job]
    if not jobs:
        raise UserError(f"{table}: no row can be made of these data ({'; '.join(notes)}); give other --data")
    minutes = options.row_minutes if options.budget is None else options.budget / len(jobs)
    jobs = [replace(job, folder=row_folder(job, options, minutes)) for job in jobs]
    try:
        results = _train_and_measure(jobs, options, minutes, notes)
    except KeyboardInterrupt:
        remark(f"{options.out}: repeat the command to go on; rows that are done are kept")
        raise
    return write_results(table, columns_of(table), results, options, minutes=minutes, notes=list(dict.fromkeys(notes)))


def _check(options: TableOptions, sizes: Sequence[int]) -> None:
    check_resolution(options.resolution)
    training = named_preset(options.preset).training  # an unknown preset is an error, not a missing row
    if any(stage.losses.filling for stage in training.stages) and not training.category_hull:
        raise UserError(
            f"--preset {options.preset}: fills visual hulls of several pictures an object, and a row has one of each; "
            "choose compact-unpaired or a paper- preset"
        )
    if options.budget is not None and options.row_minutes is not None:
        raise UserError("--budget and --row-minutes: give one of them")
    check_positive(budget=options.budget, row_minutes=options.row_minutes, threshold=options.threshold)
    check_at_least(1, views=options.views, objects=options.objects, test_objects=options.test_objects)
    check_at_least(1, samples=options.samples)
    for size in sizes:
        check_at_least(1, sizes=size)
    check_at_least(0, emd_points=options.emd_points)
    check_seed(options.seed)
    check_threads(options.threads)
    if not options.data:
        raise UserError("--data: no collection given; make one with `tars3d data render procedural:chair --out DATA`")


def _job(
    row: TableRow, sources: list[ImageCollection], digests: list[str], options: TableOptions, notes: list[str]
) -> Job | None:
    """The row with its data written, or None and a note why it is left out."""
    try:
        full = named_preset(options.preset, row.method, row.point_features)
    except UserError as error:
        notes.append(f"the row {row.label} is left out: {error}")
        return None
    objects = options.objects if row.objects is None else row.objects
    there = sum(len(source.splits.get("train", ())) for source in sources)
    if row.objects is not None and there < row.objects:
        notes.append(
            f"the rows of {row.objects} training objects are left out: there are {there}; more are made by "
            "`tars3d data render procedural:chair --count N --test 30`"
        )
        return None
    settings = {
        "views": 1 if row.objects is not None else options.views, "objects": objects, "test_objects": options.test_objects,
        "orthographic": row.orthographic, "seed": options.seed,
    }  # fmt: skip
    data = options.out / "collections" / f"{row.category}-{digest_of(settings, digests)}"
    about = data / "held.json"
    if not about.exists():
        held = unpaired_collection(sources, data, **settings)
        with atomic_path(about) as temporary:
            temporary.write_text(json.dumps(asdict(held)))
    saved = json.loads(about.read_text())
    held = Held(saved["train"], saved["pictures"], saved["test"], tuple(saved["notes"]))
    notes += held.notes
    model = full.model if options.pretrained else replace(full.model, encoder_hub_id=None)
    # Held-out objects are looked at once a stage, for the log: what is measured is the test split, at the end.
    training = replace(full.training, seed=options.seed, validate_every=0, validate_instances=1)
    return Job(row, Preset(model, training), data, held, data)


def _train_and_measure(
    jobs: list[Job], options: TableOptions, minutes: float | None, notes: list[str]
) -> list[dict[str, Any]]:
    """What was measured of each row; a row that cannot be trained or measured is left out with a note, the others go on."""
    results = {job.folder: found for job in jobs if (found := finished(job, options)) is not None}
    waiting = [job for job in jobs if job.folder not in results]
    costs = _costs([job for job in waiting if not (job.folder / "settings.json").exists()], options, minutes)
    for number, job in enumerate(waiting):
        if job.folder in results:
            continue
        remark(f"row {number + 1} of {len(waiting)}: {job.row.category}, {job.row.label}")
        try:
            train(job, costs.get(job.folder), options)
            results[job.folder] = measured(job, options)
        except UserError as error:
            notes.append(f"the row {job.row.label} of {job.row.category} failed: {error}")
            remark(notes[-1])
    if not results:
        raise UserError(f"no row could be trained: {notes[-1]}")
    own = ("category", "label", "method", "paper")
    return [
        {**results[job.folder], **{name: getattr(job.row, name) for name in own}, "folder": str(job.folder)}
        for job in jobs
        if job.folder in results
    ]


def _costs(jobs: list[Job], options: TableOptions, minutes: float | None) -> dict[Path, Preset]:
    """The curriculum of each row, cut to its minutes. All are timed before any is trained, and those of the same threads and device share
    one ratio of clock to processor."""
    if minutes is None:
        return {job.folder: job.preset for job in jobs}
    from tars3d.training.allocator import keep_freed_memory

    keep_freed_memory()
    torch.set_num_threads(check_threads(options.threads))
    device = choose_device(options.device)
    file = options.out / "timing.json"
    known: dict[str, Any] = {"cpu": {}, "ratios": {}} | (json.loads(file.read_text()) if file.exists() else {})
    where = digest_of(options.threads, str(device))
    cut = {}
    for job in jobs:
        key = digest_of(to_dict(job.preset), options.threads, str(device))
        if key not in known["cpu"] or where not in known["ratios"]:
            with console.status(f"timing the steps of {job.row.label}"):
                found = timed(job, device)
            known["cpu"].setdefault(key, found.cpu)
            known["ratios"].setdefault(where, found.ratio)
            with atomic_path(file) as temporary:
                temporary.write_text(json.dumps(known, indent=1))
        costs = Costs(tuple(known["cpu"][key]), known["ratios"][where])
        cut[job.folder] = fitted(job.preset, costs, minutes)
    return cut


def _digest(source: ImageCollection) -> str:
    """Of all files of a collection: index, splits, pictures, masks and ground truth."""
    files = [source.root / "cameras.json", source.root / "splits.json"]
    files += [file for file in (source.root / "ground_truth").glob("*") if file.suffix in (".npz", ".ply")]
    for record in source.images:
        surface = record.surface and record.surface.file
        files += [file for file in (record.file, record.mask, surface) if file is not None]
    digest = hashlib.blake2b(digest_size=8)
    for file in sorted(file for file in set(files) if file.exists()):
        digest.update(f"{file.name}\0".encode() + hashlib.blake2b(file.read_bytes()).digest())
    return digest.hexdigest()
