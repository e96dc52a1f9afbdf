"""How often a triangle mesh winds around a point: 1 inside, 0 outside; `methods.mesh` tells inside from outside by it."""

import numpy as np
from jaxtyping import Float

_PAIRS_AT_ONCE = 2_000_000


def winding_number(
    triangles: Float[np.ndarray, "faces 3 3"], points: Float[np.ndarray, "points 3"]
) -> Float[np.ndarray, " points"]:
    """The solid angle that all faces, wound outward, fill as seen from each point, over 4π.

    Each face's is 2 atan2(a · (b × c), |a||b||c| + (a·b)|c| + (b·c)|a| + (c·a)|b|) (van Oosterom and Strackee, 1983).
    """
    found = np.empty(len(points))
    step = max(1, _PAIRS_AT_ONCE // max(1, len(triangles)))
    for start in range(0, len(points), step):
        corners = triangles[None] - points[start : start + step, None, None]
        a, b, c = corners[:, :, 0], corners[:, :, 1], corners[:, :, 2]
        la, lb, lc = (np.linalg.norm(side, axis=-1) for side in (a, b, c))
        volume = (a * np.cross(b, c)).sum(-1)
        spread = la * lb * lc + (a * b).sum(-1) * lc + (b * c).sum(-1) * la + (c * a).sum(-1) * lb
        found[start : start + step] = np.arctan2(volume, spread).sum(1) / (2 * np.pi)
    return found
