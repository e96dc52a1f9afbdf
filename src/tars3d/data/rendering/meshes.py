"""Meshes for the renderer: where they come from, cleaning, the unit cube, ground truth, splits.

Called by `tars3d.data.rendering.render`, and by importers for files and splits; knows nothing of pictures.
"""

import hashlib
import re
import zlib
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from tars3d.arguments import check_at_least, check_seed
from tars3d.errors import UserError
from tars3d.geometry.mesh_files import joined, read_parts
from tars3d.geometry.triangles import faces_fit, sample_surface

SUFFIXES = (".ply", ".obj", ".glb", ".gltf", ".stl", ".off")
PROCEDURAL = "procedural:"


@dataclass(frozen=True)
class SourceObject:
    """One thing to render: a mesh file, or a category and a seed of the procedural generator."""

    name: str
    file: Path | None = None
    category: str = ""
    seed: int = 0
    fingerprint: str = ""
    """Changes when the mesh changes; equal for exact duplicates."""
    stretch: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """Factors along x, y, z that the mesh is multiplied by before it is normalised."""


@dataclass(frozen=True)
class SourceMesh:
    """A clean mesh in the object frame (Y up, bounding box centred, longest side 1), part labels if known."""

    vertices: Float[np.ndarray, "vertices 3"]
    faces: Int[np.ndarray, "faces 3"]
    labels: Int[np.ndarray, "faces"] | None = None
    label_names: tuple[str, ...] = field(default=())


def list_objects(source: str, count: int | None, seed: int) -> list[SourceObject]:
    """The objects of `source`, sorted by name: a folder's meshes, or `procedural:CATEGORY` (needs `count`).

    Object i of a procedural source is made with the seed 100,000 * seed + i, so a longer run begins with the
    objects of a shorter one.

    Raises:
        UserError: no such folder or category, no meshes in it, two meshes of one name, unknown or missing count.
    """
    if source.startswith(PROCEDURAL):
        from tars3d.data.procedural import CATEGORIES

        category = source.removeprefix(PROCEDURAL)
        if category not in CATEGORIES:
            raise UserError(f"{source}: not a procedural category; choose one of {', '.join(CATEGORIES)}")
        if not count or count < 1:
            raise UserError(f"{source}: how many objects? Give a positive --count")
        return [
            SourceObject(f"{category}_{i:05d}", None, category, 100_000 * seed + i, f"{category}:{100_000 * seed + i}")
            for i in range(count)
        ]
    folder = Path(source)
    if not folder.is_dir():
        raise UserError(f"{source}: no such folder; give a folder of meshes, or procedural:chair, :car or :airplane")
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not files:
        raise UserError(f"{source}: holds no meshes ({', '.join(SUFFIXES)}); give the folder the meshes lie in")
    stems: dict[str, Path] = {}
    for path in files:
        if path.stem in stems:
            raise UserError(f"{path}: has the same name as {stems[path.stem].name}; rename one, names must be unique")
        stems[path.stem] = path
    if count is not None:
        files = files[:count]
    return [
        SourceObject(path.stem, path, fingerprint=hashlib.sha256(path.read_bytes()).hexdigest()[:16]) for path in files
    ]


def load_object(source: SourceObject) -> SourceMesh:
    """Load or make one object, clean it and normalise it.

    Raises:
        UserError: the file cannot be read, holds no faces, or holds coordinates that are not finite.
    """
    if source.file is None:
        from tars3d.data.procedural import make_object

        made = make_object(source.category, source.seed)
        vertices = np.asarray(made.mesh.vertices) * source.stretch
        return clean(vertices, made.mesh.faces, source.name, made.face_labels, tuple(made.label_names))
    mesh = joined(read_parts(source.file))
    return clean(np.asarray(mesh.vertices) * source.stretch, mesh.faces, str(source.file))


def stretched_variants(objects: list[SourceObject], count: int, strength: float, seed: int) -> list[SourceObject]:
    """`count` variants of each object, longer or shorter along each axis by a factor of at most e^strength.

    A category has more proportions than a folder of meshes shows. Variant k of OBJECT is called OBJECT-stretched-k, k from 1, and depends on
    (seed, OBJECT, k) alone.
    """

    def variant(item: SourceObject, k: int) -> SourceObject:
        rng = np.random.default_rng([seed, zlib.crc32(item.name.encode()), k])
        x, y, z = np.exp(rng.uniform(-strength, strength, 3)).tolist()
        fingerprint = f"{item.fingerprint} x {x:.4f} {y:.4f} {z:.4f}"
        return replace(item, name=f"{item.name}-stretched-{k}", stretch=(x, y, z), fingerprint=fingerprint)

    return [variant(item, k) for item in objects for k in range(1, count + 1)]


def clean(
    vertices: Float[np.ndarray, "vertices 3"],
    faces: Int[np.ndarray, "faces 3"],
    name: str,
    labels: Int[np.ndarray, "faces"] | None = None,
    label_names: tuple[str, ...] = (),
) -> SourceMesh:
    """Drop faces without area and unused vertices; centre the bounding box of what is left, scale its longest side to 1.

    Raises:
        UserError: what is left is no surface; `name` begins the message.
    """
    vertices = np.asarray(vertices, np.float64).reshape(-1, 3)
    faces = np.asarray(faces, np.int64).reshape(-1, 3)
    if len(faces) == 0:
        raise UserError(f"{name}: the mesh has no faces; export it with its triangles")
    if not faces_fit(faces, len(vertices)):
        raise UserError(f"{name}: faces name vertices that are not there; the file is damaged, export it again")
    corners = vertices[faces]
    if not np.isfinite(corners).all():
        raise UserError(f"{name}: the mesh has vertices that are NaN or infinite; repair or remove it")
    if not np.ptp(corners, axis=(0, 1)).any():
        raise UserError(f"{name}: all vertices lie in one point; remove the file")
    edges = np.roll(corners, -1, axis=1) - corners
    area = np.linalg.norm(np.cross(edges[:, 0], edges[:, 1]), axis=1)
    # By its own edges first: a face without area may lie far off, and the others are nothing beside that distance.
    keep = area > 1e-13 * (edges**2).sum(axis=2).max(axis=1)
    if keep.any():
        keep &= area > 1e-12 * np.ptp(corners[keep], axis=(0, 1)).max() ** 2
    if not keep.any():
        raise UserError(f"{name}: every face has zero area; repair or remove it")
    used, inverse = np.unique(faces[keep], return_inverse=True)
    vertices, faces = vertices[used], inverse.reshape(-1, 3)
    low, high = vertices.min(0), vertices.max(0)
    vertices = (vertices - (low + high) / 2) / (high - low).max()
    return SourceMesh(vertices, faces, None if labels is None else np.asarray(labels)[keep], label_names)


def sample_ground_truth(mesh: SourceMesh, count: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Area-weighted surface points: points and normals [count, 3] float32, labels [count] if it has any.

    Normals are the faces' own; where a mesh's winding is inconsistent, so are they.
    """
    points, normals, face = sample_surface(mesh.vertices[mesh.faces], count, rng)
    sampled: dict[str, np.ndarray] = {"points": points.astype(np.float32), "normals": normals.astype(np.float32)}
    if mesh.labels is not None:
        sampled["labels"] = mesh.labels[face].astype(np.int32)
        sampled["label_names"] = np.asarray(mesh.label_names)
    return sampled


def families(objects: list[SourceObject]) -> list[list[str]]:
    """Groups of names that must share a split: variants (`JULES_1`, `JULES_2`) and exact duplicates.

    A variant is told by one digit after an underscore; `SS_001` and `SS_002` are no variants.
    """
    group: dict[str, int] = {}
    members: list[list[str]] = []
    for item in objects:
        keys = [f"fingerprint {item.fingerprint}"]
        if item.file is not None:
            keys.append(f"article {re.sub(r'_[0-9]$', '', item.name)}")
        found = sorted({group[key] for key in keys if key in group})
        home = found[0] if found else len(members)
        if not found:
            members.append([])
        for other in found[1:]:  # this object ties two groups together
            members[home] += members[other]
            members[other] = []
            group = {key: home if value == other else value for key, value in group.items()}
        members[home].append(item.name)
        group.update(dict.fromkeys(keys, home))
    return [sorted(names) for names in members if names]


def split_by_family(objects: list[SourceObject], sizes: dict[str, int], seed: int) -> dict[str, list[str]]:
    """Seeded split of whole families: `sizes` counts the objects of "test" and "val", the rest is "train".

    A family that no longer fits a side is passed over, so a side may stay short if only large ones are left.

    Raises:
        UserError: more objects asked for than there are, or a number below 0.
    """
    check_at_least(0, **sizes)
    check_seed(seed)
    groups = families(objects)
    splits: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    if sum(sizes.values()) > len(objects):
        raise UserError(f"splits ask for {sum(sizes.values())} objects, there are {len(objects)}; lower the numbers")
    for index in np.random.default_rng([seed, 0x5B117]).permutation(len(groups)):
        group = groups[index]
        side = next(
            (side for side in ("test", "val") if len(splits[side]) + len(group) <= sizes.get(side, 0)),
            "train",
        )
        splits[side] += group
    return {side: sorted(members) for side, members in splits.items()}
