"""Surfaces cut into parts: against every possible cut of a small mesh."""

from itertools import product

import numpy as np
import pytest
import trimesh

from helpers import flat_grid
from tars3d.geometry.partition import SurfacePartition, _to_simplex


@pytest.mark.parametrize(("seed", "parts", "dear"), [(0, 2, 0.05), (1, 2, 0.2), (2, 2, 0.5), (3, 3, 0.1), (4, 3, 0.3)])
def test_parts_are_cut_as_well_as_by_the_best_of_all_cuts(seed, parts, dear):
    rows = 3 if parts == 2 else 2
    mesh = flat_grid(rows, 4)
    surface, rng = SurfacePartition(mesh), np.random.default_rng(seed)
    count = 4 * rows
    costs, prices = rng.random((count, parts)), dear * rng.random(len(surface.edges))

    def energy(labels: np.ndarray) -> float:
        apart = labels[surface.edges[:, 0]] != labels[surface.edges[:, 1]]
        own = (costs[np.arange(count), labels] * surface._areas).sum()
        return own + (prices * surface._lengths * apart).sum()

    cut = surface.solve(costs, prices)
    np.testing.assert_allclose(cut.shares.sum(axis=1), 1, atol=1e-5)
    best = min(energy(np.array(labels)) for labels in product(range(parts), repeat=count))
    assert energy(cut.shares.argmax(axis=1)) == pytest.approx(best, rel=0.02)
    again = surface.solve(costs, prices, cut)
    assert energy(again.shares.argmax(axis=1)) == pytest.approx(best, rel=0.02)


def test_free_borders_leave_every_place_its_cheapest_part_and_dear_ones_leave_one():
    surface, rng = SurfacePartition(flat_grid(8, 8)), np.random.default_rng(0)
    costs = rng.random((64, 3))
    edges = len(surface.edges)
    free = surface.solve(costs, np.full(edges, 1e-9)).shares.argmax(axis=1)
    np.testing.assert_array_equal(free, costs.argmin(axis=1))
    dear = surface.solve(costs, np.full(edges, 10.0)).shares
    assert len(np.unique(dear.argmax(axis=1))) == 1


def test_a_border_costs_its_length_times_its_price():
    """One half of a square of side 1 is cheaper for another part by as much as the border to it costs, or a little more or less."""
    mesh = flat_grid(21, 21, 0.05)
    surface = SurfacePartition(mesh)
    half = mesh.vertices[:, 0] > 0.51
    border = half[surface.edges[:, 0]] != half[surface.edges[:, 1]]
    length = (surface._lengths * border).sum() * surface._mean_area
    gain = (surface._areas * half).sum() * surface._mean_area
    for share, cut in ((0.7, True), (1.5, False)):  # of the break-even; elsewhere a border would be longer or gain less
        costs = np.where(half[:, None], [1.0, 0.0], [0.0, 3.0])
        prices = np.full(len(surface.edges), share * gain / length)
        assert (surface.solve(costs, prices).shares.argmax(axis=1)[half].mean() > 0.5) == cut


def test_faces_without_area_change_nothing():
    mesh = flat_grid(12, 12)
    costs = np.random.default_rng(0).random((144, 3))
    flat = np.arange(140)[:, None] + np.array([0, 0, 1])
    more = trimesh.Trimesh(mesh.vertices, np.concatenate([mesh.faces, np.tile(flat, (4, 1))]), process=False)
    clean, dirty = SurfacePartition(mesh), SurfacePartition(more)
    shares = clean.solve(costs, np.full(len(clean.edges), 0.02)).shares
    same = dirty.solve(costs, np.full(len(dirty.edges), 0.02)).shares
    assert (shares.argmax(axis=1) != same.argmax(axis=1)).mean() < 0.03


def test_vertices_of_no_face_take_their_cheapest_part():
    mesh = flat_grid(3, 3)
    loose = trimesh.Trimesh(np.concatenate([mesh.vertices, [[5, 5, 5]]]), mesh.faces, process=False)
    costs = np.tile([0.0, 1.0], (10, 1))
    costs[9] = [1, 0]
    surface = SurfacePartition(loose)
    cut = surface.solve(costs, np.full(len(surface.edges), 0.1))
    assert cut.shares.argmax(axis=1).tolist() == [0] * 9 + [1]


def test_borders_are_measured_in_object_units():
    """A border across a square of side 1 is 1 to 1.3 long, at any fineness and in either direction: it runs between the middles of faces."""
    for fine in (11, 21, 41):
        mesh = flat_grid(fine, fine, 1 / (fine - 1))
        surface = SurfacePartition(mesh)
        for axis in (0, 1):
            side = mesh.vertices[:, axis] > 0.47
            apart = side[surface.edges[:, 0]] != side[surface.edges[:, 1]]
            length = (surface._lengths * apart).sum() * surface._mean_area
            assert 0.9 < length < 1.4
        assert surface._areas.sum() * surface._mean_area == pytest.approx(1)


def test_rows_become_shares():
    rows = np.array([[0.2, 0.3, 0.5], [2.0, 0.0, 0.0], [-1.0, -1.0, -1.0], [0.9, 0.5, -3.0]])
    expected = [[0.2, 0.3, 0.5], [1, 0, 0], [1 / 3, 1 / 3, 1 / 3], [0.7, 0.3, 0]]
    np.testing.assert_allclose(_to_simplex(rows), expected)
