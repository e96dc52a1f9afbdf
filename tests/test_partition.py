"""Surfaces cut into parts: against every possible cut of a small mesh."""

from itertools import product

import numpy as np
import pytest
import trimesh

from tars3d.partition import SurfacePartition, _to_simplex


def grid(rows: int, columns: int, spacing: float = 0.1) -> trimesh.Trimesh:
    """A flat rectangle of triangles."""
    x, y = np.meshgrid(np.arange(rows) * spacing, np.arange(columns) * spacing, indexing="ij")
    corner = (np.arange(rows - 1)[:, None] * columns + np.arange(columns - 1)).ravel()
    faces = np.concatenate(
        [
            np.stack([corner, corner + columns, corner + columns + 1], 1),
            np.stack([corner, corner + columns + 1, corner + 1], 1),
        ]
    )
    return trimesh.Trimesh(np.stack([x.ravel(), y.ravel(), np.zeros(rows * columns)], axis=1), faces, process=False)


@pytest.mark.parametrize("seed", range(5))
def test_two_parts_are_cut_as_well_as_the_best_of_all_cuts(seed):
    mesh = grid(3, 4)
    surface, rng = SurfacePartition(mesh), np.random.default_rng(seed)
    costs, prices = rng.random((12, 2)), 0.05 * rng.random(len(surface.edges))

    def energy(labels: np.ndarray) -> float:
        apart = labels[surface.edges[:, 0]] != labels[surface.edges[:, 1]]
        own = (costs[np.arange(12), labels] * surface._areas).sum()
        return own + (prices * surface._lengths * apart).sum()

    cut = surface.solve(costs, prices)
    np.testing.assert_allclose(cut.shares.sum(axis=1), 1, atol=1e-5)
    best = min(energy(np.array(labels)) for labels in product((0, 1), repeat=12))
    assert energy(cut.shares.argmax(axis=1)) == pytest.approx(best, rel=0.02)
    again = surface.solve(costs, prices, cut)
    assert energy(again.shares.argmax(axis=1)) == pytest.approx(best, rel=0.02)


def test_free_borders_leave_every_place_its_cheapest_part_and_dear_ones_leave_one():
    surface, rng = SurfacePartition(grid(8, 8)), np.random.default_rng(0)
    costs = rng.random((64, 3))
    edges = len(surface.edges)
    free = surface.solve(costs, np.full(edges, 1e-9)).shares.argmax(axis=1)
    np.testing.assert_array_equal(free, costs.argmin(axis=1))
    dear = surface.solve(costs, np.full(edges, 10.0)).shares
    assert len(np.unique(dear.argmax(axis=1))) == 1


def test_vertices_of_no_face_take_their_cheapest_part():
    mesh = grid(3, 3)
    loose = trimesh.Trimesh(np.concatenate([mesh.vertices, [[5, 5, 5]]]), mesh.faces, process=False)
    costs = np.tile([0.0, 1.0], (10, 1))
    costs[9] = [1, 0]
    surface = SurfacePartition(loose)
    cut = surface.solve(costs, np.full(len(surface.edges), 0.1))
    assert cut.shares.argmax(axis=1).tolist() == [0] * 9 + [1]


def test_borders_are_measured_in_object_units():
    """A border across a square of side 1 is about 1 long, at any fineness and in either direction; triangulations differ by a fifth."""
    for fine in (11, 21, 41):
        mesh = grid(fine, fine, 1 / (fine - 1))
        surface = SurfacePartition(mesh)
        for axis in (0, 1):
            side = mesh.vertices[:, axis] > 0.47
            apart = side[surface.edges[:, 0]] != side[surface.edges[:, 1]]
            length = (surface._lengths * apart).sum() * surface._mean_area
            assert 0.8 < length < 1.6
        assert surface._areas.sum() * surface._mean_area == pytest.approx(1)


def test_rows_become_shares():
    rows = np.array([[0.2, 0.3, 0.5], [2.0, 0.0, 0.0], [-1.0, -1.0, -1.0], [0.9, 0.5, -3.0]])
    expected = [[0.2, 0.3, 0.5], [1, 0, 0], [1 / 3, 1 / 3, 1 / 3], [0.7, 0.3, 0]]
    np.testing.assert_allclose(_to_simplex(rows), expected)
