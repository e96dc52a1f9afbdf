"""Ground-truth surfaces on disk: NPZ with points, normals and labels, or PLY. Only evaluation reads them.

Called by `tars3d.data.collection.ImageCollection`.
"""

from pathlib import Path

import numpy as np
import trimesh
from jaxtyping import Float

from tars3d.errors import UserError

PLY_SAMPLES = 30_000


def load_npz(file: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(file, allow_pickle=False) as stored:
            arrays = {key: stored[key] for key in stored.files}
    except Exception as error:  # zipfile, zlib and numpy each have their own
        raise UserError(
            f"{file}: cannot be read ({str(error).splitlines()[0]}); write it again with numpy.savez"
        ) from error
    points = arrays.get("points")
    if points is None or points.ndim != 2 or points.shape[1] != 3 or not len(points):
        raise UserError(f"{file}: needs 'points' of the shape [N, 3]; write it again")
    for key, shape in (("normals", points.shape), ("labels", points.shape[:1])):
        if key in arrays and arrays[key].shape != shape:
            raise UserError(f"{file}: '{key}' has the shape {arrays[key].shape}, must have {shape}; write it again")
    if not np.isfinite(points).all():
        raise UserError(f"{file}: has points that are NaN or infinite; sample the surface again")
    return arrays


def load_ply(file: Path) -> tuple[Float[np.ndarray, "points 3"], Float[np.ndarray, "points 3"] | None]:
    try:
        loaded = trimesh.load(file, process=False)
        points = np.asarray(loaded.vertices, np.float32)  # pyright: ignore[reportAttributeAccessIssue]
    except Exception as error:
        raise UserError(f"{file}: cannot be read as PLY ({str(error).splitlines()[0]}); export it again") from error
    if not len(points) or not np.isfinite(points).all():
        raise UserError(f"{file}: holds no points, or points that are not finite; export it again")
    if isinstance(loaded, trimesh.Trimesh) and len(loaded.faces):
        sampled, face = trimesh.sample.sample_surface(loaded, PLY_SAMPLES, seed=0)[:2]
        return np.asarray(sampled, np.float32), np.asarray(loaded.face_normals[face], np.float32)
    return points, None
