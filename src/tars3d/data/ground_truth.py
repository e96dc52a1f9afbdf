"""Ground-truth surfaces on disk: NPZ with points, normals and labels, NPY clouds, or meshes. Only evaluation reads them.

Called by `tars3d.data.collection.ImageCollection`.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import trimesh
from jaxtyping import Float

from tars3d.errors import UserError, reason_of
from tars3d.geometry.triangles import faces_fit

PLY_SAMPLES = 30_000


@dataclass(frozen=True, eq=False)
class Surface:
    """Ground truth in a data set's own file, and how its coordinates become the object frame."""

    file: Path
    """.npz with "points", .npy [N, 3], or a mesh or cloud that trimesh reads (.ply, .obj, .off)."""
    transform: Float[np.ndarray, "3 4"]
    """[A | b]: a point p of the file is A p + b in the object frame."""
    normals: bool = True
    """Whether the file's normals belong to its points."""

    def load(self) -> tuple[Float[np.ndarray, "points 3"], Float[np.ndarray, "points 3"] | None]:
        """Points and, where there are any, unit normals, in the object frame; a mesh is sampled.

        Raises:
            UserError: the file is damaged.
        """
        points, normals = load_cloud(self.file)
        linear, offset = self.transform[:, :3], self.transform[:, 3]
        moved = (np.asarray(points, np.float64) @ linear.T + offset).astype(np.float32)
        if normals is None or not self.normals:
            return moved, None
        turned = np.asarray(normals, np.float64) @ np.linalg.inv(linear)
        length = np.linalg.norm(turned, axis=1, keepdims=True)
        return moved, (turned / np.maximum(length, 1e-12)).astype(np.float32)


def load_cloud(file: Path) -> tuple[Float[np.ndarray, "points 3"], Float[np.ndarray, "points 3"] | None]:
    """Points and normals (or None) of any file that may hold ground truth, in its own coordinates.

    Raises:
        UserError: it cannot be read.
    """
    if file.suffix == ".npz":
        arrays = load_npz(file)
        return arrays["points"], arrays.get("normals")
    if file.suffix != ".npy":
        return load_ply(file)
    try:
        points = np.load(file, allow_pickle=False)
    except Exception as error:  # zipfile and numpy each have their own
        raise UserError(f"{file}: cannot be read ({reason_of(error)}); copy it again") from error
    if not isinstance(points, np.ndarray):
        raise UserError(
            f"{file}: holds named arrays, as .npz does; name it so, or save the points again with numpy.save"
        )
    if points.ndim != 2 or points.shape[1] != 3 or not len(points) or not _finite(points):
        holds = f"{points.dtype}{list(points.shape)}"
        raise UserError(f"{file}: holds {holds}; a cloud needs finite numbers [N, 3], copy it again")
    return points, None


def _finite(values: np.ndarray) -> bool:
    """Whether these are numbers, none of them NaN or infinite."""
    return values.dtype.kind in "fiu" and bool(np.isfinite(values).all())


def load_npz(file: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(file, allow_pickle=False) as stored:
            arrays = {key: stored[key] for key in stored.files}
    except Exception as error:  # zipfile, zlib and numpy each have their own
        raise UserError(f"{file}: cannot be read ({reason_of(error)}); write it again with numpy.savez") from error
    points = arrays.get("points")
    if points is None or points.ndim != 2 or points.shape[1] != 3 or not len(points):
        raise UserError(f"{file}: needs 'points' of the shape [N, 3]; write it again")
    for key, shape in (("normals", points.shape), ("labels", points.shape[:1])):
        if key in arrays and arrays[key].shape != shape:
            raise UserError(f"{file}: '{key}' has the shape {arrays[key].shape}, must have {shape}; write it again")
    for key in ("points", "normals"):
        if key in arrays and not _finite(arrays[key]):
            raise UserError(f"{file}: has {key} that are NaN, infinite or no numbers; sample the surface again")
    return arrays


def load_ply(file: Path) -> tuple[Float[np.ndarray, "points 3"], Float[np.ndarray, "points 3"] | None]:
    try:
        # a PLY may be a cloud; other files may hold scenes of several parts
        if file.suffix == ".ply":
            loaded = trimesh.load(file, process=False)
        else:
            loaded = trimesh.load(file, process=False, force="mesh")
        points = np.asarray(loaded.vertices, np.float32)  # pyright: ignore[reportAttributeAccessIssue]
    except Exception as error:
        raise UserError(
            f"{file}: cannot be read as {file.suffix[1:].upper()} ({reason_of(error)}); export it again"
        ) from error
    if not len(points) or not np.isfinite(points).all():
        raise UserError(f"{file}: holds no points, or points that are not finite; export it again")
    if isinstance(loaded, trimesh.Trimesh) and len(loaded.faces):
        if not faces_fit(loaded.faces, len(points)):
            raise UserError(f"{file}: has faces of vertices that are not there; export it again")
        sampled, face = trimesh.sample.sample_surface(loaded, PLY_SAMPLES, seed=0)[:2]
        return np.asarray(sampled, np.float32), np.asarray(loaded.face_normals[face], np.float32)
    return points, None
