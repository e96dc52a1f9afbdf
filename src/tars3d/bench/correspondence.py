"""`tars3d bench correspondence`: part labels and keypoints carried between reconstructions of procedural objects.

The objects are made here from a seed that no shipped model was trained with, rendered, and reconstructed from one picture
each, or from several. Their true surfaces know parts and keypoints, so every ordered pair of them is an exam.
"""

import json
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from itertools import product
from pathlib import Path

import numpy as np
from scipy.spatial import KDTree

from tars3d.atomic import atomic_path
from tars3d.bench.carried import ENDS, GROUPS, MEASURED, METRICS, Space, Subject, measure_pairs, measure_sources
from tars3d.bench.exam import Exam
from tars3d.correspondence import Places
from tars3d.data.collection import load_collection
from tars3d.data.image_record import ImageRecord, by_object
from tars3d.data.pictures import as_picture
from tars3d.data.procedural import CATEGORIES, LabelledMesh, make_object
from tars3d.data.rendering.camera_ranges import LEVEL
from tars3d.data.rendering.options import RenderOptions
from tars3d.data.rendering.render import render_collection
from tars3d.errors import UserError
from tars3d.labelling import PartSegmenter
from tars3d.photo.reconstruction import Reconstruction
from tars3d.progress import console, progress_bar
from tars3d.reconstruct import Reconstructor, load_deformed
from tars3d.rules import BORDERS, PARTS, BorderRule, Rule, check_weights
from tars3d.side_by_side import side_by_side
from tars3d.weights import shipped_models

SWEEP = tuple(product((0.0, 0.25, 0.5), (0.1, 0.2), (0.0, 1.5, 2.0)))
"""Weights of point features, mean normals and levelled heights."""
CUT = {
    "ours": BORDERS,
    "no_colors": BorderRule(color_weight=0.0),
    "no_creases": BorderRule(crease_weight=0.0),
    "no_point_features": BORDERS,
    "object_space_borders": BORDERS,
}
"""Methods of `spaces` whose labels have the borders of `transfer labels`, and by which rule; the others' points take the label of the nearest place alone."""


def weighted(rule: Rule, **changes: float) -> Space:
    """Canonical position, then point features, mean normals and levelled heights by the weights of a rule, or by changed ones."""
    changed = rule.changed(**changes)
    return lambda subject: subject.places.coordinates(changed)


def spaces(rule: Rule) -> dict[str, Space]:
    """What is compared: the product's rule, what it is with and without each of its parts, and rules that need no canonical space."""

    def object_space_normals(subject: Subject) -> np.ndarray:
        return np.hstack([subject.places.points, rule.normal_weight * subject.places.normals])

    ours = weighted(rule)
    return {
        "ours": ours,
        "no_colors": ours,
        "no_creases": ours,
        "no_borders": ours,
        "no_point_features": weighted(rule, feature_weight=0.0),
        "no_normals": weighted(rule, normal_weight=0.0),
        "no_heights": weighted(rule, height_weight=0.0),
        "position_alone": weighted(rule, feature_weight=0.0, normal_weight=0.0, height_weight=0.0),
        "object_space_normals": object_space_normals,
        "object_space_borders": object_space_normals,
        "object_space": lambda subject: subject.places.points,
    }


def topology_of(made: LabelledMesh) -> frozenset[str]:
    """The kinds of parts of a procedural object: its labels (seat, back, leg, arm; fuselage, wing, tail, engine, gear).

    All cars share their labels, so for them it is the roof (convertibles have none), the load bed (pickups) and the
    fittings (rack, spoiler, spare wheel).
    """
    present = {made.label_names[i] for i in np.unique(made.face_labels)}
    if "wheel" in made.label_names:
        kind, *fittings = made.topology.split("/")
        present |= {*fittings, *({kind} & {"convertible", "pickup"})}
    return frozenset(present)


def kind_of(category: str, made: LabelledMesh) -> str:
    """The type of a car or an airplane; chairs by what tells them apart most: stool (no back), tub and shell (arms and back, or back and seat, are
    one), armchair (blocks down to its feet), office chair (star base), and legs, which is any other chair with a back."""
    words = made.topology.split("/")
    if category != "chair":
        return words[0]
    base, arms, back = words
    if back == "none":
        return "stool"
    if "tub" in (arms, back):
        return "tub"
    if back == "shell":
        return "shell"
    if base in ("feet", "plinth"):
        return "armchair"
    return "office chair" if base.startswith("star") else "legs"


def run_correspondence_bench(
    models: dict[str, str],
    exam: Exam,
    *,
    rule: Rule = PARTS,
    sweep: bool = False,
    json_file: Path | None = None,
    device: str = "auto",
) -> dict:
    """Measure every category that has a model, print a table each, and return (and write) the figures.

    Args:
        models: category -> model, besides those that the package ships.
        rule: of the correspondences; its distance counts for nothing here.
        sweep: measure weights of the point features, normals and heights instead of the methods.

    Raises:
        UserError: no category has a model, the exam makes no sense, or a weight is no number of 0 or more.
    """
    exam.check()
    check_weights(rule.weights)
    asked = exam.categories or tuple(CATEGORIES)
    chosen = {name: models.get(name, name) for name in asked if name in models or name in shipped_models()}
    if not chosen:
        raise UserError("bench correspondence: no model of a chair, car or airplane; name one with --model")
    reconstructors = {name: load_deformed(model, device=device) for name, model in chosen.items()}
    results: dict = {}
    with tempfile.TemporaryDirectory() if exam.data is None else nullcontext(exam.data) as folder:
        for name, reconstructor in reconstructors.items():
            subjects = examine(reconstructor, name, Path(folder) / name, exam)
            if sweep:
                compared = {
                    f"features {f:g}, normals {n:g}, heights {h:g}": weighted(Rule(f, n, h, rule.max_distance))
                    for f, n, h in SWEEP
                }
            else:
                compared = spaces(rule)
            twins = {} if sweep or rule.feature_weight else {"no_point_features": "ours"}  # one rule: measured once
            measured = {method: space for method, space in compared.items() if method not in twins}
            results[name] = measure_pairs(
                subjects, measured, cut=CUT, points=exam.points, seed=exam.seed, by_kind=None if sweep else "ours"
            )
            for twin, method in twins.items():
                for figure in MEASURED:
                    results[name][figure][twin] = results[name][figure][method]
            if not sweep:
                ours = compared["ours"]
                results[name]["label_accuracy_by_sources"] = measure_sources(
                    subjects, ours, points=exam.points, seed=exam.seed
                )
            settings = {"model": str(chosen[name]), **exam.described()}
            results[name] |= settings | ({} if sweep else rule.weights)
            print(table(name, results[name], list(compared)))
    left_out = [name for name in asked if name not in chosen]
    if left_out:
        print(f"left out, as no model of them is shipped or given with --model: {', '.join(left_out)}")
    results["left_out"] = left_out
    if json_file is not None:
        with atomic_path(json_file) as temporary:
            temporary.write_text(json.dumps(results, indent=1))
    return results


def examine(reconstructor: Reconstructor, category: str, rendered: Path, exam: Exam) -> list[Subject]:
    """Make, render and reconstruct the objects; those without any surface are left out, and counted on stderr."""
    level = None if exam.photos else LEVEL.elevation
    options = RenderOptions(
        views=exam.views, count=exam.objects, seed=exam.seed, workers=1, photos=exam.photos, elevation=level
    )
    render_collection(f"procedural:{category}", rendered, options)
    collection = load_collection(rendered)
    groups = by_object(collection.images)

    def reconstructed(records: Sequence[ImageRecord]) -> Reconstruction:
        return reconstructor.reconstruct_pictures(
            [as_picture(record.file) for record in records],
            resolution=exam.resolution,
            outline="always" if exam.outline else "none",
        )

    subjects, empty = [], 0
    with progress_bar() as bar:
        each = side_by_side(reconstructed, list(groups.values()), reconstructor.device, resolution=exam.resolution)
        shown = bar.track(each, description=f"reconstructing {category}s", total=len(groups))
        for number, (name, future) in enumerate(zip(groups, shown, strict=True)):
            found = future.result()
            truth = collection.ground_truth_labels(name)
            assert truth is not None  # the renderer writes them
            labels, _ = truth
            if not len(found.mesh.vertices):
                empty += 1
                continue
            made = make_object(category, 100_000 * exam.seed + number)
            vertices = np.asarray(found.mesh.vertices)
            nearest = KDTree(collection.ground_truth(name)[0]).query(vertices)[1]
            # Feet of a star base are numbered from a random one: their names mean nothing between objects.
            keypoints = {key: point for key, point in made.keypoints.items() if not key[-1].isdigit()}
            parts = frozenset(np.unique(made.face_labels).tolist())
            places = Places.of(found)
            segmenter = PartSegmenter(found.mesh, found.colors)
            subjects.append(
                Subject(
                    places=places,
                    labels=labels[nearest],
                    keypoints=keypoints,
                    parts=parts,
                    topology=topology_of(made),
                    kind=kind_of(category, made),
                    segmenter=segmenter,
                )
            )
    if empty:
        console.print(f"{empty} of {exam.objects} {category}s have no surface and are left out")
    if len(subjects) < 2:
        raise UserError(
            f"bench correspondence: only {len(subjects)} {category}s have a surface; train the model longer"
        )
    return subjects


def table(category: str, figures: dict, methods: list[str]) -> str:
    """The figures in per cent, as Markdown."""
    count = figures["pairs"]
    header = [f"{count[g]} {g.replace('_', ' ')}" for g in GROUPS]
    lines = [
        f"{category}: {figures['objects']} objects, ordered pairs: {', '.join(header)}; per cent of all / same / different",
        "| | " + " | ".join((*METRICS, "missing_part_auc")) + " |",
        "|---|" + "---:|" * (len(METRICS) + 1),
    ]
    for method in methods:
        cells = []
        for name in (*METRICS, "missing_part_auc"):
            values = [figures[name][method][group] for group in GROUPS]
            cells.append(_per_cent(values))
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    if by_sources := figures.get("label_accuracy_by_sources"):
        numbers = " | ".join(f"from {number}" for number in by_sources)
        lines += ["", f"| label accuracy, labelled objects that decide together | {numbers} |"]
        lines += ["|---|" + "---:|" * len(by_sources), f"| {category} | {_per_cent(by_sources.values(), ' | ')} |"]
    if by_kind := figures.get("label_accuracy_by_kind"):
        lines += ["", "| kind | objects | from it | to it | within |", "|---|---:|---:|---:|---:|"]
        for kind, found in by_kind.items():
            lines.append(f"| {kind} | {found['objects']} | {_per_cent((found[end] for end in ENDS), ' | ')} |")
        lines.append("")
    far = [f"{method} {figures['distance_99'][method]['all']:.3f}" for method in methods]
    lines.append(f"1% of the points asked are farther from the source than (units of the space): {', '.join(far)}")
    return "\n".join(lines)


def _per_cent(values: Iterable[float | None], between: str = " / ") -> str:
    return between.join("–" if value is None else f"{100 * value:.1f}" for value in values)
