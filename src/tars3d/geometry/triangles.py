"""Triangles as files give them: whether their vertices are there, and points spread evenly over them.

`data`, `export` and `transfer` check what they read; `photo.texture`, `transfer.painted`, `evaluate.metrics` and `data.rendering.meshes` sample surfaces.
"""

import numpy as np
from jaxtyping import Float, Int


def faces_fit(faces: Int[np.ndarray, "faces corners"], vertices: int) -> bool:
    """Whether the faces name only vertices that are there, as damaged files' do not."""
    return not faces.size or bool(faces.min() >= 0 and faces.max() < vertices)


def sample_faces(
    triangles: Float[np.ndarray, "faces 3 3"], count: int, rng: np.random.Generator
) -> tuple[Int[np.ndarray, " count"], Float[np.ndarray, "count 3"]]:
    """Faces and barycentric weights of points spread evenly over a surface.

    Raises:
        ValueError: the surface has no area.
    """
    double_area = np.linalg.norm(np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]), axis=1)
    if not double_area.sum() > 0:
        raise ValueError("the mesh has no area to sample")
    face = rng.choice(len(triangles), size=count, p=double_area / double_area.sum())
    u, v = rng.random((2, count))
    fold = u + v > 1
    u, v = np.where(fold, 1 - u, u), np.where(fold, 1 - v, v)
    return face, np.stack([1 - u - v, u, v], axis=1)


def sample_surface(
    triangles: Float[np.ndarray, "faces 3 3"], count: int, rng: np.random.Generator
) -> tuple[Float[np.ndarray, "count 3"], Float[np.ndarray, "count 3"], Int[np.ndarray, " count"]]:
    """Points spread evenly over a surface, the unit normals of their faces, and the faces.

    Raises:
        ValueError: the surface has no area.
    """
    face, weights = sample_faces(triangles, count, rng)
    corners = triangles[face]
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    return np.einsum("nk,nkc->nc", weights, corners), cross / np.linalg.norm(cross, axis=1, keepdims=True), face
