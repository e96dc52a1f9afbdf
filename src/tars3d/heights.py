"""Heights of one object brought to those of its category, so that seats meet seats although one is higher.

A surface's canonical places are right on the whole and wrong in places: legs are deformed onto the seat. The whole of a surface at one
height says where that height belongs. `correspondence` compares the result beside canonical places.
"""

import numpy as np
import trimesh
from jaxtyping import Float

HEIGHT_REACH = 0.2
"""Object units: standard deviation of the heights that are averaged; chosen on seeds 8 to 10 of `tars3d bench correspondence`."""
_UPRIGHT = 1e-3
"""What a vertical face counts, of its area: next to nothing, but an object of nothing else has levels, too."""
_CELLS = 10
"""Heights along `HEIGHT_REACH` at which faces are gathered and the average is taken."""


def levelled_heights(
    mesh: trimesh.Trimesh,
    canonical: Float[np.ndarray, "vertices channels"],
    points: Float[np.ndarray, "points 3"],
    reach: float = HEIGHT_REACH,
) -> Float[np.ndarray, " points"]:
    """Canonical height of the level that each point lies on, in canonical units.

    The height (Y) of a point, and how far the surface around that height lies from its canonical height, on the mean: a
    Gaussian kernel regression (Nadaraya and Watson's estimate) of the canonical displacement along Y by the height alone. A face
    counts with its area as seen from above: seats, roofs and wings say where their height belongs, walls and legs pass through
    all heights. It needs no second object, so levels are the same for every pair. The object must stand upright, Y up.

    Args:
        canonical: of the vertices of `mesh`: canonical position first.
        points: object frame, on the surface; above and below it the displacement of its top and bottom holds.
        reach: standard deviation of the kernel, object units.

    Returns:
        The points' own heights where the mesh has no area.
    """
    heights = np.asarray(points, dtype=np.float64)[:, 1]
    corners, faces = np.asarray(mesh.triangles, dtype=np.float64), np.asarray(mesh.faces)
    if not len(heights) or not len(faces):
        return heights.copy()
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]) / 2
    weight = np.abs(normal[:, 1]) + _UPRIGHT * np.linalg.norm(normal, axis=1)
    if not weight.any():
        return heights.copy()
    middle = corners[:, :, 1].mean(axis=1)
    lift = np.asarray(canonical, dtype=np.float64)[:, 1][faces].mean(axis=1) - middle
    cell = np.floor((middle - middle.min()) * (_CELLS / reach)).astype(np.int64)
    total, at, raised = (np.bincount(cell, values) for values in (weight, weight * middle, weight * lift))
    kept = total > 0
    total, at, raised = total[kept], at[kept] / total[kept], raised[kept]
    levels = np.linspace(at[0], at[-1], max(2, int((at[-1] - at[0]) * _CELLS / reach) + 1))
    share = np.exp(-((levels[:, None] - at) ** 2) / (2 * reach**2)) * total
    return heights + np.interp(heights, levels, (share @ (raised / total)) / share.sum(axis=1))
