"""Where the points of a source mesh lie in canonical space, and what they carry: colours, labels or keypoints.

The mesh may have come back from Blender or MeshLab with split vertices or in another order. Then each of its points takes
the canonical place of the nearest surface point of the reconstruction that it was made from.
"""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import trimesh
from jaxtyping import Float, Int

from tars3d.appearance import SurfaceColors
from tars3d.errors import UserError, reason_of
from tars3d.export import canonical_space, load_canonical, read_mesh
from tars3d.geometry.closest import closest_on_mesh
from tars3d.transfer.painted import PaintedMesh

FAR = 0.01
"""Object units: where half of a mesh lies farther than this from a reconstruction, it is no copy of it."""
SIZES = (0.2, 3.0)
"""Object units: the longest side of what models reconstruct, whose search cubes are at most 2.4 wide."""
OFF_SURFACE = 0.05
"""Object units that a keypoint may lie off the surface."""


@dataclass(frozen=True)
class StoredReconstruction:
    """A surface that knows its canonical coordinates, from a file or a picture.

    Attributes:
        name: what messages call it.
        space: its canonical space (`Reconstructor.space`), None where the file does not say.
        colors: of its vertices, where a picture was looked at for them; else those of the mesh are all there are.
        notes: what the user should know of the picture, where it is of one.
    """

    name: str
    mesh: trimesh.Trimesh
    canonical: Float[np.ndarray, "vertices channels"]
    space: str | None
    colors: SurfaceColors | None = None
    notes: tuple[str, ...] = ()

    def canonical_at(
        self, face: Int[np.ndarray, " points"], weights: Float[np.ndarray, "points 3"]
    ) -> Float[np.ndarray, "points channels"]:
        """Canonical coordinates of surface points, interpolated in their faces."""
        return np.einsum("nk,nkc->nc", weights, self.canonical[self.mesh.faces[face]])


def read_reconstruction(path: Path) -> StoredReconstruction:
    """A mesh that tars3d wrote, with its canonical coordinates.

    Raises:
        UserError: it carries none, they are another mesh's, or a number of either is NaN or infinite.
    """
    mesh = read_mesh(path)
    canonical = load_canonical(path)
    for name, values in (("vertices", mesh.vertices), ("canonical coordinates", canonical)):
        if not np.isfinite(values).all():
            raise UserError(f"{path}: has {name} that are NaN or infinite; reconstruct it again with tars3d")
    if len(canonical) != len(mesh.vertices):
        raise UserError(
            f"{path}: has {len(mesh.vertices)} vertices, its canonical map {len(canonical)}; it was changed by another program: "
            "name the mesh that tars3d wrote with --reconstruction, or its picture with --source-image"
        )
    if not _follows(mesh, canonical):
        raise UserError(
            f"{path}: the canonical map beside it does not follow its vertices; they were put in another order: name the mesh "
            "that tars3d wrote with --reconstruction, or its picture with --source-image"
        )
    longest = float(np.ptp(mesh.vertices, axis=0).max()) if len(mesh.vertices) else 1.0
    if not SIZES[0] <= longest <= SIZES[1]:
        raise UserError(
            f"{path}: its longest side is {longest:.3g}, a reconstruction's is about 1; it was scaled: export it as tars3d wrote it"
        )
    return StoredReconstruction(str(path), mesh, canonical, canonical_space(path))


def _follows(mesh: trimesh.Trimesh, canonical: np.ndarray) -> bool:
    """Neighbours on a surface are neighbours in canonical space, unless the rows were shuffled."""
    first, second = mesh.edges_unique.T
    jumps = np.linalg.norm(canonical[first, :3] - canonical[second, :3], axis=1)
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, len(canonical), (2, 1000))
    anywhere = np.linalg.norm(canonical[a, :3] - canonical[b, :3], axis=1)
    return bool(np.median(jumps) < 0.5 * np.median(anywhere)) or len(canonical) < 50


def locate(
    painted: PaintedMesh, reconstruction: StoredReconstruction, points: Float[np.ndarray, "points 3"]
) -> tuple[Float[np.ndarray, "points channels"], list[str]]:
    """Canonical coordinates of points of `painted`'s surface, and notes for the user.

    Raises:
        UserError: the mesh is no copy of the reconstruction.
    """
    distance, face, weights = closest_on_mesh(reconstruction.mesh, points, candidates=8)
    median = float(np.median(distance))
    if median > FAR:
        z_up = points[:, [0, 2, 1]] * [1, 1, -1]  # what Blender writes unless told otherwise
        turned = float(np.median(closest_on_mesh(reconstruction.mesh, z_up, candidates=8)[0])) <= FAR
        cure = (
            "it lies on its back: export it with Y up" if turned else "give its own reconstruction, exported with Y up"
        )
        raise UserError(
            f"{painted.path}: is not the surface of {reconstruction.name}, half of it lies more than {median:.3f} away; {cure}"
            " and without moving or scaling"
        )
    notes = []
    far = float((distance > FAR).mean())
    if far > 0.01:
        notes.append(f"{100 * far:.0f}% of {painted.path} lie more than {FAR} off the surface of {reconstruction.name}")
    here, there = len(painted.mesh.vertices), len(reconstruction.mesh.vertices)
    if here != there:
        notes.append(
            f"{painted.path} has {here} vertices, {reconstruction.name} {there}: matched by nearest surface point"
        )
    elif not np.allclose(painted.mesh.vertices, reconstruction.mesh.vertices, atol=1e-4):
        notes.append(
            f"{painted.path} has its vertices in other places or another order than {reconstruction.name}: matched by nearest "
            "surface point"
        )
    return reconstruction.canonical_at(face, weights), notes


def read_labels(path: Path, mesh: PaintedMesh) -> tuple[tuple[str, ...], np.ndarray, bool]:
    """Part labels of a mesh file: names, an index into them for each vertex or face (-1: none), whether they are of faces.

    JSON {"vertices": {"seat": [0, 1, ...], ...}} or {"faces": {...}} lists the vertices or faces of each part; a .npy of
    integers holds one label for each, in the order of the mesh file, negative where there is none.

    Raises:
        UserError: the file is none of these, names vertices that the mesh does not have, or labels nothing.
    """
    counts = {"vertices": len(mesh.mesh.vertices), "faces": len(mesh.mesh.faces)}
    read = _numbered_labels if path.suffix == ".npy" else _listed_labels
    names, labels, kind = read(path, counts, mesh.path)
    if not (labels >= 0).any():
        raise UserError(f"{path}: labels nothing; give the {kind} of at least one part")
    return names, labels, kind == "faces"


def _numbered_labels(path: Path, counts: dict[str, int], mesh: Path) -> tuple[tuple[str, ...], np.ndarray, str]:
    """Names, labels, and of what they are, by a .npy."""
    try:
        values = np.load(path, allow_pickle=False)
    except Exception as error:  # zipfile and numpy each have their own
        raise UserError(f"{path}: cannot be read ({reason_of(error)}); save it with numpy.save") from None
    if not isinstance(values, np.ndarray):
        raise UserError(f"{path}: holds named arrays, as .npz does; save one array with numpy.save")
    kind = next((kind for kind, count in counts.items() if values.shape == (count,)), None)
    if kind is None or not np.issubdtype(values.dtype, np.integer):
        raise UserError(
            f"{path}: holds {values.dtype}{list(values.shape)}; give one integer for each of the {counts['vertices']} "
            f"vertices or {counts['faces']} faces of {mesh}"
        )
    labelled = values >= 0
    kinds, inverse = np.unique(values[labelled], return_inverse=True)
    labels = np.full(len(values), -1)
    labels[labelled] = inverse.reshape(-1)
    return tuple(f"part {value}" for value in kinds), labels, kind


def _listed_labels(path: Path, counts: dict[str, int], mesh: Path) -> tuple[tuple[str, ...], np.ndarray, str]:
    """Names, labels, and of what they are, by a JSON."""
    content = _read_json(path)
    kinds = [kind for kind in counts if kind in content]
    if len(kinds) > 1:
        raise UserError(f'{path}: holds both "vertices" and "faces"; give the parts of one of them')
    kind = kinds[0] if kinds and isinstance(content[kinds[0]], dict) else None
    if kind is None:
        raise UserError(
            f'{path}: names no parts; write {{"vertices": {{"seat": [0, 1, ...], ...}}}} or "faces" instead'
        )
    parts: dict[str, Any] = content[kind]
    labels = np.full(counts[kind], -1)
    for number, (name, rows) in enumerate(parts.items()):
        if not isinstance(rows, list) or not all(type(i) is int for i in rows):
            raise UserError(f"{path}: {kind} of {name!r} must be a list of whole numbers")
        # Before numpy, which knows no huge numbers.
        unknown = next((i for i in rows if not 0 <= i < counts[kind]), None)
        if unknown is not None:
            raise UserError(
                f"{path}: {name!r} names {kind[:-1] if kind == 'faces' else 'vertex'} {unknown}, {mesh} has "
                f"{counts[kind]}, counted from 0; label the mesh as it is in that file"
            )
        members = np.asarray(rows, dtype=np.int64)
        if (labels[members] >= 0).any():
            raise UserError(f"{path}: {name!r} and another part share {kind}; give each to one part")
        labels[members] = number
    return tuple(parts), labels, kind


def read_keypoints(path: Path, mesh: PaintedMesh) -> tuple[tuple[str, ...], Float[np.ndarray, "points 3"]]:
    """Named points of a JSON {"name": [x, y, z], ...}, in the frame of the mesh file, pulled onto its surface.

    Raises:
        UserError: the file is not of that form, or a point lies off the surface.
    """
    content = _read_json(path)
    points = []
    for name, value in content.items():
        try:
            point = np.asarray(value, dtype=np.float64)
        except (TypeError, ValueError, OverflowError):
            point = np.zeros(0)
        if point.shape != (3,) or not np.isfinite(point).all():
            raise UserError(f"{path}: keypoint {name!r} is no point; give three numbers [x, y, z]")
        points.append(point)
    if not points:
        raise UserError(f'{path}: names no keypoints; write {{"name": [x, y, z], ...}}')
    distance, face, weights = closest_on_mesh(mesh.mesh, np.array(points))
    worst = int(distance.argmax())
    if distance[worst] > OFF_SURFACE:
        raise UserError(
            f"{path}: keypoint {tuple(content)[worst]!r} lies {distance[worst]:.3f} off the surface of {mesh.path}; give "
            "coordinates of that mesh, Y up, its longest side is about 1"
        )
    return tuple(content), np.einsum("nk,nkc->nc", weights, np.asarray(mesh.mesh.triangles)[face])


def _read_json(path: Path) -> dict[str, Any]:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        twice = next((name for name, count in Counter(name for name, _ in pairs).items() if count > 1), None)
        if twice is not None:
            raise UserError(f"{path}: {twice!r} stands there twice; give each name once")
        return dict(pairs)

    try:
        text = path.read_text(encoding="utf-8-sig")  # Windows begins files with a BOM
        content = json.loads(text, object_pairs_hook=once)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check the name") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: is not valid JSON ({reason_of(error)}); repair it") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: must be a JSON object of names; repair it")
    return content
