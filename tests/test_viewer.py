"""The GLB files open in a real viewer, three.js in Chromium, upright and in the colours that were written."""

import numpy as np
import pytest
import trimesh

from tars3d import texture
from tars3d.export import export_mesh
from viewer import chromium, seen_by_three, seen_by_us, three_folder

pytestmark = [
    pytest.mark.skipif(chromium() is None, reason="no Chromium on this machine: apt-get install chromium"),
    pytest.mark.skipif(three_folder() is None, reason="no three.js: npm install --no-save three, or set TARS3D_THREE"),
]


def painted_lamp() -> trimesh.Trimesh:
    """A ball on a box: red to the left, blue to the right, darker towards the ground, so that a flip of any kind shows."""
    ball = trimesh.creation.icosphere(subdivisions=4, radius=0.25).apply_translation([0.1, 0.2, 0])
    box = trimesh.creation.box((0.3, 0.4, 0.2)).subdivide().subdivide().apply_translation([-0.1, -0.3, 0.1])
    mesh = trimesh.util.concatenate([ball, box])
    return trimesh.Trimesh(mesh.vertices, mesh.faces, vertex_colors=colors_at(mesh.vertices), process=False)


def colors_at(points: np.ndarray) -> np.ndarray:
    side = np.clip(points[:, 0] + 0.5, 0, 1)
    dark = 0.4 + 0.6 * np.clip(points[:, 1] + 0.5, 0, 1)
    return (255 * dark[:, None] * np.stack([1 - side, 0.3 + 0 * side, side], axis=1)).astype(np.uint8)


@pytest.mark.parametrize("kind", ["vertex", "baked"])
def test_three_js_shows_what_our_rasteriser_shows(tmp_path, kind):
    mesh, path = painted_lamp(), tmp_path / "lamp.glb"
    if kind == "vertex":
        export_mesh(mesh, None, path)
    else:
        pytest.importorskip("xatlas", reason="needs the extra `texture`")

        def colors(face: np.ndarray, weights: np.ndarray) -> np.ndarray:
            return colors_at(np.einsum("nk,nkc->nc", weights, np.asarray(mesh.triangles)[face]))

        canonical = np.zeros((len(mesh.vertices), 3), np.float32)
        texture.write_baked(path, mesh, canonical, None, colors, 512)
    theirs, ours = seen_by_three(path, 256), seen_by_us(path, 256)
    drawn = (ours < 250).any(axis=2)
    assert drawn.mean() > 0.05
    gap = np.abs(theirs.astype(int) - ours).max(axis=2)
    assert np.median(gap[drawn]) <= 3, "the viewer shows other colours"
    assert (gap > 40).mean() < 0.01, "outlines lie elsewhere"  # antialiasing differs on them
