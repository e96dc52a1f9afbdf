"""`tars3d evaluate`: a model (or a baseline) on a collection with ground truth; the table, metrics.json and a sheet of pictures.

What is measured comes from `predictors`.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
import trimesh

from tars3d.atomic import atomic_path
from tars3d.data.collection import ImageCollection, load_collection, say_other_category
from tars3d.data.framing import apply_crop, bbox_crop
from tars3d.data.image_record import ImageRecord, by_object
from tars3d.data.pictures import Picture, read_picture
from tars3d.errors import UserError
from tars3d.evaluate.metrics import InstanceScore, Protocol, score_reconstruction, summarise
from tars3d.evaluate.options import EvaluateOptions
from tars3d.evaluate.predictors import AnswerSettings, Groups, Predictor, found_camera, mean_shape, nearest_object
from tars3d.evaluate.tables import format_text, paper_rows
from tars3d.geometry.isosurface import as_published
from tars3d.geometry.rasterize import silhouette
from tars3d.geometry.views import orbit_views
from tars3d.methods.mesh import MeshMethod
from tars3d.progress import progress_bar
from tars3d.reconstruct import Reconstructor, load
from tars3d.sheets import contact_sheet, write_picture
from tars3d.side_by_side import side_by_side

T = TypeVar("T")
SHEET_ROWS = 12


@dataclass(frozen=True)
class Measured:
    """What `measure` found: figures in the order of the pictures.

    Attributes:
        scores: of each picture's mesh.
        published: the same of the mesh as the published evaluator scales it; empty where that was not asked for.
        tiles: for the first `SHEET_ROWS` pictures, the picture and its mesh from four sides.
    """

    scores: list[InstanceScore]
    published: list[InstanceScore]
    tiles: list[list[np.ndarray]]

    def summary(self) -> dict:
        """`metrics.summarise` of the scores, and of the published evaluator's under "as_published"."""
        summary = summarise(self.scores)
        return summary | {"as_published": summarise(self.published)} if self.published else summary


def measure(
    collection: ImageCollection,
    records: Sequence[ImageRecord],
    predict: Predictor,
    *,
    seed: int,
    protocol: Protocol,
    published_bound: float | None = None,
    device: torch.device | str = "cpu",
) -> Measured:
    """Score the mesh that `predict` gives for each picture.

    Args:
        seed: of the surface samples.
        published_bound: half side of the search cube; given, each mesh is scored once more as the published evaluator
            would scale it (`as_published`), on a grid of the protocol's resolution.
        device: where `predict` computes; on the CPU several pictures are measured at a time.

    Raises:
        UserError: an object has no ground truth, or a picture cannot be used.
    """
    refuse_missing(without_truth(collection, records), collection)

    def measured(numbered: tuple[int, ImageRecord]) -> Measured:
        number, record = numbered
        picture = read_picture(record.file, record.mask)
        mesh = predict(record, picture)
        points, normals = collection.ground_truth(record.instance)
        perspective, (height, width) = record.model == "perspective", picture.mask.shape
        seen = silhouette(mesh, record.intrinsics, record.extrinsics, perspective, height, width)
        score = partial(
            score_reconstruction, truth_points=points, truth_normals=normals, seed=seed, protocol=protocol,
            masks=(seen, picture.mask),
        )  # fmt: skip
        published = []
        if published_bound is not None:
            assert protocol.resolution is not None
            published.append(score(as_published(mesh, (-published_bound, published_bound), protocol.resolution)))
        return Measured([score(mesh)], published, [sheet_row(picture, mesh)] if number < SHEET_ROWS else [])

    found = Measured([], [], [])
    with progress_bar() as bar:
        each = side_by_side(measured, list(enumerate(records)), device, resolution=protocol.resolution or 0)
        for future in bar.track(each, description="evaluating", total=len(records)):
            one = future.result()
            found.scores.extend(one.scores)
            found.published.extend(one.published)
            found.tiles.extend(one.tiles)
    return found


def without_truth(collection: ImageCollection, records: Sequence[ImageRecord]) -> list[str]:
    """The objects of pictures that have no ground truth, one entry a picture."""
    return [record.instance for record in records if not collection.has_ground_truth(record.instance)]


def refuse_missing(missing: Sequence[str], collection: ImageCollection) -> None:
    """Raise a UserError that names the first of the objects without ground truth, if there are any."""
    if missing:
        raise UserError(
            f"{collection.root}/ground_truth/{missing[0]}.npz: no ground truth for {len(set(missing))} of the objects; add "
            "it, evaluation needs points of the true surface"
        )


def evaluate_collection(data: Path, options: EvaluateOptions) -> dict:
    """Measure, print the table with the paper's rows, and write the results; returns the summary.

    Raises:
        UserError: the split is unknown or empty, an object has no ground truth, a picture cannot be used, or an option makes no sense.
    """
    options.check()
    model, out, seed = options.model, options.out, options.seed
    answer = AnswerSettings(
        options.resolution, options.baseline, options.outline, options.refine, options.refine_camera, seed
    )
    collection = load_collection(data)
    records = chosen_views(collection, options.split, options.views, seed)
    groups = by_object(records) if options.together else None
    if groups is not None:
        records = [group[0] for group in groups.values()]
    records = records[: options.limit]
    about = {
        "data": str(data), "split": options.split, "pictures": len(records), "views": options.views, "together": options.together,
        "limit": options.limit, "model": model, **answer.described(),
    }  # fmt: skip
    protocol = Protocol(
        options.samples, options.threshold, options.emd_points, icp_iterations=50 if options.align else 0,
        resolution=options.resolution,
    )  # fmt: skip
    missing = without_truth(collection, records)
    if len(missing) == len(records) and options.baseline != "nearest":
        _say_unused({"align": options.align, "as_published": options.as_published}, protocol)
        return _evaluate_silhouettes(records, _loaded(options, collection), answer, groups, about, out)
    refuse_missing(missing, collection)
    reconstructor = _loaded(options, collection)
    if options.as_published and isinstance(reconstructor.model, MeshMethod):
        raise UserError(
            f"--as-published: meshes of {reconstructor.model.config.method} come from no grid; leave it out"
        )
    sources = [str(folder) for folder in options.train_data or (data,)] if options.baseline == "nearest" else []
    predict = _predictor(reconstructor, answer, groups, sources)
    bound = reconstructor.model.config.bound if options.as_published else None
    found = measure(
        collection, records, predict, seed=seed, protocol=protocol, published_bound=bound, device=reconstructor.device
    )
    summary = found.summary()
    label = answer.label(model)
    both = [(f"{label}, as the published evaluator scales it", summary["as_published"])] if options.as_published else []
    print(format_text([(label, summary), *both, *paper_rows(collection.category)]))
    _say_measured(about)
    if out is not None:
        rows = [
            {"name": record.name, "instance": record.instance, **row_of(score)}
            for record, score in zip(records, found.scores, strict=True)
        ]
        for row, score in zip(rows, found.published, strict=False):
            row["as_published"] = row_of(score)
        captions = [[f"CD x10 {score.chamfer_x10:.2f}", "", "", "", ""] for score in found.scores]
        sheet = contact_sheet(found.tiles, captions[: len(found.tiles)])
        _write_results(out, summary, {**about, "train_data": sources}, rows, sheet)
    return summary


def _loaded(options: EvaluateOptions, collection: ImageCollection) -> Reconstructor:
    """The model, and a note where it is of another category than the collection."""
    reconstructor = load(options.model, device=options.device)
    say_other_category(reconstructor.category, collection.category)
    return reconstructor


def _predictor(
    reconstructor: Reconstructor, answer: AnswerSettings, groups: Groups | None, sources: Sequence[str]
) -> Predictor:
    """What answers; `sources` are the collections of the nearest training object."""
    if answer.baseline == "nearest":
        return nearest_object(reconstructor, [load_collection(folder) for folder in sources])
    if answer.baseline == "mean-shape" and not answer.refine:
        return mean_shape(reconstructor, answer.resolution)  # one mesh for all
    return answer.mesh(reconstructor, groups)


def _say_unused(flags: Mapping[str, bool], protocol: Protocol) -> None:
    """Name what was asked for and needs ground truth."""
    usual, settings = Protocol(), ("samples", "emd_points", "threshold")
    unused = [name for name, given in flags.items() if given]
    unused += [name for name in settings if getattr(protocol, name) != getattr(usual, name)]
    if unused:
        listed = ", ".join(f"--{name.replace('_', '-')}" for name in unused)
        print(f"note: there is no ground truth, which these options need, so they change nothing: {listed}")


def _say_measured(about: Mapping[str, Any], rest: str = "") -> None:
    """Which pictures a table is of, and that shapes were fitted to them."""
    drawn = f"{about['pictures']} pictures, at most {about['views']} of each object"
    if about["together"]:
        drawn = f"{about['pictures']} objects, each by at most {about['views']} pictures together"
    print(f"{about['split']} split of {about['data']}: {drawn}, drawn with seed {about['seed']}{rest}")
    fits = [f"fitted to these masks in {about['refine']} steps"] if about["refine"] else []
    fits += ["bent to their outlines"] if about["outline"] else []
    if fits:
        print(f"shapes were {' and '.join(fits)}, seen by the {about['refine_camera']} camera")


def _evaluate_silhouettes(
    records: Sequence[ImageRecord],
    reconstructor: Reconstructor,
    answer: AnswerSettings,
    groups: Groups | None,
    about: Mapping[str, Any],
    out: Path | None,
) -> dict:
    """What `evaluate_collection` does where no object has ground truth."""
    from tars3d.evaluate.silhouettes import Answer, measure_silhouettes

    answered = answer.answerer(reconstructor, groups)

    def predict(record: ImageRecord, picture: Picture) -> Answer:
        found = answered(record, picture)
        camera = found.camera or found_camera(reconstructor, found.mesh, picture, record, seed=answer.seed)
        return Answer(found.mesh, None if answer.baseline == "mean-shape" else found.canonical, camera)

    summary, rows, tiles = measure_silhouettes(records, predict, SHEET_ROWS, reconstructor.device, answer.resolution)
    print(format_text([(answer.label(about["model"]), summary)]))
    _say_measured(about, "; no ground truth, so silhouettes alone are measured, from the input view")
    if "camera_found" in summary:
        print("camera found: as the model sees it in the picture, fitted to the mask; else: as annotated")
    if out is not None:
        _write_results(out, summary, about, rows, contact_sheet(tiles))
    return summary


def _write_results(
    out: Path,
    summary: Mapping[str, Any],
    about: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    sheet: np.ndarray,
) -> None:
    """OUT/metrics.json (the summary, what was measured, a row for each picture) and OUT/sheet.png, and where they are."""
    metrics = {**summary, "split": about["split"], "seed": about["seed"], "measured": about, "instances": rows}
    with atomic_path(out / "metrics.json") as temporary:
        temporary.write_text(json.dumps(metrics, indent=1))
    print(f"{out / 'metrics.json'}\n{write_picture(out / 'sheet.png', sheet)}")


def chosen_views(collection: ImageCollection, split: str, views: int, seed: int) -> list[ImageRecord]:
    """`views` pictures of each object of a split, drawn with the seed, object by object."""
    by_instance = by_object(collection.split(split))
    if not by_instance:
        raise UserError(f"{collection.root}/splits.json: the split {split!r} is empty; choose another --split")
    rng = np.random.default_rng(seed)
    chosen = []
    for records in by_instance.values():
        order = rng.permutation(len(records))[:views]
        chosen += [records[i] for i in sorted(order)]
    return chosen


def evenly(records: Sequence[T], most: int) -> list[T]:
    """At most so many of the pictures, or objects, spread evenly over them."""
    return list(records[:: max(1, len(records) // most)][:most])


def sheet_row(picture: Picture, mesh: trimesh.Trimesh) -> list[np.ndarray]:
    """The picture and its mesh from four sides."""
    framed = apply_crop(picture.rgb, picture.mask, bbox_crop(picture.mask, 1.15), 160)[0]
    return [framed, *orbit_views(mesh, count=4, size=160)]


def row_of(score: InstanceScore) -> dict:
    """An instance's figures, as in the summary's units."""
    row = {name: value for name, value in dataclasses.asdict(score).items() if name != "protocol"}
    scale = {"accuracy": 10, "coverage": 10, "emd": 10, "precision": 100, "recall": 100}
    return {name: value if value is None else value * scale.get(name, 1) for name, value in row.items()}
