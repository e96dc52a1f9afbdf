"""Part labels of a surface: nearest labelled places, and what neighbours on the surface make of them."""

import numpy as np
import pytest
import trimesh

from tars3d import labelling
from tars3d.labelling import PartDistances, PartTrees, RandomWalker, carried_labels

SPACING = 0.02


@pytest.fixture(scope="module")
def plate() -> trimesh.Trimesh:
    """A flat square of side 1 with 51 x 51 vertices."""
    x, y = np.meshgrid(np.arange(51) * SPACING, np.arange(51) * SPACING, indexing="ij")
    corner = (np.arange(50)[:, None] * 51 + np.arange(50)).ravel()
    faces = np.concatenate(
        [np.stack([corner, corner + 51, corner + 52], 1), np.stack([corner, corner + 52, corner + 1], 1)]
    )
    return trimesh.Trimesh(np.stack([x.ravel(), y.ravel(), np.zeros(51 * 51)], axis=1), faces, process=False)


def distances(labels: np.ndarray, margin: np.ndarray | float, count: int) -> PartDistances:
    """The nearest part is `labels`, the others are farther by `margin`."""
    found = np.repeat(np.broadcast_to(margin, labels.shape)[:, None], count, axis=1).astype(float)
    found[np.arange(len(labels)), labels] = 0
    return PartDistances(np.arange(count), found, found.min(axis=1))


def test_distances_agree_with_a_plain_search(monkeypatch):
    monkeypatch.setattr(labelling, "_TOLERANCE", 0.0)
    rng = np.random.default_rng(0)
    rows, asked = [rng.random((count, 4)) for count in (40, 60, 50)], rng.random((30, 4))
    labels = [rng.integers(-2, 3, len(some)) for some in rows]
    found = PartTrees(rows, labels).distances_to(asked)
    together, parts = np.concatenate(rows), np.maximum(np.concatenate(labels), -1)
    assert found.parts.tolist() == [-1, 0, 1, 2]
    for point, row, nearest in zip(asked, found.distances, found.nearest, strict=True):
        to_all = np.linalg.norm(together - point, axis=1)
        np.testing.assert_allclose(nearest, to_all.min())
        np.testing.assert_allclose(row, [np.sort(to_all[parts == part])[:3].mean() for part in found.parts])


def test_a_part_with_fewer_points_than_objects_counts_with_those_it_has():
    found = PartTrees([np.zeros((1, 2)), np.ones((5, 2))], [np.array([3]), np.full(5, 7)]).distances_to(
        np.zeros((1, 2))
    )
    np.testing.assert_allclose(found.distances, [[0, 2**0.5]])
    assert found.parts[found.distances.argmin(axis=1)].tolist() == [3]


def test_specks_vanish_and_borders_stay(plate):
    right = (plate.vertices[:, 0] > 0.5).astype(int)
    rng = np.random.default_rng(0)
    specks = rng.random(len(right)) < 0.1
    noisy = np.where(specks, 1 - right, right)
    found = RandomWalker(plate).segment(distances(noisy, np.where(specks, 0.003, 0.03), 2))
    assert (found != right).mean() < 0.01
    clean = RandomWalker(plate).segment(distances(right, 0.03, 2))
    np.testing.assert_array_equal(clean, right)


def test_a_small_part_keeps_its_share(plate):
    """A disc as wide as the surface's reach would be smoothed away, if shares were not kept."""
    disc = (np.linalg.norm(plate.vertices[:, :2] - 0.5, axis=1) < 0.05).astype(int)
    assert disc.sum() > 15
    found = RandomWalker(plate, reach=0.1).segment(distances(disc, 0.03, 2))
    assert abs(found.sum() - disc.sum()) <= 0.2 * disc.sum()
    assert (found * disc).sum() > 0.7 * disc.sum()


def test_parts_far_apart_do_not_meet():
    """Two plates on top of each other, not joined: each keeps its label."""
    box = trimesh.creation.box((0.4, 0.02, 0.4)).subdivide_to_size(0.03)
    other = box.copy()
    other.apply_translation([0, 0.03, 0])
    both = trimesh.util.concatenate([box, other])
    labels = np.repeat([0, 1], len(box.vertices))
    np.testing.assert_array_equal(RandomWalker(both).segment(distances(labels, 0.005, 2)), labels)


def test_places_without_counterpart_or_label_have_none(plate):
    coordinates = plate.vertices[:, :2]
    kept = coordinates[:, 0] < 0.61
    labels = np.where(coordinates[kept][:, 0] < 0.3, 4, -1)
    found, counterpart = carried_labels(
        PartTrees([coordinates[kept]], [labels]), coordinates, RandomWalker(plate), 0.11
    )
    np.testing.assert_array_equal(counterpart, coordinates[:, 0] < 0.71)
    expected = np.where(coordinates[:, 0] < 0.3, 4, -1)
    near_border = np.abs(coordinates[:, 0] - 0.3) < 1.5 * SPACING
    np.testing.assert_array_equal(found[~near_border], expected[~near_border])


def test_points_without_any_edge_keep_their_nearest_part():
    points = trimesh.Trimesh(np.eye(3), np.empty((0, 3), int), process=False)
    assert RandomWalker(points).segment(distances(np.array([0, 1, 1]), 0.1, 2)).tolist() == [0, 1, 1]
