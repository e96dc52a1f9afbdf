"""Balls with canonical maps, as transfers read them: `source.glb`, and `target.glb` of another shape."""

from pathlib import Path

import numpy as np
import trimesh

from tars3d.export import export_mesh, read_mesh

SPACE = "ball:00000001"


def ball(scale=(1.0, 1.0, 1.0), hat: bool = False) -> tuple[trimesh.Trimesh, np.ndarray]:
    """A ball of radius 0.4, stretched; its canonical map is the unstretched ball. A hat is far from it, and in no ball."""
    mesh = trimesh.creation.icosphere(subdivisions=4, radius=0.4)
    canonical = np.hstack([mesh.vertices, np.zeros((len(mesh.vertices), 2))]).astype(np.float32)
    vertices, faces = mesh.vertices * scale, mesh.faces
    if hat:
        top = trimesh.creation.icosphere(subdivisions=1, radius=0.05)
        vertices = np.concatenate([vertices, np.add(top.vertices, [0, 0.55, 0])])
        faces = np.concatenate([faces, top.faces + len(mesh.vertices)])
        canonical = np.concatenate([canonical, np.tile(np.float32([0, 0.8, 0, 0, 0]), (len(top.vertices), 1))])
    return trimesh.Trimesh(vertices, faces, process=False), canonical


def halves(points: np.ndarray) -> np.ndarray:
    """Red to the left, blue to the right."""
    return np.where(points[:, :1] < 0, [[250, 10, 10]], [[10, 10, 250]]).astype(np.uint8)


def far_from_border(points: np.ndarray) -> np.ndarray:
    return np.abs(points[:, 0]) > 0.03


def paint(path, **options) -> None:
    mesh, canonical = ball()
    mesh.visual.vertex_colors = halves(mesh.vertices)
    export_mesh(mesh, canonical, path, space=SPACE, **options)


def colors_arrived(path) -> bool:
    mesh = read_mesh(path)
    sure = far_from_border(mesh.vertices)
    return np.abs(np.asarray(mesh.visual.vertex_colors)[sure, :3].astype(int) - halves(mesh.vertices)[sure]).max() <= 2


def write_balls(folder: Path) -> None:
    """The two files, as tars3d writes them."""
    for name, scale in (("source", (1, 1, 1)), ("target", (0.6, 1.2, 0.8))):
        mesh, canonical = ball(scale)
        export_mesh(mesh, canonical, folder / f"{name}.glb", space=SPACE)
