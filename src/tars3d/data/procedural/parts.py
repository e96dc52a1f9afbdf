"""Solids that furniture and vehicles are made of: boxes, cushions, posts, rods, tubes, lofts and slabs.

Lengths are metres, Y is up, the front faces -Z. Used by every category's module.
"""

from collections.abc import Sequence

import manifold3d
import numpy as np
from manifold3d import Manifold

from tars3d.data.procedural.assembly import Point

_SEGMENTS = 12


def _labelled_solid(vertices: np.ndarray, faces: np.ndarray, labels: np.ndarray) -> tuple[Manifold, dict[int, str]]:
    corners = vertices[faces]
    volume = np.einsum("fi,fi->", corners[:, 0], np.cross(corners[:, 1], corners[:, 2]))
    if volume < 0:
        faces = faces[:, ::-1]
    names, groups = np.unique(labels, return_inverse=True)
    first = Manifold.reserve_ids(len(names))
    runs = np.concatenate([[0], np.cumsum(np.bincount(groups))]) * 3
    mesh = manifold3d.Mesh(
        vertices.astype(np.float32),
        np.ascontiguousarray(faces[np.argsort(groups, kind="stable")], dtype=np.uint32),
        run_index=runs.astype(np.uint32),
        run_original_id=np.arange(first, first + len(names), dtype=np.uint32),
    )
    return Manifold(mesh), {first + i: str(name) for i, name in enumerate(names)}


def hull(points: np.ndarray) -> Manifold:
    """Convex hull of points [N, 3]."""
    return Manifold.hull_points(np.ascontiguousarray(points, dtype=np.float64).reshape(-1, 3))  # pyright: ignore


def box(centre: Point, size: Sequence[float]) -> Manifold:
    """Axis-aligned box."""
    half, centre = np.asarray(size) / 2, np.asarray(centre)
    corners = [[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]
    return hull(centre + np.array(corners) * half)


def rounded_box(centre: Point, size: Point, radius: float) -> Manifold:
    """Axis-aligned box with edges rounded by `radius` (cut to half of the shortest side)."""
    half = np.asarray(size, dtype=float) / 2
    radius = min(radius, 0.98 * half.min())
    signs = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
    angles = np.linspace(0, np.pi / 2, 4)
    ball = np.array(
        [
            [np.cos(a) * np.cos(b), np.sin(a), np.cos(a) * np.sin(b)]
            for a in angles
            for b in (angles if a < 1.5 else angles[:1])
        ]
    )
    points = signs[:, None] * ((half - radius) + radius * ball[None])
    return hull(points.reshape(-1, 3) + np.asarray(centre))


def cushion(corners: np.ndarray, low: float, high: float, corner_radius: float, edge: float, crown: float = 0.0):
    """Convex pad over a convex outline [N, 2] of (x, z), between the heights `low` and `high`.

    Plan corners are rounded by `corner_radius`, upper and lower edges by `edge`; the top swells by `crown`.
    """
    corners = np.asarray(corners, dtype=float)
    centre = corners.mean(0)
    edge = min(edge, (high - low) / 2)
    corner_radius = max(corner_radius, edge + 0.002)
    away = corners - centre
    inner = away * np.maximum(1 - corner_radius / np.linalg.norm(away, axis=1, keepdims=True).clip(1e-6), 0.0)
    inner = centre + inner * np.maximum(1 - corner_radius / np.abs(away).max(0), 0.0) / (
        np.abs(inner).max(0) / np.abs(away).max(0)
    ).clip(1e-6)
    around = np.linspace(0, 2 * np.pi, 4 * 5, endpoint=False)
    circle = np.stack([np.cos(around), np.sin(around)], -1)
    rings = []
    for angle in np.linspace(0, np.pi / 2, 4):
        radius = corner_radius - edge * (1 - np.cos(angle))
        plan = (inner[:, None] + radius * circle[None]).reshape(-1, 2)
        for y in (high - edge + edge * np.sin(angle), low + edge - edge * np.sin(angle)):
            rings.append(np.insert(plan, 1, y, axis=1))
    if crown > 0:
        for scale in (0.8, 0.6, 0.3):
            plan = centre + (inner - centre) * scale
            rings.append(np.insert(plan, 1, high + crown * (1 - scale**2), axis=1))
    return hull(np.concatenate(rings))


def disc_outline(width: float, depth: float, power: float) -> np.ndarray:
    """Superellipse [28, 2] about the origin: 2 is an ellipse, larger powers approach the rectangle."""
    t = np.linspace(0, 2 * np.pi, 28, endpoint=False)
    c, s = np.cos(t), np.sin(t)
    return np.stack(
        [
            width / 2 * np.sign(c) * np.abs(c) ** (2 / power),
            depth / 2 * np.sign(s) * np.abs(s) ** (2 / power),
        ],
        -1,
    )


def post(bottom: Point, top: Point, bottom_size, top_size, square: bool = True) -> Manifold:
    """Straight upright of (x, z) sizes with horizontal cross-sections: stands flat on the floor."""
    if square:
        ring = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) / 2
    else:
        t = np.linspace(0, 2 * np.pi, _SEGMENTS, endpoint=False)
        ring = np.stack([np.cos(t), np.sin(t)], -1) / 2
    ends = []
    for point, size in ((bottom, bottom_size), (top, top_size)):
        ends.append(np.asarray(point) + np.insert(ring * np.broadcast_to(size, 2), 1, 0.0, axis=1))
    return hull(np.concatenate(ends))


def rod(start: Point, end: Point, radius: float, end_radius: float | None = None) -> Manifold:
    """Round bar between two points, tapered to `end_radius`."""
    return tube(np.array([start, end]), np.array([radius, radius if end_radius is None else end_radius]))


def bar(start: Point, end: Point, height: float, width: float) -> Manifold:
    """Straight rectangular bar: `height` across it in the direction nearest to up, `width` sideways."""
    start, end = np.asarray(start, dtype=float), np.asarray(end, dtype=float)
    along = (end - start) / np.linalg.norm(end - start)
    up = np.array([0.0, 1, 0]) if abs(along[1]) < 0.9 else np.array([0.0, 0, 1])
    side = np.cross(along, up)
    side /= np.linalg.norm(side)
    up = np.cross(side, along)
    offsets = [sx * side * width / 2 + sy * up * height / 2 for sx in (-1, 1) for sy in (-1, 1)]
    return hull(np.array([p + o for p in (start, end) for o in offsets]))


def loft(rings: np.ndarray, closed: bool = False) -> Manifold:
    """Skin over rings [K, N, 3] that turn in the same sense; its ends are capped unless it is `closed`."""
    count, n, _ = rings.shape
    return labelled_loft(rings, np.zeros((count if closed else count - 1, n)), closed)[0]


def labelled_loft(
    rings: np.ndarray, cells: np.ndarray, closed: bool = False, caps: tuple[str, str] = ("0.0", "0.0")
) -> tuple[Manifold, dict[int, str]]:
    """`loft` whose cells [K - 1, N] (K where closed) carry labels.

    Cell k, j lies between the rings k and k + 1 and their points j and j + 1; `caps` labels both ends.
    """
    count, n, _ = rings.shape
    vertices = rings.reshape(-1, 3)
    pairs = count if closed else count - 1
    i, j = np.meshgrid(np.arange(pairs), np.arange(n), indexing="ij")
    a, b = i * n + j, i * n + (j + 1) % n
    c, d = ((i + 1) % count) * n + j, ((i + 1) % count) * n + (j + 1) % n
    faces = [np.stack([a, b, d], -1).reshape(-1, 3), np.stack([a, d, c], -1).reshape(-1, 3)]
    labels = [cells.reshape(-1), cells.reshape(-1)]
    if not closed:
        vertices = np.concatenate([vertices, np.stack([rings[0].mean(0), rings[-1].mean(0)])])
        j = np.arange(n)
        first, last = np.full(n, count * n), np.full(n, count * n + 1)
        faces.append(np.stack([(j + 1) % n, j, first], -1))
        faces.append(np.stack([(count - 1) * n + j, (count - 1) * n + (j + 1) % n, last], -1))
        labels.extend([np.full(n, caps[0]), np.full(n, caps[1])])
    return _labelled_solid(vertices, np.concatenate(faces), np.concatenate(labels))


def tube(
    path: np.ndarray,
    radius: float | np.ndarray,
    *,
    closed: bool = False,
    square: bool = False,
    sides: int = 10,
) -> Manifold:
    """Tube along a path [K, 3] with one radius, or one a point; `square`: a bar of that half-side."""
    path = np.asarray(path, dtype=float)
    radii = np.broadcast_to(radius, len(path))
    tangents = np.roll(path, -1, 0) - np.roll(path, 1, 0) if closed else np.gradient(path, axis=0)
    tangents = tangents / np.linalg.norm(tangents, axis=1, keepdims=True)
    if square:
        angles = np.pi / 4 + np.arange(4) * np.pi / 2
        radii = radii * np.sqrt(2)
    else:
        angles = np.arange(sides) * 2 * np.pi / sides
    guide = np.eye(3)[np.argmin(np.abs(tangents[0]))]
    rings = []
    normal = np.cross(tangents[0], guide)
    for point, tangent, r in zip(path, tangents, radii, strict=True):
        normal = normal - tangent * (normal @ tangent)  # carried along the path, so that the tube does not twist
        normal /= np.linalg.norm(normal)
        other = np.cross(tangent, normal)
        rings.append(point + r * (np.cos(angles)[:, None] * normal + np.sin(angles)[:, None] * other))
    return loft(np.array(rings), closed=closed)


def fillet(path: Sequence[Point] | np.ndarray, radius: float, closed: bool = False, steps: int = 5) -> np.ndarray:
    """Round a polyline's [K, 3] corners with quadratic Bézier arcs, shorter where its sides are short."""
    points = np.asarray(path, dtype=float)
    rounded = [] if closed else [points[0]]
    inner = range(len(points)) if closed else range(1, len(points) - 1)
    t = np.linspace(0, 1, steps)[:, None]
    for i in inner:
        before, here, after = points[i - 1], points[i], points[(i + 1) % len(points)]
        reach_in = min(radius, 0.45 * np.linalg.norm(before - here))
        reach_out = min(radius, 0.45 * np.linalg.norm(after - here))
        start = here + (before - here) / np.linalg.norm(before - here) * reach_in
        end = here + (after - here) / np.linalg.norm(after - here) * reach_out
        rounded.extend((1 - t) ** 2 * start + 2 * t * (1 - t) * here + t**2 * end)
    if not closed:
        rounded.append(points[-1])
    return np.array(rounded)


def slab(front: np.ndarray, back: np.ndarray) -> Manifold:
    """Solid between two sheets of points [N, M, 3] that correspond to each other."""
    return labelled_slab(front, back, np.zeros((front.shape[0] - 1, front.shape[1] - 1)))[0]


def labelled_slab(front: np.ndarray, back: np.ndarray, cells: np.ndarray) -> tuple[Manifold, dict[int, str]]:
    """`slab` whose cells [N - 1, M - 1] carry labels on both sheets; the rim follows its cells."""
    n, m, _ = front.shape
    index = np.arange(n * m).reshape(n, m)
    quads = np.stack([index[:-1, :-1], index[1:, :-1], index[1:, 1:], index[:-1, 1:]], -1).reshape(-1, 4)
    border = np.concatenate([index[:-1, 0], index[-1, :-1], index[:0:-1, -1], index[0, :0:-1]])
    following, shift = np.roll(border, -1), n * m
    sides = np.stack([border, border + shift, following + shift, following], -1)
    quads = np.concatenate([quads, quads[:, ::-1] + shift, sides])
    rim = np.concatenate([cells[:, 0], cells[-1], cells[::-1, -1], cells[0, ::-1]])
    labels = np.concatenate([cells.reshape(-1), cells.reshape(-1), rim])
    vertices = np.concatenate([front.reshape(-1, 3), back.reshape(-1, 3)])
    faces = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
    return _labelled_solid(vertices, faces, np.concatenate([labels, labels]))


def round_square(u: np.ndarray, v: np.ndarray, roundness: float) -> tuple[np.ndarray, np.ndarray]:
    """Pull in the corners of the square [-1, 1]^2: 0 leaves it, 1 makes it a disc (elliptical mapping)."""
    return u * np.sqrt(1 - roundness * v**2 / 2), v * np.sqrt(1 - roundness * u**2 / 2)
