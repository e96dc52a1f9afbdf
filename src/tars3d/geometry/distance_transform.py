"""Distance of every pixel to the silhouette's edge: how far a ray can be told to miss, or to hit, without
any 3D shape.

Called by the training data sets (the ray bounds of the silhouette loss), by the sampling of rays near edges and by
`antialiasing`.
"""

import numpy as np
from jaxtyping import Bool, Float32
from scipy.ndimage import distance_transform_edt


def distance_transform(mask: Bool[np.ndarray, "height width"]) -> Float32[np.ndarray, "height width"]:
    """Unsigned distance to the edge of the silhouette, in pixels, for foreground and background pixels alike.

    The distance is Euclidean, from a pixel's centre to the nearest centre of a pixel of the other class,
    less 0.5: pixels that touch the edge have 0.5. The border of the picture is no edge. The published
    code calls vigra's `boundaryDistanceTransform` for this (docs/paper-vs-code.md, C8). To turn pixels into scene
    units: orthographic, divide by the scale of the camera; perspective, divide by the focal length (then in units
    of the z = 1 plane).

    A mask without an edge (all object, or all ground) has no distance: the picture's diagonal stands in for
    it everywhere.
    """
    mask = np.asarray(mask, dtype=bool)
    if mask.ndim != 2:
        raise ValueError(f"mask: expected [height, width], got shape {mask.shape}")
    if mask.size == 0 or mask.all() or not mask.any():
        return np.full(mask.shape, np.hypot(*mask.shape), dtype=np.float32)
    # The two transforms are zero on each other's side, so their sum is the distance on both.
    distance = np.asarray(distance_transform_edt(mask)) + np.asarray(distance_transform_edt(~mask))
    return (distance - 0.5).astype(np.float32)
