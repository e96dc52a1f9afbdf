"""The zero surface of a field as a mesh: marching cubes over few field evaluations (`sparse_grid`), or all.

`methods.surface` calls `extract_mesh`, for reconstruction and for the measurements of training.
"""

from dataclasses import dataclass

import numpy as np
import trimesh
from skimage.measure import marching_cubes

from tars3d.geometry.sparse_grid import Evaluator, FieldFunction, refine


@dataclass(frozen=True)
class Isosurface:
    """What `extract_mesh` found."""

    mesh: trimesh.Trimesh
    """Vertices in the object frame, faces outward; empty (no vertex) where the field has no zero in the
    bounds."""
    evaluations: int
    """Points at which the field was evaluated."""
    dense_evaluations: int
    """Points that the full grid has."""
    reaches_bounds: bool
    """The inside touches the box, so the mesh is open there: the bounds are too small for this shape."""


def extract_mesh(
    sdf: FieldFunction,
    bounds: tuple[float, float] = (-0.55, 0.55),
    resolution: int = 128,
    *,
    dense: bool = False,
    chunk: int = 65536,
) -> Isosurface:
    """Marching cubes on a grid of `resolution` cells a side (`resolution` + 1 samples) over the cube
    `bounds`.

    Args:
        sdf: float32 points [n, 3] in the object frame to values [n], negative inside. Need not be an exact
            distance; `sparse_grid.refine` says what it must be for the mesh to be the dense grid's.
        bounds: low and high end of the box, on all three axes.
        dense: evaluate every sample of the grid; the plain way to the same mesh.
        chunk: most points in one call of `sdf`.

    Raises:
        FloatingPointError: the field gave NaN or infinite values; the message has the counts.
        ValueError: bounds, resolution or the field's output make no sense.
    """
    low, high = bounds
    if not (np.isfinite([low, high]).all() and low < high):
        raise ValueError(f"bounds {bounds}: the low end must be below the high end")
    if resolution < 1:
        raise ValueError(f"resolution {resolution}: at least one cell a side is needed")
    evaluate = Evaluator(sdf, low, (high - low) / resolution, chunk)
    volume = evaluate.whole_grid(resolution, 1) if dense else refine(evaluate, resolution)
    volume = np.ascontiguousarray(volume[: resolution + 1, : resolution + 1, : resolution + 1])

    inside = volume <= 0
    mesh = trimesh.Trimesh()
    if inside.any() and not inside.all():
        vertices, faces, _, _ = marching_cubes(volume, 0.0, gradient_direction="descent")
        mesh = trimesh.Trimesh(vertices.astype(np.float64) / resolution * (high - low) + low, faces, process=False)
    reaches_bounds = any(inside.take(end, axis).any() for axis in range(3) for end in (0, -1))
    return Isosurface(mesh, evaluate.count, (resolution + 1) ** 3, reaches_bounds)


def as_published(mesh: trimesh.Trimesh, bounds: tuple[float, float], resolution: int) -> trimesh.Trimesh:
    """A mesh of `extract_mesh` as the published evaluator scales it, for comparison (docs/paper-vs-code.md, Q1).

    It divides grid indices by the number of samples, `resolution` + 1, instead of the number of cells:
    everything shrinks a little towards the low corner of the bounds.
    """
    low = bounds[0]
    vertices = (np.asarray(mesh.vertices) - low) * resolution / (resolution + 1) + low
    return trimesh.Trimesh(vertices, mesh.faces, process=False)
