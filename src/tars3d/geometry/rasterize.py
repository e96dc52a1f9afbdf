"""A z-buffer rasteriser in plain numpy: triangles are cut into rows and rows into pixels, array-wise.

Report pictures, silhouettes for mask IoU and the overlays of `tars3d data check` are drawn with it.
Nothing here is differentiable.
"""

import numpy as np
import trimesh
from jaxtyping import Bool, Float, Int, UInt8

from tars3d.geometry.camera import pinhole

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


def _unit(a: np.ndarray) -> np.ndarray:
    return a / np.maximum(np.sqrt(np.einsum("...k,...k->...", a, a)), 1e-30)[..., None]


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


def render_view(
    mesh: trimesh.Trimesh,
    intrinsics: Float[np.ndarray, "3 3"],
    extrinsics: Float[np.ndarray, "3 4"],
    perspective: bool,
    height: int,
    width: int,
    *,
    vertex_colors: Float[np.ndarray, "vertices 3"] | None = None,
    background: tuple[float, float, float] = (1.0, 1.0, 1.0),
    light: bool = True,
    supersample: int = 2,
) -> UInt8[np.ndarray, "height width 3"]:
    """Draws a mesh, smooth-shaded, two-sided, with a soft light that travels with the camera.

    Args:
        intrinsics, extrinsics, perspective: one camera, world-to-camera, pixel centres at +0.5.
        vertex_colors: RGB in [0, 1]; without them the mesh's own vertex colours, or grey where it has none.
        light: False paints the plain colours.
        supersample: samples per pixel side.
    """
    colors = _colors(mesh) if vertex_colors is None else np.asarray(vertex_colors, dtype=np.float64)
    scaled = np.diag([supersample, supersample, 1.0]) @ np.asarray(intrinsics, dtype=np.float64)
    rows, columns = height * supersample, width * supersample
    pixels, depth = project(mesh.vertices, scaled, extrinsics, perspective)
    face, weights, _ = rasterize(pixels, depth, mesh.faces, rows, columns, perspective=perspective)

    picture = np.empty((rows, columns, 3))
    picture[:] = background
    hit = face >= 0
    weight = weights[hit]
    shade = np.einsum("nkc,nk->nc", colors[mesh.faces[face[hit]]], weight)
    if light:
        rotation = np.asarray(extrinsics, dtype=np.float64)[:, :3]
        normals = np.einsum("nkc,nk->nc", _corner_normals(mesh)[face[hit]], weight) @ rotation.T
        normals = _unit(normals)
        # Towards the viewer: scanned meshes mix their windings.
        normals *= np.where(normals[:, 2:] > 0, -1.0, 1.0)
        key_light = np.array([-0.4, -0.7, -0.6]) / np.linalg.norm([-0.4, -0.7, -0.6])
        diffuse = np.maximum(normals @ key_light, 0.0)
        sky = 0.5 - 0.5 * normals[:, 1]
        shade = shade * (0.32 + 0.16 * sky + 0.52 * diffuse)[:, None] * 1.1
    picture[hit] = shade
    # Slices added up are several times faster than a mean over the short axes.
    parts = [picture[i::supersample, j::supersample] for i in range(supersample) for j in range(supersample)]
    picture = sum(parts[1:], parts[0]) / len(parts)
    return (np.clip(picture, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)


def _colors(mesh: trimesh.Trimesh) -> np.ndarray:
    if mesh.visual is not None and mesh.visual.kind == "vertex":
        return np.asarray(mesh.visual.vertex_colors, dtype=np.float64)[:, :3] / 255.0  # type: ignore[union-attr]
    return np.full((len(mesh.vertices), 3), 0.78)


def _corner_normals(mesh: trimesh.Trimesh) -> np.ndarray:
    """A normal for each corner of each face: the vertex normal, but the face's own where they part by more
    than 30 degrees, so that a box keeps its edges."""
    vertices, faces = np.asarray(mesh.vertices), np.asarray(mesh.faces)
    corners = vertices[faces]
    # Their length is twice the area: the weight wanted in the sum at a vertex.
    face_normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    at_vertex = np.stack(
        [np.bincount(faces.ravel(), np.repeat(face_normals[:, k], 3), len(vertices)) for k in range(3)],
        axis=1,
    )
    smooth, flat = _unit(at_vertex)[faces], _unit(face_normals)
    crease = np.einsum("nkc,nc->nk", smooth, flat) < np.cos(np.pi / 6)
    crease &= np.einsum("nc,nc->n", flat, flat)[:, None] > 0.5  # a face without area has no normal of its own
    return np.where(crease[..., None], flat[:, None], smooth)


def orbit_camera(
    azimuth: float, elevation: float, size: int, *, distance: float = 3.0, extent: float = 1.0
) -> tuple[Float[np.ndarray, "3 3"], Float[np.ndarray, "3 4"]]:
    """A perspective camera (intrinsics, extrinsics) that looks at the origin and frames a cube of side
    `extent` around it from any azimuth. Angles in degrees; the camera's centre lies in direction (sin az cos
    el, sin el, -cos az cos el)."""
    az, el = np.radians([azimuth, elevation])
    direction = np.array([np.sin(az) * np.cos(el), np.sin(el), -np.cos(az) * np.cos(el)])
    forward = -direction
    down = np.array([0.0, -1.0, 0.0])
    if abs(forward[1]) > 0.9999:  # no horizon from straight above or below: any steady choice will do
        down = np.array([0.0, 0.0, np.sign(forward[1])])
    right = np.cross(down, forward)
    right /= np.linalg.norm(right)
    rotation = np.stack([right, np.cross(forward, right), forward])
    centre = distance * extent * direction

    turn = np.radians(np.arange(0, 360, 5))  # the cube's corners, at every azimuth
    circle = np.sqrt(0.5) * np.c_[np.cos(turn), np.sin(turn)]
    cube = extent * np.concatenate([np.insert(circle, 1, y, axis=1) for y in (-0.5, 0.5)])
    seen = (cube - centre) @ rotation.T
    focal = 0.49 * size / np.abs(seen[:, :2] / seen[:, 2:]).max()
    return pinhole(focal, (size / 2, size / 2)), np.c_[rotation, -rotation @ centre]


def orbit_views(
    mesh: trimesh.Trimesh,
    count: int = 4,
    size: int = 256,
    elevation: float = 20.0,
    vertex_colors: Float[np.ndarray, "vertices 3"] | None = None,
    *,
    extent: float = 1.0,
) -> list[UInt8[np.ndarray, "size size 3"]]:
    """Square pictures of a mesh in the object frame (Y up, unit cube) from `count` sides: azimuths 30, 120,
    210, 300 for four. `extent` is the side of the cube to frame."""
    cameras = [orbit_camera(30.0 + 360.0 * k / count, elevation, size, extent=extent) for k in range(count)]
    return [render_view(mesh, k, rt, True, size, size, vertex_colors=vertex_colors) for k, rt in cameras]
