"""An object in the making: labelled solids, their union into one watertight mesh, and a label for each face.

Used by every category's module; `make_object` returns what `Assembly.build` made.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import manifold3d
import numpy as np
import trimesh
from manifold3d import Manifold

Point = Sequence[float] | np.ndarray
SIMPLIFY_TOLERANCE = 2e-4  # of the longest side: sliver triangles that no renderer at 512 pixels can see


@dataclass(frozen=True)
class LabelledMesh:
    """A watertight mesh whose every face knows its semantic part.

    The bounding-box centre is the origin and the longest side is 1; Y is up and the front faces -Z, so that
    the object's own left is at -X. `face_labels` [F] indexes `label_names`. `topology` is equal for objects
    made of the same kinds of parts. `keypoints` maps a name to a point [3] in the mesh's frame; a keypoint
    that an object lacks is absent.
    """

    mesh: trimesh.Trimesh
    face_labels: np.ndarray
    label_names: tuple[str, ...]
    topology: str
    keypoints: dict[str, np.ndarray]


@dataclass
class Assembly:
    """Labelled solids and keypoints of one object in the making."""

    parts: list[tuple[str | dict[int, str], Manifold]] = field(default_factory=list)
    keypoints: dict[str, np.ndarray] = field(default_factory=dict)

    def add(self, label: str, *solids: Manifold) -> None:
        """Append solids under one label. Raises ValueError where one is empty: a generator's bug."""
        for solid in solids:
            if solid.is_empty():
                raise ValueError(f"an empty or broken {label} part: {solid.status()}")
            self.parts.append((label, solid))

    def add_pieces(self, solid: Manifold, label_by_id: dict[int, str]) -> None:
        """Append a solid with several labels, as `labelled_slab` and `labelled_loft` return it."""
        if solid.is_empty():
            raise ValueError(f"an empty or broken part: {solid.status()}")
        self.parts.append((label_by_id, solid))

    def mirrored(self, label: str, *solids: Manifold) -> None:
        """Append solids and their mirror images over the plane X = 0."""
        self.add(label, *solids)
        self.add(label, *(solid.mirror((1, 0, 0)) for solid in solids))

    def keypoint(self, name: str, point: Point, mirrored: bool = False) -> None:
        """Record a point; `mirrored` records it as NAME_right (+X) and NAME_left (-X)."""
        x, y, z = point
        if mirrored:
            self.keypoints[f"{name}_right"] = np.array([abs(x), y, z])
            self.keypoints[f"{name}_left"] = np.array([-abs(x), y, z])
        else:
            self.keypoints[name] = np.array([x, y, z])

    def build(self, label_names: tuple[str, ...], topology: str) -> LabelledMesh:
        """Unite the parts and normalise. A face keeps the label of the solid that it came from."""
        labels_by_id: dict[int, int] = {}
        originals = []
        for label, solid in self.parts:
            if isinstance(label, str):
                solid = solid.as_original()
                label = {solid.original_id(): label}
            labels_by_id.update({original: label_names.index(name) for original, name in label.items()})
            originals.append(solid)
        union = Manifold.batch_boolean(originals, manifold3d.OpType.Add)
        low, high = np.array(union.bounding_box()[:3]), np.array(union.bounding_box()[3:])
        mesh, labels = _with_labels(union.simplify(SIMPLIFY_TOLERANCE * float((high - low).max())), labels_by_id)
        mesh, labels = _without_crumbs(mesh, labels)
        centre, scale = mesh.bounds.mean(axis=0), 1.0 / float(mesh.extents.max())
        mesh.vertices = (mesh.vertices - centre) * scale
        keypoints = {name: (point - centre) * scale for name, point in self.keypoints.items()}
        return LabelledMesh(mesh, labels, label_names, topology, keypoints)


def _with_labels(union: Manifold, labels_by_id: dict[int, int]) -> tuple[trimesh.Trimesh, np.ndarray]:
    output = union.to_mesh64()
    vertices = np.asarray(output.vert_properties)[:, :3]
    faces = np.asarray(output.tri_verts).astype(np.int64)
    # The output repeats a vertex once for each part that meets there and lists which repeats are one point.
    merge = np.arange(len(vertices))
    merge[np.asarray(output.merge_from_vert, dtype=np.int64)] = np.asarray(output.merge_to_vert, dtype=np.int64)
    used, faces = np.unique(merge[faces], return_inverse=True)
    labels = np.empty(len(faces), dtype=np.int64)
    starts = np.asarray(output.run_index, dtype=np.int64) // 3
    for run, original in enumerate(output.run_original_id):
        labels[starts[run] : starts[run + 1]] = labels_by_id[int(original)]
    return trimesh.Trimesh(vertices[used], faces.reshape(-1, 3), process=False), labels


def _without_crumbs(mesh: trimesh.Trimesh, labels: np.ndarray) -> tuple[trimesh.Trimesh, np.ndarray]:
    """Drop bodies and voids of under 1e-4 of the volume: slivers that grazing surfaces leave in a union."""
    body = trimesh.graph.connected_component_labels(mesh.face_adjacency, node_count=len(mesh.faces))
    if body.max() == 0:
        return mesh, labels
    corners = mesh.triangles
    volumes = np.abs(np.bincount(body, np.einsum("fi,fi->f", corners[:, 0], np.cross(corners[:, 1], corners[:, 2]))))
    keep = (volumes > 1e-4 * volumes.max())[body]
    used, faces = np.unique(mesh.faces[keep], return_inverse=True)
    return trimesh.Trimesh(mesh.vertices[used], faces.reshape(-1, 3), process=False), labels[keep]


def pick(rng: np.random.Generator, weights: dict[str, float]) -> str:
    """One key, drawn with probability proportional to its weight."""
    p = np.array(list(weights.values()), dtype=float)
    return str(rng.choice(list(weights), p=p / p.sum()))
