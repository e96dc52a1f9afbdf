"""How much of what is carried between objects arrives right: labels and keypoints of all ordered pairs, labels by several objects.

Called by `bench.correspondence`, which makes the objects and prints the figures.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import permutations

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.spatial import KDTree

from tars3d.correspondence import Places
from tars3d.labelling import LabelledPoints, PartSegmenter, PartTrees, carried_labels, typical_pieces
from tars3d.progress import progress_bar
from tars3d.rules import BorderRule

SOURCES = (1, 3, 10)
"""Labelled objects that decide together on a target's labels."""
ONE_OF_EACH_KIND = "one of each kind"
"""Of the objects beside the target."""
LABELLED_POINTS = 4000
"""Vertices of a labelled object that are compared where surfaces are cut into parts: about 0.02 apart on a chair."""
METRICS = ("label_accuracy", "label_miou", "pck_0.05", "pck_0.1")
MEASURED = (*METRICS, "missing_part_auc", "distance_99")
GROUPS = ("all", "same_topology", "different_topology")
ENDS = {"as_source": (True, False), "as_target": (False, True), "within": (True, True)}
"""Whether the source, and the target, of a pair are of the kind that is marked."""


@dataclass(frozen=True)
class Subject:
    """A reconstruction with the truth about it.

    Attributes:
        places: vertices of the reconstruction in the object frame (longest side about 1), their canonical positions and
            point features, and the surface's mean normals and levelled heights there.
        labels: part of each vertex, that of the nearest point of the true surface.
        keypoints: name -> point of the true surface, object frame.
        parts: labels that the true surface has.
        topology: kinds of parts; pairs with equal ones are of the same topology.
        kind: name of the kind of object, by which figures are also given.
        segmenter: of the reconstruction's mesh and colours.
    """

    places: Places
    labels: Int[np.ndarray, " vertices"]
    keypoints: dict[str, np.ndarray]
    parts: frozenset[int]
    topology: frozenset[str]
    kind: str
    segmenter: PartSegmenter


Space = Callable[[Subject], np.ndarray]
"""Coordinates in which nearest neighbours are sought."""


Pair = tuple[int, int]
"""Numbers of the source and the target."""


@dataclass
class _Tally:
    """What one method scored, by pair; pairs of which nothing could be asked are missing."""

    values: dict[str, dict[Pair, float]] = field(default_factory=lambda: {name: {} for name in MEASURED})

    def add(self, name: str, pair: Pair, value: float | None) -> None:
        if value is not None:
            self.values[name][pair] = value

    def means(self, name: str, groups: Mapping[str, Callable[[Pair], bool]]) -> dict[str, float | None]:
        return {
            group: _mean(value for pair, value in self.values[name].items() if of(pair)) for group, of in groups.items()
        }


def _mean(values: Iterable[float]) -> float | None:
    kept = list(values)
    return float(np.mean(kept)) if kept else None


def measure_pairs(
    subjects: list[Subject],
    compared: dict[str, Space],
    *,
    cut: Mapping[str, BorderRule],
    points: int,
    seed: int,
    by_kind: str | None = None,
) -> dict:
    """All ordered pairs (source, target), in each space: means over pairs of what `METRICS` names, and the label accuracy of the method `by_kind` by
    kind of object.

    Labels: every target point takes that of its nearest source vertex, or in the methods of `cut` that of the part which the surface is cut into, by
    the rule that it names. Points of parts that the source lacks cannot be right and are not asked; whether their distance gives them away is
    `missing_part_auc`, the probability that such a point is farther from the source than another one (0.5: chance). `distance_99` is the distance that 1% of the points that are
    asked exceed, in units of the space: what a threshold for "no counterpart" must let pass.
    Keypoints: the source vertex nearest to one goes to its nearest target vertex; right within 0.05 or 0.1 of the longest
    side from the target's true keypoint of that name, so that errors of both reconstructions count.
    """
    spaces = dict.fromkeys(compared.values())  # methods that differ in their borders alone share a space
    coordinates = {space: [np.asarray(space(s), np.float64) for s in subjects] for space in spaces}
    trees = {space: [KDTree(rows) for rows in arrays] for space, arrays in coordinates.items()}
    object_trees = [KDTree(subject.places.points) for subject in subjects]
    tallies = {name: _Tally() for name in compared}
    drawn = [
        np.random.default_rng([seed, i]).permutation(len(subject.labels))[:points] for i, subject in enumerate(subjects)
    ]
    parts = {
        space: [PartTrees([_labelled(*pair)]) for pair in zip(subjects, coordinates[space], strict=True)]
        for space in dict.fromkeys(space for name, space in compared.items() if name in cut)
    }
    pairs = list(permutations(range(len(subjects)), 2))
    with progress_bar() as bar:
        for pair in bar.track(pairs, description="comparing pairs"):
            s, t = pair
            source, target = subjects[s], subjects[t]
            truth = target.labels[drawn[t]]
            shared = np.isin(truth, list(source.parts))
            names = sorted(source.keypoints.keys() & target.keypoints.keys())
            nearest = {space: trees[space][s].query(coordinates[space][t][drawn[t]]) for space in spaces}
            to_parts = {space: sources[s].distances_to(coordinates[space][t]) for space, sources in parts.items()}
            errors = {}
            if names:
                start = object_trees[s].query([source.keypoints[key] for key in names])[1]
                goal = [target.keypoints[key] for key in names]
                for space in spaces:
                    landed = target.places.points[trees[space][t].query(coordinates[space][s][start])[1]]
                    errors[space] = np.linalg.norm(landed - goal, axis=1)
            for name, tally in tallies.items():
                space = compared[name]
                distance, index = nearest[space]
                found = source.labels[index]
                if name in cut:
                    found = target.segmenter.segment(to_parts[space], cut[name])[drawn[t]]
                if shared.any():
                    tally.add("label_accuracy", pair, float((found == truth)[shared].mean()))
                    tally.add("label_miou", pair, mean_iou(found[shared], truth[shared], source.parts))
                    tally.add("distance_99", pair, float(np.quantile(distance[shared], 0.99)))
                tally.add("missing_part_auc", pair, auc(distance, ~shared))
                if space in errors:
                    tally.add("pck_0.05", pair, float((errors[space] <= 0.05).mean()))
                    tally.add("pck_0.1", pair, float((errors[space] <= 0.1).mean()))

    def alike(pair: Pair) -> bool:
        return subjects[pair[0]].topology == subjects[pair[1]].topology

    chosen: list[Callable[[Pair], bool]] = [lambda _: True, alike, lambda pair: not alike(pair)]
    groups: dict[str, Callable[[Pair], bool]] = dict(zip(GROUPS, chosen, strict=True))
    figures: dict = {
        name: {method: tally.means(name, groups) for method, tally in tallies.items()} for name in MEASURED
    }
    figures["pairs"] = {group: sum(map(of, pairs)) for group, of in groups.items()}
    if by_kind is not None:
        figures["label_accuracy_by_kind"] = _by_kind(subjects, tallies[by_kind].values["label_accuracy"])
    return figures | {"objects": len(subjects)}


def _by_kind(subjects: list[Subject], scores: Mapping[Pair, float]) -> dict[str, dict]:
    """How many objects are of each kind, and the mean score of the pairs between one and one of another kind, as source and as target, and within the kind."""
    found = {}
    for kind in sorted({subject.kind for subject in subjects}):
        of = {number for number, subject in enumerate(subjects) if subject.kind == kind}
        means = {
            name: _mean(score for (s, t), score in scores.items() if (s in of, t in of) == ends)
            for name, ends in ENDS.items()
        }
        found[kind] = {"objects": len(of)} | means
    return found


def measure_sources(subjects: list[Subject], space: Space, *, points: int, seed: int) -> dict[str, float]:
    """Mean label accuracy where several labelled objects decide: so many, drawn, and `ONE_OF_EACH_KIND`. Each object is a target once.

    Points of parts that no source has are not asked.
    """
    coordinates = [space(subject) for subject in subjects]
    labelled = [_labelled(*pair) for pair in zip(subjects, coordinates, strict=True)]

    def accuracy(target: int, rows: np.ndarray, chosen: list[int]) -> float | None:
        truth = subjects[target].labels[rows]
        shared = np.isin(truth, sorted(frozenset().union(*(subjects[s].parts for s in chosen))))
        if not shared.any():
            return None
        trees = PartTrees([labelled[s] for s in chosen])
        labels, _ = carried_labels(trees, coordinates[target], subjects[target].segmenter, np.inf)
        return float((labels[rows] == truth)[shared].mean())

    choices: dict[str, tuple[int, Callable[[list[int]], list[int]]]] = {
        str(count): (count, lambda others, count=count: others[:count]) for count in SOURCES if count < len(subjects)
    }
    choices[ONE_OF_EACH_KIND] = 1, lambda others: list({subjects[s].kind: s for s in reversed(others)}.values())
    found = {}
    for name, (stream, choose) in choices.items():
        scores = []
        for t, target in enumerate(subjects):
            rng = np.random.default_rng([seed, stream, t])
            others = [s for s in rng.permutation(len(subjects)).tolist() if s != t]
            scores.append(accuracy(t, rng.permutation(len(target.labels))[:points], choose(others)))
        found[name] = float(np.mean([score for score in scores if score is not None]))
    return found


def _some(rows: np.ndarray) -> np.ndarray:
    """Those of `LABELLED_POINTS` vertices."""
    return rows[np.random.default_rng(0).permutation(len(rows))[:LABELLED_POINTS]]


def _labelled(subject: Subject, coordinates: np.ndarray) -> LabelledPoints:
    mesh = subject.segmenter.mesh
    pieces = typical_pieces(mesh, subject.labels[mesh.faces[:, 0]])
    return LabelledPoints(_some(coordinates), _some(subject.labels), pieces)


def mean_iou(found: Int[np.ndarray, " n"], truth: Int[np.ndarray, " n"], parts: Iterable[int]) -> float | None:
    """Intersection over union, averaged over the parts that the truth has."""
    scores = []
    for part in parts:
        if (truth == part).any():
            either = ((found == part) | (truth == part)).sum()
            scores.append(((found == part) & (truth == part)).sum() / either)
    return float(np.mean(scores)) if scores else None


def auc(distance: Float[np.ndarray, " n"], missing: Bool[np.ndarray, " n"]) -> float | None:
    """Probability that a missing point's distance exceeds another's (area under the ROC curve); ties count half."""
    from scipy.stats import rankdata

    count = int(missing.sum())
    rest = len(missing) - count
    if not count or not rest:
        return None
    return float((rankdata(distance)[missing].sum() - count * (count + 1) / 2) / (count * rest))
