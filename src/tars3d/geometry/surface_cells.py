"""A surface gathered in the cells of a grid, for averages over surroundings whose cost does not grow with the fineness of the mesh.

Called by `correspondence.mean_normals` and `geometry.creases`.
"""

from dataclasses import dataclass

import numpy as np
import trimesh
from jaxtyping import Float, Int
from scipy.spatial import KDTree

_ALONG = 3
"""Cells along the radius of the surroundings."""


@dataclass(frozen=True)
class SurfaceCells:
    """The cells of a grid that a surface passes through; none where it has no area.

    Attributes:
        area: of the surface in each.
        centres: of that surface.
        normals: sum of its area times its outward unit normal.
    """

    area: Float[np.ndarray, " cells"]
    centres: Float[np.ndarray, "cells 3"]
    normals: Float[np.ndarray, "cells 3"]

    @classmethod
    def of(cls, mesh: trimesh.Trimesh, radius: float) -> "SurfaceCells":
        """Faces gathered by their centres in cubes as averages within `radius` need them."""
        area = np.asarray(mesh.area_faces)[:, None]
        if not len(area) or area.sum() == 0:
            return cls(np.zeros(0), np.zeros((0, 3)), np.zeros((0, 3)))
        corners = np.asarray(mesh.triangles)
        # Half the cross product of two sides: the area times the unit normal, and no division where a face is a sliver.
        normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]) / 2
        centre = corners.mean(axis=1)
        _, cell = np.unique(np.floor(centre * (_ALONG / radius)).astype(np.int64), axis=0, return_inverse=True)
        sums = np.zeros((cell.max() + 1, 7))
        np.add.at(sums, cell.reshape(-1), np.hstack([area, area * centre, normal]))
        sums = sums[sums[:, 0] > 0]
        return cls(sums[:, 0], sums[:, 1:4] / sums[:, :1], sums[:, 4:])

    def around(
        self, points: Float[np.ndarray, "points 3"]
    ) -> tuple[Float[np.ndarray, "points near"], Int[np.ndarray, "points near"]]:
        """Distances and numbers of the cells nearest to each point: more than lie within the radius, on both sides of a board."""
        near = min(8 * _ALONG**2, len(self.area))
        distance, index = KDTree(self.centres).query(points, k=near)
        return np.asarray(distance).reshape(len(points), near), np.asarray(index).reshape(len(points), near)
