"""Which point of one object is the same place as which point of another: nearest neighbours in canonical
space.

Called by `tars3d transfer`, the evaluation of correspondences and the pictures of reports. A canonical map
is an array [points, 3 + k]: the place on the category's canonical shape, then k point features.
"""

import numpy as np
from jaxtyping import Float, Int, UInt8
from scipy.spatial import KDTree


def canonical_colors(
    canonical: Float[np.ndarray, "points channels"], low: float = -0.5, high: float = 0.5
) -> UInt8[np.ndarray, "points 3"]:
    """Colours of canonical places: x, y, z from `low` to `high` become red, green, blue.

    The range is fixed, not that of the mesh at hand, so equal colours mean equal canonical places in all
    pictures. Places outside the range take its end colour.
    """
    unit = (np.asarray(canonical)[:, :3] - low) / (high - low)
    return np.round(np.clip(unit, 0.0, 1.0) * 255).astype(np.uint8)


def match(
    source_canonical: Float[np.ndarray, "source channels"],
    target_canonical: Float[np.ndarray, "target channels"],
    *,
    feature_weight: float = 0.0,
) -> tuple[Int[np.ndarray, " target"], Float[np.ndarray, " target"]]:
    """The source point that each target point corresponds to.

    Args:
        feature_weight: what a unit of point feature counts against a unit of canonical space. At 0 places
        alone decide, as
            in the published texture transfer (FACTS section 8); more keeps apart parts that are deformed
            onto each other.

    Returns:
        index: row of `source_canonical`, for each target point.
        distance: of the two in (weighted) canonical space; large where the target has a part that the source
        lacks.
    """
    source = _weighted(source_canonical, feature_weight)
    target = _weighted(target_canonical, feature_weight)
    if source.shape[1] != target.shape[1]:
        raise ValueError(f"canonical maps of different models: {source.shape[1]} and {target.shape[1]} channels")
    if len(source) == 0:
        raise ValueError("the source has no points to match with")
    distance, index = KDTree(source).query(target)
    return np.asarray(index, dtype=np.int64), np.asarray(distance)


def cycle_consistency(
    source_canonical: Float[np.ndarray, "source channels"],
    target_canonical: Float[np.ndarray, "target channels"],
    source_points: Float[np.ndarray, "source 3"],
    *,
    feature_weight: float = 0.0,
) -> Float[np.ndarray, " source"]:
    """How far each source point lands from itself, in object space, after going to the target and back.

    Small where both objects have the part; a point of a part that the target lacks comes back elsewhere.
    Needs no labels, so it serves as a confidence for transferred colours and keypoints.
    """
    there, _ = match(target_canonical, source_canonical, feature_weight=feature_weight)
    back, _ = match(source_canonical, target_canonical, feature_weight=feature_weight)
    points = np.asarray(source_points)
    return np.linalg.norm(points[back[there]] - points, axis=1)


def _weighted(canonical: np.ndarray, feature_weight: float) -> np.ndarray:
    canonical = np.asarray(canonical, dtype=np.float64)
    if feature_weight == 0:
        return canonical[:, :3]
    return np.concatenate([canonical[:, :3], feature_weight * canonical[:, 3:]], axis=1)
