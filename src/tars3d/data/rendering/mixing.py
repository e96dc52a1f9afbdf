"""New objects made of two: one's legs under another's seat, or one's back on another's seat.

A folder of meshes shows few of the ways in which parts come together, and a network that has seen few takes each shape as a whole. Things that
stand and have a seat (chairs, stools, benches) are cut level, below the seat or just above it, and put together again where that gives one piece.
`tars3d data mix` writes them as meshes, which are rendered as any others.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import trimesh
from jaxtyping import Bool, Float, Int
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree
from trimesh.intersections import slice_faces_plane

from tars3d.arguments import check_at_least, check_seed
from tars3d.atomic import atomic_path
from tars3d.data.collection import read_splits
from tars3d.data.rendering.meshes import SourceMesh, SourceObject, clean, list_objects, load_object
from tars3d.errors import UserError
from tars3d.geometry.triangles import sample_surface
from tars3d.progress import progress_bar

SAMPLES = 60_000  # points of a mesh by which its seat is found
SEAT = (0.2, 1.0)  # where a seat can be, in heights of the object
BINS = 80  # of the heights in that range
LEVEL = 0.85  # a face this much up or down, as |cos|, is level
CELL = 0.03  # side of the squares that a section is counted in
LEGS = 0.35  # a section with less of the seat's squares is one of legs
THICK = 0.25  # a seat is at most this thick, in heights of the object
BELOW = 0.02  # heights of the object that a cut keeps from a seat's sides
SLAB = 0.012  # half the height of a section's points
STRETCH = (0.65, 1.5)  # what one part may be stretched by to fit the other's seat
VARIED = 0.08  # the whole is stretched along each axis by e to the power of this at most
REACH = 0.035  # points of one piece are this near one another
WHOLE = 0.99  # the share of the surface that must hang together
PATIENCE = 500  # draws in a row that give nothing, after which a kind is left out
TRIES = 50  # pairs drawn for each object that is wanted, at most


@dataclass(frozen=True)
class Seated:
    """An object in the object frame, and where its seat is.

    Attributes:
        points: on its surface.
        under, over: heights just below the seat and just above it.
        low, high: the seat's rectangle, x and z.
    """

    mesh: SourceMesh
    points: Float[np.ndarray, "points 3"]
    under: float
    over: float
    low: Float[np.ndarray, "2"]
    high: Float[np.ndarray, "2"]


def find_seat(mesh: SourceMesh) -> Seated | None:
    """Cut heights of an object: its seat is where most of its level surface is; None where the object narrows nowhere below it."""
    corners = mesh.vertices[mesh.faces]
    points, normals, _ = sample_surface(corners, SAMPLES, np.random.default_rng(0))
    bottom, size = mesh.vertices[:, 1].min(), np.ptp(mesh.vertices[:, 1])
    height = (points[:, 1] - bottom) / size
    level = np.abs(normals[:, 1]) > LEVEL
    counts, edges = np.histogram(height[level], bins=BINS, range=SEAT)
    seat = edges[np.argmax(np.convolve(counts, np.ones(3), "same"))] + 0.5 * (edges[1] - edges[0])

    def squares(at: float, reach: float, kept: Bool[np.ndarray, "points"] | bool = True) -> int:
        inside = points[(np.abs(height - at) < reach) & kept][:, [0, 2]]
        return len(np.unique(np.floor(inside / CELL), axis=0))

    # A seat may be hollow, so its lower side counts, and not only where its section is small.
    whole = squares(seat, 0.03)
    sides = [at for at in np.arange(seat, max(seat - THICK, 0.1), -0.01) if squares(at, 0.01, level) > LEGS * whole]
    below = np.arange(min(sides, default=seat) - BELOW, 0.1, -0.01)
    cut = next((at for at in below if squares(at, 0.005) < LEGS * whole), None)
    if cut is None:
        return None
    slab = points[(height > cut) & (height < seat + BELOW)][:, [0, 2]]
    low, high = np.percentile(slab, [2, 98], axis=0)
    under, over = bottom + size * (cut - 0.005), bottom + size * (seat + 0.03)
    return Seated(mesh, points, float(under), float(over), low, high)


def legs_under(legs: Seated, seat: Seated, rng: np.random.Generator) -> SourceMesh | None:
    """One's legs under the other's seat and back, with legs between both lengths; None where they don't fit."""
    bottoms = [item.under - item.mesh.vertices[:, 1].min() for item in (legs, seat)]
    taller = float(np.clip(bottoms[1] / bottoms[0], 0.75, 1.33) * np.exp(rng.uniform(-0.1, 0.1)))
    fit = _fitted(legs, seat, legs.under, seat.under, taller)
    if fit is None:
        return None
    moved, points = fit
    feet, cut = _section(points, seat.under), _section(seat.points, seat.under)
    above = seat.points[(seat.points[:, 1] > seat.under) & (seat.points[:, 1] < seat.under + 0.08)][:, [0, 2]]
    beside = 1.0 if not len(cut) else ((cut > seat.low - 0.03) & (cut < seat.high + 0.03)).all(1).mean()
    if _near(feet, above, 0.03) < 0.97 or beside < 0.9:  # legs in the open; arms that stood on the floor
        return None
    return _joined(moved, legs.mesh.faces, seat.mesh, seat.under, rng)


def back_onto(seat: Seated, back: Seated, rng: np.random.Generator) -> SourceMesh | None:
    """One's back and arms on the other's seat and legs; None where they don't fit."""
    fit = _fitted(seat, back, seat.over, back.over, float(np.exp(rng.uniform(-0.1, 0.1))))
    if fit is None or (back.points[:, 1] > back.over).mean() < 1 / 15:  # a stool brings no back
        return None
    moved, points = fit
    new, old = _section(back.points, back.over), _section(points, back.over)
    below = points[(points[:, 1] < back.over + 0.02) & (points[:, 1] > back.over - 0.1)][:, [0, 2]]
    if _near(new, below, 0.05) < 0.97 or _near(old, new, 0.08) < 0.7:  # a back in the open; stumps of arms
        return None
    return _joined(moved, seat.mesh.faces, back.mesh, back.over, rng)


MIXES: dict[str, Callable[[Seated, Seated, np.random.Generator], SourceMesh | None]] = {
    "legs": legs_under,
    "back": back_onto,
}


def mix(objects: list[SourceObject], count: int, seed: int) -> Iterator[tuple[str, SourceMesh]]:
    """Names and meshes of `count` new objects, no two of one pair and kind; fewer, if the objects do not give as many (two must have a seat)."""
    seated = [found for item in objects if (found := find_seat(load_object(item))) is not None]
    rng, seen, made = np.random.default_rng(seed), set(), 0
    kinds, failed = list(MIXES), 0
    for _ in range(TRIES * count if len(seated) > 1 else 0):
        kind = kinds[made % len(kinds)]
        first, second = (int(index) for index in rng.integers(len(seated), size=2))
        new = first != second and (kind, first, second) not in seen
        seen.add((kind, first, second))
        mesh = MIXES[kind](seated[first], seated[second], rng) if new else None
        if mesh is not None:
            yield f"mixed_{made:05d}_{kind}", mesh
            made, failed = made + 1, 0
            if made == count:
                return
            continue
        failed += 1
        if failed == PATIENCE and len(kinds) > 1:  # stools, say, bring no backs
            kinds.remove(kind)


def mixed_meshes(source: Path, out: Path, count: int, *, split_of: Path | None = None, seed: int = 0) -> int:
    """Write up to `count` new objects made of the meshes of a folder to the folder `out`, as PLY; how many it became.

    Args:
        split_of: a collection that was rendered from these meshes; only what it trains on is mixed, so that no part of a test object is.

    Raises:
        UserError: an option is impossible, a mesh is unusable, none can be mixed, or `out` holds something already.
    """
    check_at_least(1, count=count)
    check_seed(seed)
    if out.is_dir() and any(out.iterdir()):
        raise UserError(f"{out}: is not empty; give another --out, or remove it")
    objects = list_objects(str(source), None, seed)
    if split_of is not None:
        splits = read_splits(split_of)
        if splits is None:
            raise UserError(
                f"{split_of}: has no splits.json, so all its objects are for the test too; render it with --test, or leave out --split-of"
            )
        learned = set(splits.get("train", []))
        objects = [item for item in objects if item.name in learned]
        if not objects:
            raise UserError(f"{split_of}: trains on no object of {source}; name the collection rendered from it")
    made = 0
    with progress_bar() as bar:
        task = bar.add_task("mixing", total=count)
        for name, mesh in mix(objects, count, seed):
            with atomic_path(out / f"{name}.ply") as path:
                trimesh.Trimesh(mesh.vertices, mesh.faces, process=False).export(path, file_type="ply")
            made += 1
            bar.update(task, advance=1)
    if not made:
        raise UserError(
            f"{source}: no two of {len(objects)} objects have seats and fit together; add chairs, stools or benches (Y up)"
        )
    return made


def _fitted(
    lower: Seated, upper: Seated, at: float, to: float, taller: float
) -> tuple[Float[np.ndarray, "vertices 3"], Float[np.ndarray, "points 3"]] | None:
    """Vertices and points of `lower`, its seat's rectangle on that of `upper` and its height `at` at `to`; None where that would distort it."""
    wider = (upper.high - upper.low) / (lower.high - lower.low)
    if wider.max() > STRETCH[1] or wider.min() < STRETCH[0]:
        return None
    scale = np.array([wider[0], taller, wider[1]])
    source, target = (
        np.array([x, y, z]) for (x, z), y in (((lower.low + lower.high) / 2, at), ((upper.low + upper.high) / 2, to))
    )
    return (lower.mesh.vertices - source) * scale + target, (lower.points - source) * scale + target


def _section(points: Float[np.ndarray, "points 3"], height: float) -> Float[np.ndarray, "near 2"]:
    """x and z of the points at a height."""
    return points[np.abs(points[:, 1] - height) < SLAB][:, [0, 2]]


def _near(points: Float[np.ndarray, "points 2"], others: Float[np.ndarray, "others 2"], reach: float) -> float:
    """The share of points that have another within reach; 0 without points or others."""
    if not len(points) or not len(others):
        return 0.0
    return float((KDTree(others).query(points)[0] < reach).mean())


def _joined(
    lower: Float[np.ndarray, "vertices 3"],
    lower_faces: Int[np.ndarray, "faces 3"],
    upper: SourceMesh,
    height: float,
    rng: np.random.Generator,
) -> SourceMesh | None:
    """What is below `height` of one and above it of the other, stretched a little; None where it is flat or falls apart."""
    below = _sliced(lower, lower_faces, height + 0.004, -1)
    above = _sliced(upper.vertices, upper.faces, height, 1)
    if not len(below[1]) or not len(above[1]):
        return None
    vertices = np.concatenate([below[0], above[0]]) * np.exp(rng.uniform(-VARIED, VARIED, 3))
    mesh = clean(vertices, np.concatenate([below[1], above[1] + len(below[0])]), "a mixed object")
    size = np.ptp(mesh.vertices, axis=0)
    if size[1] < 0.55 * size[[0, 2]].max():
        return None
    points, _, _ = sample_surface(mesh.vertices[mesh.faces], 12_000, np.random.default_rng(1))
    pairs = KDTree(points).query_pairs(REACH, output_type="ndarray")
    graph = coo_matrix((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(len(points),) * 2)
    pieces = connected_components(graph, directed=False)[1]
    return mesh if np.bincount(pieces).max() >= WHOLE * len(points) else None


def _sliced(
    vertices: Float[np.ndarray, "vertices 3"], faces: Int[np.ndarray, "faces 3"], height: float, side: int
) -> tuple[Float[np.ndarray, "kept 3"], Int[np.ndarray, "kept_faces 3"]]:
    """What of a mesh lies above a height (side 1) or below it (-1), open at the cut."""
    found = slice_faces_plane(vertices, faces, np.array([0.0, side, 0.0]), np.array([0.0, height, 0.0]))
    return np.asarray(found[0]).reshape(-1, 3), np.asarray(found[1]).reshape(-1, 3)
