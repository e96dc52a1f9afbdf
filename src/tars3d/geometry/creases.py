"""Where a surface is creased inwards: there parts meet, as people cut objects (minima rule: Hoffman and Richards, Cognition 1984).

Called by `labelling`.
"""

import numpy as np
import trimesh
from jaxtyping import Float

from tars3d.geometry.surface_cells import SurfaceCells

CREASE_RADIUS = 0.02
"""Object units within which the surface around a vertex is looked at; 0.015 to 0.03 are alike for part labels."""
_CORE = 0.6
"""Width of the Gaussian that weighs the surface around, in radii."""


def concavity(mesh: trimesh.Trimesh, radius: float = CREASE_RADIUS) -> Float[np.ndarray, " vertices"]:
    """How far the surface around each vertex lies above its tangent plane, in radii: above 0 in creases, 0 on planes, below on edges.

    The height is that of the centre of the surface within `radius`, nearer parts weighing more: an integral invariant (Pottmann et al.,
    CAGD 2009). 0 where the mesh has no area, or is so coarse that no middle of a face lies within the radius.
    """
    vertices, cells = np.asarray(mesh.vertices), SurfaceCells.of(mesh, radius)
    if not len(cells.area):
        return np.zeros(len(vertices))
    distance, index = cells.around(vertices)
    weight = np.where(distance <= radius, cells.area[index] * np.exp(-((distance / (_CORE * radius)) ** 2)), 0)
    above = np.einsum("nkc,nc->nk", cells.centres[index] - vertices[:, None], np.asarray(mesh.vertex_normals))
    return (weight * above).sum(axis=1) / np.maximum(weight.sum(axis=1), 1e-12) / radius
