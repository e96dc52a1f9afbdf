"""The nearest points of a triangle mesh.

Transfer finds a re-exported mesh's vertices on its reconstruction with it, `methods.mesh` the distance to a mesh and what lies nearest on it.
"""

from typing import Any

import numpy as np
import trimesh
from jaxtyping import Float, Int
from scipy.spatial import KDTree

_AT_ONCE = 20_000


def closest_on_mesh(
    mesh: trimesh.Trimesh, points: Float[np.ndarray, "points 3"], *, candidates: int = 16
) -> tuple[Float[np.ndarray, " points"], Int[np.ndarray, " points"], Float[np.ndarray, "points 3"]]:
    """Distance to the surface, nearest face, and barycentric weights of the nearest point in it.

    Only the `candidates` faces with the nearest centroids are looked at, which is exact where triangles are small and
    even, as those of reconstructions are, and slightly too far beside long slivers.
    """
    triangles = np.asarray(mesh.triangles, dtype=np.float64)
    points = np.asarray(points, dtype=np.float64)
    candidates = min(candidates, len(triangles))
    # As an array of ranks, so that a single candidate comes as a column too.
    ranks: Any = np.arange(1, candidates + 1)
    near = np.asarray(KDTree(triangles.mean(axis=1)).query(points, k=ranks)[1])
    face = np.empty(len(points), dtype=np.int64)
    nearest = np.empty((len(points), 3))
    for start in range(0, len(points), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        rows = near[part].ravel()
        asked = np.repeat(points[part], candidates, axis=0)
        found = trimesh.triangles.closest_point(triangles[rows], asked).reshape(-1, candidates, 3)
        best = np.linalg.norm(found - points[part, None], axis=2).argmin(axis=1)
        line = np.arange(len(best))
        nearest[part], face[part] = found[line, best], near[part][line, best]
    weights = trimesh.triangles.points_to_barycentric(triangles[face], nearest, method="cramer")
    weights = np.clip(np.nan_to_num(weights, nan=1 / 3), 0, None)  # a face without area has no weights of its own
    weights /= weights.sum(axis=1, keepdims=True)
    return np.linalg.norm(nearest - points, axis=1), face, weights
