"""Creases: where a surface is bent inwards."""

import numpy as np
import pytest
import trimesh

from tars3d.geometry.creases import concavity


def test_spheres_are_nowhere_creased_and_hollow_ones_everywhere():
    sphere = trimesh.creation.icosphere(4, 0.2)
    outside = concavity(sphere, 0.05)
    assert outside.max() < -0.01
    sphere.invert()
    np.testing.assert_allclose(concavity(sphere, 0.05), -outside, atol=1e-6)


def test_boxes_are_flat_on_faces_and_bent_outwards_at_edges():
    box = trimesh.creation.box((1, 1, 1)).subdivide_to_size(0.03)
    inside = np.sort(np.abs(box.vertices), axis=1)
    found = concavity(box, 0.06)
    flat = inside[:, 1] < 0.43
    assert np.abs(found[flat]).max() < 1e-6
    assert found[inside[:, 1] > 0.499].max() < -0.1


@pytest.mark.parametrize("size", [0.5, 2.0])
def test_it_is_a_ratio(size):
    """Twice the object at twice the radius is as concave."""
    torus = trimesh.creation.torus(0.3, 0.2, major_sections=60, minor_sections=40)
    found = concavity(torus, 0.05)
    assert found.max() > 0  # round the hole, which is narrower than the ring is thick
    larger = torus.copy()
    larger.apply_scale(size)
    np.testing.assert_allclose(concavity(larger, 0.05 * size), found, atol=1e-9)


def test_a_mesh_without_area_has_no_creases():
    flat = trimesh.Trimesh(np.zeros((3, 3)), [[0, 1, 2]], process=False)
    assert concavity(flat).tolist() == [0, 0, 0]
