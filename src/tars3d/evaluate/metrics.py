"""The published metrics of a reconstruction against a ground-truth cloud, and their summary over a data set.

Every distance is Euclidean and not squared; everything here is in the units of the points until `summarise`
multiplies by ten, as the paper's tables do. Definitions: paper §A.4, read as in docs/paper-vs-code.md, P10 and P11.
`tars3d evaluate` and the benchmarks call `score_reconstruction` for each instance and `summarise` once.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
import trimesh
from jaxtyping import Bool, Float
from scipy.spatial import KDTree
from scipy.spatial.distance import cdist

from tars3d.evaluate.assignment import ASSIGNMENT_LIMIT, AUCTION_EPSILON, assign
from tars3d.evaluate.icp import icp
from tars3d.geometry.masks import mask_iou
from tars3d.geometry.triangles import sample_surface


@dataclass(frozen=True)
class Protocol:
    """How the scores were made; printed with them."""

    samples: int = 100_000
    """Points on the predicted surface, area-weighted."""
    threshold: float = 0.1
    """Distance for precision and recall, in the units of the points."""
    emd_points: int = 1024
    """Points drawn from each cloud for EMD; 0 leaves EMD out."""
    icp_iterations: int = 0
    """Of rigid alignment of the prediction before scoring; 0 is none, the paper has 50 on Pascal3D+ and
    Pix3D."""
    icp_points: int = 10_000
    """Predicted points that the alignment uses."""
    resolution: int | None = None
    """Cells a side of the marching cubes grid that made the mesh, where it is known."""

    def describe(self) -> dict:
        """For people and for JSON."""
        exact = self.emd_points <= ASSIGNMENT_LIMIT
        solver = "exact assignment" if exact else f"auction, at most {10 * AUCTION_EPSILON:g} above the exact one (x10)"
        aligned = f"rigid ICP, {self.icp_iterations} iterations, {self.icp_points} points"
        return {
            "samples": self.samples,
            "resolution": self.resolution,
            "emd_points": self.emd_points,
            "emd_solver": solver if self.emd_points else None,
            "threshold": self.threshold,
            "alignment": aligned if self.icp_iterations else "none",
            "distance": "Euclidean, not squared, x10",
            "fscore": "from the data set's mean precision and recall",
            "empty": "scored as one point at the origin",
        }


@dataclass(frozen=True)
class InstanceScore:
    """One reconstruction's figures: raw distances, precision and recall as shares in [0, 1]."""

    accuracy: float
    """Mean distance from predicted points to the truth."""
    coverage: float
    """Mean distance from true points to the prediction."""
    precision: float
    recall: float
    emd: float | None
    normal_consistency: float | None
    """None without true normals; 0 for an empty surface."""
    mask_iou: float | None
    """None without masks."""
    empty: bool
    """There was no surface; the figures are those of `worst_case_score`."""
    protocol: Protocol

    @property
    def chamfer_x10(self) -> float:
        """The mean of accuracy and coverage, times ten as in the paper's tables."""
        return 5 * (self.accuracy + self.coverage)


def nearest(
    points: Float[np.ndarray, "n 3"], cloud: Float[np.ndarray, "m 3"]
) -> tuple[Float[np.ndarray, " n"], np.ndarray]:
    """Distance to, and index of, the nearest point of a cloud, for each point."""
    if len(points) == 0 or len(cloud) == 0:
        raise ValueError(f"distances between clouds of {len(points)} and {len(cloud)} points do not exist")
    distance, index = KDTree(cloud).query(points, workers=1)
    return np.asarray(distance), np.asarray(index)


def fscore(precision: float, recall: float) -> float:
    """Harmonic mean; 0 where both are 0."""
    return 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0


def emd(
    prediction: Float[np.ndarray, "n 3"],
    truth: Float[np.ndarray, "m 3"],
    count: int = 1024,
    *,
    seed: int | Sequence[int],
) -> float:
    """Earth mover's distance: the mean distance under the cheapest one-to-one pairing of `count` points drawn
    from each cloud (without repetition where it has so many), see `assignment`. It has a floor: two samples of the same
    surface are not 0 apart (about 0.04 at 1024 points on a shape of size 1), so a value means nothing without
    its count."""
    if len(prediction) == 0 or len(truth) == 0:
        raise ValueError(f"EMD between clouds of {len(prediction)} and {len(truth)} points does not exist")
    rng = np.random.default_rng(seed)
    source = prediction[rng.choice(len(prediction), count, replace=len(prediction) < count)]
    target = truth[rng.choice(len(truth), count, replace=len(truth) < count)]
    cost = cdist(source, target)
    # An empty surface: every assignment costs the same, and an auction would be a long one.
    if (source == source[0]).all():
        return float(cost.mean())
    return float(cost[np.arange(count), assign(cost)].mean())


def _agreement(normals: np.ndarray, true_normals: np.ndarray, to_truth: np.ndarray, to_prediction: np.ndarray) -> float:
    """Mean absolute cosine between normals at nearest points, averaged over both directions; in [0, 1]. The
    sign is left out because many ground-truth meshes mix their windings."""
    forward = np.abs(np.einsum("nk,nk->n", normals, true_normals[to_truth])).mean()
    backward = np.abs(np.einsum("nk,nk->n", true_normals, normals[to_prediction])).mean()
    return float(forward + backward) / 2


def score_reconstruction(
    mesh: trimesh.Trimesh,
    truth_points: Float[np.ndarray, "m 3"],
    truth_normals: Float[np.ndarray, "m 3"] | None = None,
    *,
    seed: int,
    protocol: Protocol,
    masks: tuple[Bool[np.ndarray, "height width"], Bool[np.ndarray, "height width"]] | None = None,
) -> InstanceScore:
    """All figures of one reconstruction; a mesh without area is scored by `worst_case_score`.

    Args:
        mesh: the prediction, in the frame of the truth.
        truth_points, truth_normals: the ground truth cloud, all of which is used (the paper's ShapeNet clouds
            have 30,000).
        seed: of the surface samples and of the draw for EMD.
        masks: predicted and true silhouette, for mask IoU.
    """
    if len(truth_points) == 0 or not np.isfinite(truth_points).all():
        raise ValueError("the ground truth is empty or has points that are not finite")
    if len(mesh.faces) == 0 or not mesh.area > 0:
        return worst_case_score(truth_points, truth_normals, seed=seed, protocol=protocol, masks=masks)
    points, normals, _ = sample_surface(np.asarray(mesh.triangles), protocol.samples, np.random.default_rng([seed, 0]))
    if protocol.icp_iterations:
        few = points[: protocol.icp_points]  # the samples are in random order already
        motion = icp(few, truth_points, iterations=protocol.icp_iterations)
        points, normals = motion.apply(points), normals @ motion.rotation.T
    return _score(points, normals, truth_points, truth_normals, seed, masks, protocol, empty=False)


def worst_case_score(
    truth_points: Float[np.ndarray, "m 3"],
    truth_normals: Float[np.ndarray, "m 3"] | None = None,
    *,
    seed: int,
    protocol: Protocol,
    masks: tuple[np.ndarray, np.ndarray] | None = None,
) -> InstanceScore:
    """The score of an empty surface. The published code puts all 100,000 points at the origin, and so do we
    (one point says the same). Distances follow; precision is 1 or 0, whether the truth comes within the
    threshold of the origin or not. Normal consistency is 0. Nothing is aligned. `summarise` counts these."""
    origin = np.zeros((1, 3))
    score = _score(origin, origin, truth_points, truth_normals, seed, masks, protocol, empty=True)
    return replace(score, normal_consistency=0.0)


def _score(
    points: np.ndarray,
    normals: np.ndarray,
    truth: np.ndarray,
    true_normals: np.ndarray | None,
    seed: int,
    masks: tuple[np.ndarray, np.ndarray] | None,
    protocol: Protocol,
    empty: bool,
) -> InstanceScore:
    distance, to_truth = nearest(points, truth)
    true_distance, to_prediction = nearest(truth, points)
    return InstanceScore(
        accuracy=float(distance.mean()),
        coverage=float(true_distance.mean()),
        precision=float((distance <= protocol.threshold).mean()),
        recall=float((true_distance <= protocol.threshold).mean()),
        emd=emd(points, truth, protocol.emd_points, seed=[seed, 1]) if protocol.emd_points else None,
        normal_consistency=None if true_normals is None else _agreement(normals, true_normals, to_truth, to_prediction),
        mask_iou=None if masks is None else mask_iou(*masks),
        empty=empty,
        protocol=protocol,
    )


def summarise(scores: Sequence[InstanceScore]) -> dict:
    """Means over a data set in the paper's units: distances x10, shares in percent, F from the mean precision
    and recall.

    Returns:
        chamfer_x10 {accuracy, coverage, overall}, emd_x10, precision, recall, fscore, mask_iou,
        normal_consistency (in [0, 1]; both None where no instance has one, else over those that have), count,
        empty, protocol. Fit for JSON.

    Raises:
        ValueError: there are no scores, or they were made under different protocols.
    """
    if not scores:
        raise ValueError("there are no scores to summarise")
    protocols = {score.protocol for score in scores}
    if len(protocols) > 1:
        listed = "; ".join(str(asdict(protocol)) for protocol in protocols)
        raise ValueError(f"scores of different protocols cannot be averaged: {listed}")

    def mean(name: str, scale: float) -> float | None:
        values = [value for score in scores if (value := getattr(score, name)) is not None]
        return scale * float(np.mean(values)) if values else None

    # An empty surface has a normal consistency even where the truth has no normals: it must not stand in for
    # them.
    with_normals = all(s.empty for s in scores) or any(s.normal_consistency is not None and not s.empty for s in scores)

    accuracy, coverage, precision, recall = np.mean(
        [[s.accuracy, s.coverage, s.precision, s.recall] for s in scores], axis=0
    ) * [10.0, 10.0, 100.0, 100.0]
    return {
        "chamfer_x10": {
            "accuracy": float(accuracy),
            "coverage": float(coverage),
            "overall": float(accuracy + coverage) / 2,
        },
        "emd_x10": mean("emd", 10.0),
        "precision": float(precision),
        "recall": float(recall),
        "fscore": fscore(float(precision), float(recall)),
        "mask_iou": mean("mask_iou", 1.0),
        "normal_consistency": mean("normal_consistency", 1.0) if with_normals else None,
        "count": len(scores),
        "empty": sum(score.empty for score in scores),
        "protocol": scores[0].protocol.describe(),
    }
