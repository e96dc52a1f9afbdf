"""Part labels of a surface: nearest labelled places, and what neighbours on the surface make of them."""

import numpy as np
import pytest
import trimesh

from helpers import flat_grid
from tars3d import labelling
from tars3d.appearance import Clusters, SurfaceColors
from tars3d.labelling import LabelledPoints, PartDistances, PartSegmenter, PartTrees, carried_labels, typical_pieces
from tars3d.rules import BorderRule

SPACING = 0.02


@pytest.fixture(scope="module")
def plate() -> trimesh.Trimesh:
    """A flat square of side 1 with 51 x 51 vertices."""
    return flat_grid(51, 51, SPACING)


def distances(labels: np.ndarray, margin: np.ndarray | float, count: int) -> PartDistances:
    """The nearest part is `labels`, the others are farther by `margin`."""
    found = np.repeat(np.broadcast_to(margin, labels.shape)[:, None], count, axis=1).astype(float)
    found[np.arange(len(labels)), labels] = 0
    return PartDistances(np.arange(count), found, found.min(axis=1), np.zeros(count))


def test_distances_agree_with_a_plain_search(monkeypatch):
    monkeypatch.setattr(labelling, "_TOLERANCE", 0.0)
    rng = np.random.default_rng(0)
    rows, asked = [rng.random((count, 4)) for count in (40, 60, 50)], rng.random((30, 4))
    labels = [rng.integers(-2, 3, len(some)) for some in rows]
    found = PartTrees([LabelledPoints(*pair) for pair in zip(rows, labels, strict=True)]).distances_to(asked)
    together, parts = np.concatenate(rows), np.maximum(np.concatenate(labels), -1)
    assert found.parts.tolist() == [-1, 0, 1, 2]
    for point, row, nearest in zip(asked, found.distances, found.nearest, strict=True):
        to_all = np.linalg.norm(together - point, axis=1)
        np.testing.assert_allclose(nearest, to_all.min())
        np.testing.assert_allclose(row, [np.sort(to_all[parts == part])[:3].mean() for part in found.parts])


def test_a_part_with_fewer_points_than_objects_counts_with_those_it_has():
    first, second = LabelledPoints(np.zeros((1, 2)), np.array([3])), LabelledPoints(np.ones((5, 2)), np.full(5, 7))
    found = PartTrees([first, second]).distances_to(np.zeros((1, 2)))
    np.testing.assert_allclose(found.distances, [[0, 2**0.5]])
    assert found.parts[found.distances.argmin(axis=1)].tolist() == [3]


def test_specks_vanish_and_borders_stay(plate):
    right = (plate.vertices[:, 0] > 0.5).astype(int)
    rng = np.random.default_rng(0)
    specks = rng.random(len(right)) < 0.1
    noisy = np.where(specks, 1 - right, right)
    found = PartSegmenter(plate).segment(distances(noisy, np.where(specks, 0.003, 0.03), 2))
    assert (found != right).mean() < 0.01
    clean = PartSegmenter(plate).segment(distances(right, 0.03, 2))
    np.testing.assert_array_equal(clean, right)


def test_a_small_part_stays(plate):
    """A disc a twentieth of the surface wide, by a margin as small as that of neighbours."""
    disc = (np.linalg.norm(plate.vertices[:, :2] - 0.5, axis=1) < 0.05).astype(int)
    assert disc.sum() > 15
    found = PartSegmenter(plate).segment(distances(disc, 0.03, 2))
    assert abs(found.sum() - disc.sum()) <= 0.2 * disc.sum()
    assert (found * disc).sum() > 0.8 * disc.sum()


def test_parts_far_apart_do_not_meet():
    """Two plates on top of each other, not joined: each keeps its label."""
    box = trimesh.creation.box((0.4, 0.02, 0.4)).subdivide_to_size(0.03)
    other = box.copy()
    other.apply_translation([0, 0.03, 0])
    both = trimesh.util.concatenate([box, other])
    labels = np.repeat([0, 1], len(box.vertices))
    np.testing.assert_array_equal(PartSegmenter(both).segment(distances(labels, 0.005, 2)), labels)


def test_places_without_counterpart_or_label_have_none(plate):
    coordinates = plate.vertices[:, :2]
    kept = coordinates[:, 0] < 0.61
    labels = np.where(coordinates[kept][:, 0] < 0.3, 4, -1)
    trees = PartTrees([LabelledPoints(coordinates[kept], labels)])
    found, counterpart = carried_labels(trees, coordinates, PartSegmenter(plate), 0.11)
    np.testing.assert_array_equal(counterpart, coordinates[:, 0] < 0.71)
    expected = np.where(coordinates[:, 0] < 0.3, 4, -1)
    near_border = np.abs(coordinates[:, 0] - 0.3) < 1.5 * SPACING
    np.testing.assert_array_equal(found[~near_border], expected[~near_border])


def test_points_without_any_edge_keep_their_nearest_part():
    points = trimesh.Trimesh(np.eye(3), np.empty((0, 3), int), process=False)
    assert PartSegmenter(points).segment(distances(np.array([0, 1, 1]), 0.1, 2)).tolist() == [0, 1, 1]


def misplaced(plate: trimesh.Trimesh) -> tuple[np.ndarray, PartDistances]:
    """Two halves that meet at x = 0.5, and distances that put their border at 0.56, less surely the nearer it is."""
    x = plate.vertices[:, 0]
    margin = 0.1 * (x - 0.56)
    found = np.maximum(np.stack([margin, -margin], axis=1), 0)
    return (x > 0.5).astype(int), PartDistances(np.arange(2), found, 0 * x, np.zeros(2))


def test_colors_move_a_border_to_where_they_change(plate):
    right, found = misplaced(plate)
    plain = PartSegmenter(plate).segment(found)
    assert (plain != right).mean() > 0.04
    rng = np.random.default_rng(0)
    rgb = np.where(right[:, None], [160, 60, 40], [60, 70, 150]) + rng.normal(0, 8, (len(right), 3))
    segmenter = PartSegmenter(plate, SurfaceColors(rgb, np.ones(len(rgb))))
    assert (segmenter.segment(found) != right).mean() < 0.005
    np.testing.assert_array_equal(segmenter.segment(found, BorderRule(color_weight=0.0)), plain)
    barely = segmenter.segment(found, BorderRule(color_weight=0.001))
    assert (barely != plain).mean() < 0.005, "how much colours count is not asked"
    guessed = PartSegmenter(plate, SurfaceColors.guessed(rgb)).segment(found)  # half the trust, still enough here
    assert (guessed != right).mean() < 0.02


def test_borders_go_to_the_crease_beside_them():
    """Two boards joined at an angle, as seat and back are; distances put their border 0.06 beside the crease."""
    angle = bent(inwards=True)
    along = np.asarray(angle.vertices)[:, :2].sum(axis=1)  # 0 in the crease, negative on the lower board
    margin = 0.01 * (along - 0.06)
    found = PartDistances(np.arange(2), np.maximum(np.stack([margin, -margin], axis=1), 0), 0 * along, np.zeros(2))
    right = along > 0.5 * SPACING
    unsure = np.abs(along) < 1.5 * SPACING
    by_crease = PartSegmenter(angle).segment(found)
    np.testing.assert_array_equal(by_crease[~unsure], right[~unsure])
    plain = PartSegmenter(angle).segment(found, BorderRule(crease_weight=0.0))
    assert (plain != right)[~unsure].mean() > 0.02
    turned = bent(inwards=False)  # the same from the other side: an edge, at which nothing ends
    assert (PartSegmenter(turned).segment(found) != plain).mean() < 0.005


def test_many_creases_elsewhere_do_not_keep_a_part_from_being_cut(plate):
    """Most edges are those of a hollow ball, where borders cost nothing."""
    hollow = trimesh.creation.icosphere(5, 0.3)
    hollow.invert()
    hollow.apply_translation([0, 0, 2])
    both = trimesh.util.concatenate([plate, hollow])
    rng = np.random.default_rng(0)
    right = (plate.vertices[:, 0] > 0.5).astype(int)
    specks = rng.random(len(right)) < 0.1
    noisy = np.where(specks, 1 - right, right)
    alone = PartSegmenter(plate).segment(distances(noisy, np.where(specks, 0.003, 0.03), 2))
    labels = np.concatenate([noisy, np.zeros(len(hollow.vertices), int)])
    margin = np.concatenate([np.where(specks, 0.003, 0.03), np.full(len(hollow.vertices), 0.03)])
    together = PartSegmenter(both).segment(distances(labels, margin, 2))[: len(right)]
    assert (alone != right).mean() < 0.01
    assert (together != alone).mean() < 0.01


def test_split_vertices_are_one_place(plate):
    """A mesh with a vertex for each corner of each face, as baked textures leave it, has the labels of the whole one."""
    rng = np.random.default_rng(0)
    right = (plate.vertices[:, 0] > 0.5).astype(int)
    specks = rng.random(len(right)) < 0.1
    found = distances(np.where(specks, 1 - right, right), np.where(specks, 0.003, 0.03), 2)
    rgb = np.where(right[:, None], [160, 60, 40], [60, 70, 150])
    whole = PartSegmenter(plate, SurfaceColors.guessed(rgb)).segment(found)
    corners = plate.faces.ravel()
    split = trimesh.Trimesh(plate.vertices[corners], np.arange(len(corners)).reshape(-1, 3), process=False)
    scattered = PartDistances(found.parts, found.distances[corners], found.nearest[corners], found.pieces)
    labels = PartSegmenter(split, SurfaceColors.guessed(rgb[corners])).segment(scattered)
    assert (labels != whole[corners]).mean() < 0.005


def test_a_mesh_without_faces_may_have_colors():
    points = trimesh.Trimesh(np.eye(3), np.empty((0, 3), int), process=False)
    colors = SurfaceColors.guessed(np.array([[250, 0, 0], [0, 0, 250], [0, 0, 250]]))
    assert PartSegmenter(points, colors).segment(distances(np.array([0, 1, 1]), 0.1, 2)).tolist() == [0, 1, 1]


def bent(*, inwards: bool) -> trimesh.Trimesh:
    """A square board, its one half turned down by a right angle; the normals look into the angle, or out of it."""
    flat = flat_grid(51, 51, SPACING)
    x, z, _ = flat.vertices.T - [[0.5], [0], [0]]
    points = np.stack([np.maximum(x, 0), np.minimum(x, 0), z], axis=1)
    return trimesh.Trimesh(points, flat.faces if inwards else flat.faces[:, ::-1], process=False)


@pytest.mark.parametrize("pattern", ["plain", "checks", "noise"])
def test_colors_that_parts_share_change_little(plate, pattern):
    _, found = misplaced(plate)
    x, y = np.round(plate.vertices[:, :2].T / SPACING).astype(int)
    rng = np.random.default_rng(0)
    blend = {"plain": 0 * x, "checks": (x // 5 + y // 5) % 2, "noise": rng.random(len(x))}[pattern]
    rgb = np.array([200.0, 60, 60]) + blend[:, None] * np.array([-150.0, 0, 100])
    colored = PartSegmenter(plate, SurfaceColors(rgb, np.ones(len(rgb)))).segment(found)
    assert (colored != PartSegmenter(plate).segment(found)).mean() < 0.01


def test_clusters_are_shares_and_rare_colors_are_never_impossible(plate):
    rng = np.random.default_rng(0)
    colors = SurfaceColors(rng.uniform(0, 255, (500, 3)), rng.random(500))
    clusters = colors.clusters
    assert clusters is not None
    np.testing.assert_allclose(clusters.member.sum(axis=1), 1)
    assert clusters.trust.min() == 0.5
    parts = np.eye(2)[np.r_[0, np.ones(499, int)]]  # one vertex is all that the first part has
    likeliness = clusters.likeliness(parts)
    assert likeliness.shape == (500, 2)
    assert likeliness.min() > 0
    assert likeliness.max() <= 1
    assert SurfaceColors.guessed(np.full((5, 3), 90)).clusters is None


def test_specks_go_to_the_part_around_them_and_small_parts_stay(plate):
    """A speck of a part whose pieces are large elsewhere goes; one of a part whose pieces are small stays, and so does what borders on nothing."""
    x, y = plate.vertices[:, :2].T
    labels = (x > 0.5).astype(int)
    labels[(abs(x - 0.2) < 0.05) & (abs(y - 0.5) < 0.05)] = 1  # 25 of 2601 vertices, of the other half's part
    labels[(abs(x - 0.8) < 0.05) & (abs(y - 0.5) < 0.05)] = 2  # as many, of a part that is always small
    found = distances(labels, 0.3, 3)
    kept = PartSegmenter(plate).segment(PartDistances(found.parts, found.distances, found.nearest, np.zeros(3)))
    np.testing.assert_array_equal(kept, labels)
    found = PartDistances(found.parts, found.distances, found.nearest, np.array([0.5, 0.5, 0.01]))
    cleaned = PartSegmenter(plate).segment(found)
    np.testing.assert_array_equal(cleaned, np.where((labels == 1) & (x < 0.5), 0, labels))
    large = (x > 0.2) & (x < 0.42) & (y > 0.4) & (y < 0.62)  # 5% of the surface
    found = PartDistances(np.arange(2), distances(large.astype(int), 0.3, 2).distances, 0 * x, np.full(2, 0.9))
    np.testing.assert_array_equal(PartSegmenter(plate).segment(found), large)
    alone = trimesh.creation.icosphere(1, 0.02).apply_translation([0, 0, 1])
    both = trimesh.util.concatenate([plate, alone])
    apart = np.concatenate([0 * labels, np.ones(len(alone.vertices), int)])
    sized = PartDistances(np.arange(2), distances(apart, 0.3, 2).distances, 0.0 * apart, np.full(2, 0.5))
    np.testing.assert_array_equal(PartSegmenter(both).segment(sized), apart)


def test_a_speck_joins_the_part_that_it_borders_on_most(plate):
    x, y = plate.vertices[:, :2].T
    labels = (x > 0.5).astype(int)
    speck = (x > 0.41) & (x < 0.53) & (abs(y - 0.5) < 0.05)  # most of it in the left half
    found = distances(np.where(speck, 2, labels), 0.3, 3)
    found = PartDistances(found.parts, found.distances, found.nearest, np.array([0.5, 0.5, 0.5]))
    np.testing.assert_array_equal(PartSegmenter(plate).segment(found)[speck], 0)


def test_colors_that_are_not_trusted_tell_nothing():
    rng = np.random.default_rng(0)
    member, parts = rng.dirichlet(np.ones(3), 8), np.eye(2)[[0, 0, 0, 1, 1, 1, 0, 1]]
    full = Clusters(member, np.ones(8)).likeliness(parts)
    half = Clusters(member, np.full(8, 0.5)).likeliness(parts)
    np.testing.assert_allclose(half, np.sqrt(full))
    trust = np.r_[np.ones(7), 0.0]
    np.testing.assert_allclose(Clusters(member, trust).likeliness(parts)[7], [1, 1])


def test_coarse_meshes_are_creased_too():
    """No middle of a face lies within the usual radius of a vertex."""
    spacing = 0.1
    flat = flat_grid(11, 11, spacing)
    x, z, _ = flat.vertices.T - [[0.5], [0], [0]]
    angle = trimesh.Trimesh(np.stack([np.maximum(x, 0), np.minimum(x, 0), z], axis=1), flat.faces, process=False)
    margin = 0.001 * (x - 0.12)  # the border 0.12 beside the crease
    found = PartDistances(np.arange(2), np.maximum(np.stack([margin, -margin], axis=1), 0), 0 * x, np.zeros(2))
    unsure = np.abs(x) < 0.5 * spacing
    wrong = [
        (PartSegmenter(angle).segment(found, rule) != (x > 0))[~unsure].mean()
        for rule in (BorderRule(), BorderRule(crease_weight=0.0))
    ]
    assert wrong[0] < 0.02 < 0.08 < wrong[1]


def test_typical_pieces_are_shares_of_the_surface():
    """Two boxes of one part, one twice as large; a third of another part. Split vertices do not cut pieces."""
    boxes = [trimesh.creation.box((1, 1, 1)), trimesh.creation.box((1, 1, 1)), trimesh.creation.box((2, 2, 2))]
    for i, box in enumerate(boxes):
        box.apply_translation([4 * i, 0, 0])
    mesh = trimesh.util.concatenate(boxes)
    mesh.unmerge_vertices()
    found = typical_pieces(mesh, np.repeat([5, -1, 5], 12))
    assert found == pytest.approx({5: 24 / 36, -1: 6 / 36})
    assert typical_pieces(mesh, np.repeat([5, 5, -1], 12)) == pytest.approx({5: 6 / 36, -1: 24 / 36})
