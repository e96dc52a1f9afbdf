"""Levels: where the whole of a surface at one height belongs on the category's canonical shape."""

from dataclasses import dataclass

import numpy as np
import pytest
import trimesh

from tars3d import correspond
from tars3d.heights import levelled_heights


@dataclass(frozen=True)
class Surface:
    mesh: trimesh.Trimesh
    canonical: np.ndarray


def stool(seat: float) -> trimesh.Trimesh:
    """A seat of that height on one thick leg."""
    board, leg = trimesh.creation.box((0.6, 0.1, 0.6)), trimesh.creation.box((0.2, seat, 0.2))
    board.apply_translation([0, seat, 0])
    leg.apply_translation([0, seat / 2, 0])
    return trimesh.util.concatenate(board, leg).subdivide_to_size(0.03)


def plain_levels(mesh: trimesh.Trimesh, canonical: np.ndarray, points: np.ndarray, reach: float) -> np.ndarray:
    """Face by face, point by point."""
    seen = np.abs(mesh.face_normals[:, 1]) * mesh.area_faces + 1e-3 * mesh.area_faces
    middle, place = mesh.triangles_center[:, 1], canonical[mesh.faces][:, :, 1].mean(axis=1)
    found = []
    for height in points[:, 1]:
        share = seen * np.exp(-((height - middle) ** 2) / (2 * reach**2))
        found.append(height + (share * (place - middle)).sum() / share.sum())
    return np.array(found)


@pytest.mark.parametrize("reach", [0.1, 0.2])
def test_levels_agree_with_the_sum_over_all_faces(reach):
    mesh = stool(0.4)
    canonical = np.sin(3 * mesh.vertices) + 0.2 * mesh.vertices[:, [1, 0, 2]]
    points = mesh.vertices[::13]
    expected = plain_levels(mesh, canonical, points, reach)
    np.testing.assert_allclose(levelled_heights(mesh, canonical, points, reach), expected, atol=2e-3)


def test_a_moved_object_has_the_levels_of_its_category():
    mesh = stool(0.4)
    canonical = mesh.vertices - np.array([0, 0.25, 0])
    np.testing.assert_allclose(levelled_heights(mesh, canonical, mesh.vertices), canonical[:, 1], atol=1e-9)
    above = np.array([[0.0, 3.0, 0.0]])
    np.testing.assert_allclose(levelled_heights(mesh, canonical, above), [2.75], atol=1e-9)


def test_surfaces_without_area_or_without_anything_horizontal_have_levels():
    points = np.array([[0.0, 0.1, 0.0], [0.0, 0.2, 0.0]])
    np.testing.assert_array_equal(levelled_heights(trimesh.Trimesh(), np.zeros((0, 3)), points), [0.1, 0.2])
    wall = trimesh.Trimesh([[0, 0, 0], [0, 1, 0], [0, 0, 1]], [[0, 1, 2]], process=False)
    np.testing.assert_allclose(levelled_heights(wall, np.asarray(wall.vertices) + 1, points), [1.1, 1.2])
    assert len(levelled_heights(wall, wall.vertices, np.zeros((0, 3)))) == 0


def test_legs_that_canonical_space_puts_onto_the_seat_are_matched_with_legs():
    """Two stools whose canonical places waver along Y; the seat of one is 0.2 higher than that of the other."""
    rng = np.random.default_rng(0)
    surfaces, seats = [], (0.3, 0.5)
    for seat in seats:
        mesh = stool(seat)
        place = np.interp(mesh.vertices[:, 1], [0, seat - 0.05, seat + 0.05], [0, 0.35, 0.45])
        wave = 0.15 * rng.normal(size=len(place))
        surfaces.append(Surface(mesh, np.column_stack([mesh.vertices[:, 0], place + wave, mesh.vertices[:, 2]])))

    def right(**rule: float) -> float:
        found = correspond(*surfaces, feature_weight=0.0, normal_weight=0.0, **rule)
        target = surfaces[1].mesh.vertices[:, 1] > seats[1] - 0.051
        return float(((found.points[:, 1] > seats[0] - 0.051) == target).mean())

    assert right() > right(height_weight=0.0) + 0.05
