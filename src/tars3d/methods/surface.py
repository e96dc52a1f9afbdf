"""The mesh of a shape: its sdf handed to the mesher, its fields read at the vertices. Used by `reconstruct` and by training."""

import numpy as np
import torch
import trimesh
from jaxtyping import Float
from trimesh.visual import ColorVisuals

from tars3d.geometry.isosurface import Isosurface, extract_mesh
from tars3d.methods.base import Shape
from tars3d.methods.mesh import MeshShape

CHUNKS = {"cpu": 65_536, "cuda": 262_144}
"""Points that a field is asked for at once; each time is a way to the device and back."""


@torch.no_grad()
def surface_of(
    shape: Shape, *, bound: float, resolution: int, device: torch.device, dense: bool = False, colored: bool = True
) -> Isosurface:
    """The zero surface of a shape (a batch of one) inside the cube [-bound, bound]³, with vertex colours unless it is to be without.

    A mesh system's own mesh is taken as it is.
    """
    if isinstance(shape, MeshShape):
        return Isosurface(shape.mesh(), 0, 0, reaches_bounds=False)

    def sdf(points: np.ndarray) -> np.ndarray:
        return shape.sdf(torch.from_numpy(points).float().to(device)[None])[0].cpu().numpy()

    found = extract_mesh(sdf, (-bound, bound), resolution, dense=dense, chunk=_chunk(device))
    if colored:
        color_vertices(found.mesh, shape, device)
    return found


@torch.no_grad()
def color_vertices(mesh: trimesh.Trimesh, shape: Shape, device: torch.device) -> None:
    """Give a mesh the colours of the shape's field (a batch of one) at its vertices."""
    if len(mesh.vertices):
        rgb = at_points(shape.color, mesh.vertices, device)
        rgba = np.concatenate([rgb.clip(0, 1), np.ones((len(rgb), 1), rgb.dtype)], axis=1)
        mesh.visual = ColorVisuals(mesh, vertex_colors=(255 * rgba).round().astype(np.uint8))


@torch.no_grad()
def canonical_coordinates(
    shape: Shape, vertices: np.ndarray, device: torch.device
) -> Float[np.ndarray, "vertices channels"]:
    """Canonical position of each vertex, then its point features."""
    if isinstance(shape, MeshShape):  # exact, where nearest faces of a mesh that cuts through itself are not
        return shape.template.detach().cpu().numpy()
    positions = at_points(shape.canonical, vertices, device)
    return np.concatenate([positions, at_points(shape.features, vertices, device)], axis=1)


@torch.no_grad()
def at_points(field, points: np.ndarray, device: torch.device) -> np.ndarray:
    """A field of a shape (a batch of one) at points [n, 3], in chunks."""
    tensor = torch.from_numpy(np.array(points, dtype=np.float32)).to(device)
    return torch.cat([field(part[None])[0].cpu() for part in tensor.split(_chunk(device))]).numpy()


def _chunk(device: torch.device) -> int:
    return CHUNKS["cpu" if device.type == "cpu" else "cuda"]
