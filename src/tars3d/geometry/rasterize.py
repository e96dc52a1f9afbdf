"""A z-buffer rasteriser in plain numpy: triangles are cut into rows and rows into pixels, array-wise.

Silhouettes for mask IoU, pictures of meshes (`geometry.views`), image textures and overlays are drawn with it. Nothing here is differentiable;
`soft_rasterizer` is.
"""

import numpy as np
import trimesh
from jaxtyping import Bool, Float, Int

_FRAGMENTS_AT_ONCE = 4_000_000
# In pixels: a centre on a shared edge belongs to both faces, so rounding leaves no gap between them.
_EDGE_SLACK = 1e-7


def rasterize(
    vertices_pixels: Float[np.ndarray, "vertices 2"],
    depth: Float[np.ndarray, " vertices"],
    faces: Int[np.ndarray, "faces 3"],
    height: int,
    width: int,
    *,
    perspective: bool = False,
) -> tuple[
    Int[np.ndarray, "height width"],
    Float[np.ndarray, "height width 3"],
    Float[np.ndarray, "height width"],
]:
    """Finds the nearest face at each pixel centre (j + 0.5, i + 0.5). Both sides of a face are drawn.

    Args:
        vertices_pixels: projected vertices (u, v), u to the right, v down; may lie outside the picture.
        depth: depth of the vertices along the camera's z axis, smaller is nearer.
        perspective: interpolate 1/depth instead of depth, as is right for a perspective picture. Faces with a
            vertex at or behind the camera plane are then left out (they are not clipped).

    Returns:
        face index (-1 for background), barycentric weights of the face's three vertices, and depth (inf for
        background).

    Raises:
        ValueError: a vertex that a face uses has no finite position.
    """
    faces = np.asarray(faces, dtype=np.int64).reshape(-1, 3)
    points = np.asarray(vertices_pixels, dtype=np.float64).reshape(-1, 2)
    z = np.asarray(depth, dtype=np.float64)
    nearest = np.full(height * width, np.inf)
    winner = np.full(height * width, -1, dtype=np.int64)

    alive = np.arange(len(faces))
    if perspective:
        alive = alive[(z[faces] > 1e-9).all(axis=1)]
    corners = points[faces[alive]]
    # What is compared is linear over the picture and smaller where nearer.
    order_key = -1.0 / z[faces[alive]] if perspective else z[faces[alive]]
    if not (np.isfinite(corners).all() and np.isfinite(order_key).all()):
        bad = int((~np.isfinite(corners).all(axis=(1, 2)) | ~np.isfinite(order_key).all(axis=1)).sum())
        raise ValueError(f"{bad} of {len(faces)} faces have a vertex without a finite position")

    area = _cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    # Written out per corner, here and below: numpy reduces short axes several times slower.
    a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
    low, high = np.minimum(np.minimum(a, b), c), np.maximum(np.maximum(a, b), c)
    on_picture = (high[:, 0] >= 0) & (high[:, 1] >= 0) & (low[:, 0] <= width) & (low[:, 1] <= height)
    keep = on_picture & (np.abs(area) > 1e-12)
    alive, corners, order_key, area = alive[keep], corners[keep], order_key[keep], area[keep]
    low, high = low[keep], high[keep]

    first_row = np.clip(np.ceil(low[:, 1] - 0.5), 0, height).astype(np.int64)
    rows = np.clip(np.floor(high[:, 1] - 0.5).astype(np.int64) + 1, 0, height) - first_row
    most_pixels = np.maximum(rows, 0) * np.minimum(np.ceil(high[:, 0] - low[:, 0]) + 1, width)
    batch = np.cumsum(most_pixels) // _FRAGMENTS_AT_ONCE
    slope, at_origin = _plane(corners, order_key, area)
    for faces_of_batch in np.split(np.arange(len(alive)), np.flatnonzero(np.diff(batch)) + 1):
        row_face, row = _expand(faces_of_batch, first_row[faces_of_batch], rows[faces_of_batch])
        start, stop = _spans(corners[row_face], area[row_face], row + 0.5, width)
        along, column = _expand(np.arange(len(row_face)), start, stop - start)
        face = row_face[along]
        key = (at_origin[row_face] + slope[row_face, 1] * (row + 0.5))[along] + slope[face, 0] * (column + 0.5)
        pixel = row[along] * width + column

        closer = key < nearest[pixel]
        key, pixel, face = key[closer], pixel[closer], face[closer]
        np.minimum.at(nearest, pixel, key)
        best = key == nearest[pixel]
        # Equal depths go to the lowest face index, whatever the order in which numpy assigns.
        winner[pixel[best]] = len(faces)
        np.minimum.at(winner, pixel[best], alive[face[best]])

    hit = np.flatnonzero(winner >= 0)
    weights = np.zeros((height * width, 3))
    depth_map = np.full(height * width, np.inf)
    if len(hit):
        weights[hit], depth_map[hit] = _interpolate(points, z, faces[winner[hit]], hit, width, perspective)
    return winner.reshape(height, width), weights.reshape(height, width, 3), depth_map.reshape(height, width)


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]


def _row_sums(a: np.ndarray) -> np.ndarray:
    return np.einsum("nk->n", a)[:, None]


def _expand(owners: np.ndarray, first: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The pairs (owner, first + 0), (owner, first + 1), ... with `counts` of them for each owner."""
    counts = np.maximum(counts, 0)
    ends = np.cumsum(counts)
    total = int(ends[-1]) if len(ends) else 0
    position = np.arange(total) - np.repeat(ends - counts, counts) + np.repeat(first, counts)
    return np.repeat(owners, counts), position


def _spans(corners: np.ndarray, area: np.ndarray, y: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Columns [start, stop) whose centres are in the triangle on the pixel row with centre y."""
    left, right = np.full(len(y), -np.inf), np.full(len(y), np.inf)
    for k in range(3):
        a, b = corners[:, k], corners[:, (k + 1) % 3]
        step = (b - a) * np.sign(area)[:, None]
        # Inside is step.x * (y - a.y) - step.y * (x - a.x) >= 0, linear in x.
        with np.errstate(divide="ignore", invalid="ignore"):
            bound = a[:, 0] + step[:, 0] * (y - a[:, 1]) / step[:, 1]
        left = np.where(step[:, 1] < 0, np.maximum(left, bound), left)
        right = np.where(step[:, 1] > 0, np.minimum(right, bound), right)
    start = np.ceil(np.clip(left, -1, width + 1) - 0.5 - _EDGE_SLACK).astype(np.int64)
    stop = np.floor(np.clip(right, -1, width + 1) - 0.5 + _EDGE_SLACK).astype(np.int64) + 1
    return np.clip(start, 0, width), np.clip(stop, 0, width)


def _plane(corners: np.ndarray, values: np.ndarray, area: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The linear function with these values at three corners: (slopes [n, 2], value at the origin [n])."""
    ab, ac = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    vb, vc = values[:, 1] - values[:, 0], values[:, 2] - values[:, 0]
    slope = np.stack([vb * ac[:, 1] - vc * ab[:, 1], vc * ab[:, 0] - vb * ac[:, 0]], axis=1) / area[:, None]
    return slope, values[:, 0] - (slope * corners[:, 0]).sum(axis=1)


def _interpolate(
    points: np.ndarray,
    depth: np.ndarray,
    triangles: np.ndarray,
    pixels: np.ndarray,
    width: int,
    perspective: bool,
) -> tuple[np.ndarray, np.ndarray]:
    centre = np.stack([pixels % width + 0.5, pixels // width + 0.5], axis=1)
    a, b, c = (points[triangles[:, k]] - centre for k in range(3))
    weights = np.stack([_cross(b, c), _cross(c, a), _cross(a, b)], axis=1)
    # The slack at edges must not become extrapolation.
    weights = np.maximum(weights / _row_sums(weights), 0.0)
    if perspective:
        weights = weights / depth[triangles]
    weights /= _row_sums(weights)
    return weights, np.einsum("nk,nk->n", weights, depth[triangles])


def project(
    points: Float[np.ndarray, "points 3"],
    intrinsics: Float[np.ndarray, "3 3"],
    extrinsics: Float[np.ndarray, "3 4"],
    perspective: bool,
) -> tuple[Float[np.ndarray, "points 2"], Float[np.ndarray, " points"]]:
    """World points to pixels (u, v) and depth, with one OpenCV camera (x right, y down, z forward). Points
    on the camera plane of a perspective camera come out at infinity."""
    camera = np.asarray(points, dtype=np.float64) @ extrinsics[:, :3].T + extrinsics[:, 3]
    depth = camera[:, 2].copy()
    with np.errstate(divide="ignore", invalid="ignore"):
        plane = camera / depth[:, None] if perspective else np.c_[camera[:, :2], np.ones(len(camera))]
    return (plane @ np.asarray(intrinsics).T)[:, :2], depth


def silhouette(
    mesh: trimesh.Trimesh,
    intrinsics: Float[np.ndarray, "3 3"],
    extrinsics: Float[np.ndarray, "3 4"],
    perspective: bool,
    height: int,
    width: int,
) -> Bool[np.ndarray, "height width"]:
    """The pixels whose centre sees the mesh; all False for an empty mesh."""
    pixels, depth = project(mesh.vertices, intrinsics, extrinsics, perspective)
    return rasterize(pixels, depth, mesh.faces, height, width, perspective=perspective)[0] >= 0
