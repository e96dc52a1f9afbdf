"""Who corresponds to whom: nearest in canonical space, in point features, in which way surfaces face and at which level they lie."""

import inspect
import re
from dataclasses import dataclass

import numpy as np
import pytest
import trimesh

from tars3d import correspond, correspondence
from tars3d.correspondence import Places, mean_normals
from tars3d.errors import UserError
from tars3d.heights import levelled_heights


@dataclass(frozen=True)
class Surface:
    mesh: trimesh.Trimesh
    canonical: np.ndarray
    space: str | None = None


def fine_box(extents: tuple[float, float, float], edge: float = 0.02) -> trimesh.Trimesh:
    return trimesh.creation.box(extents=extents).subdivide_to_size(edge)


def test_mean_normals_agree_with_a_dense_sample_of_the_surface():
    mesh = fine_box((0.6, 0.3, 0.2))
    samples, faces = trimesh.sample.sample_surface(mesh, 100_000, seed=0)
    points = mesh.vertices[::97]
    found = mean_normals(mesh, points)
    for point, normal in zip(points, found, strict=True):
        within = np.linalg.norm(samples - point, axis=1) <= 0.05
        np.testing.assert_allclose(normal, mesh.face_normals[faces[within]].mean(axis=0), atol=0.12)


def test_mean_normals_tell_broad_parts_from_rods_at_any_fineness():
    for edge in (0.03, 0.01):
        seat, leg = fine_box((0.6, 0.2, 0.6), edge), fine_box((0.03, 0.5, 0.03), edge)
        np.testing.assert_allclose(mean_normals(seat, np.array([[0, 0.1, 0]])), [[0, 1, 0]], atol=1e-6)
        assert np.linalg.norm(mean_normals(leg, np.array([[0.015, 0, 0]]))) < 0.2
    assert mean_normals(seat, np.array([[0.0, 5, 0]])) == pytest.approx(
        np.array([[0, 1, 0]]), abs=1e-6
    )  # far off: nearest
    assert (mean_normals(trimesh.Trimesh(), np.zeros((2, 3))) == 0).all()


def test_normals_averaged_in_pieces_are_the_same_to_the_last_bit(monkeypatch):
    mesh = fine_box((0.6, 0.3, 0.2))
    together = mean_normals(mesh, mesh.vertices)
    for at_once, count in ((1, 50), (300, 1000)):
        monkeypatch.setattr(correspondence, "_AT_ONCE", at_once)
        np.testing.assert_array_equal(mean_normals(mesh, mesh.vertices[:count]), together[:count])


def test_what_has_no_weight_is_not_measured(monkeypatch):
    """Normals of a texture's texels would take gigabytes."""
    ball = trimesh.creation.icosphere(subdivisions=2, radius=0.4)
    surface = Surface(ball, np.hstack([ball.vertices, ball.vertices[:, :1]]))
    for name in ("mean_normals", "levelled_heights"):
        monkeypatch.setattr(correspondence, name, None)
    found = correspond(surface, surface, normal_weight=0.0, height_weight=0.0)
    np.testing.assert_array_equal(found.index, np.arange(len(ball.vertices)))


def test_sides_of_a_board_that_canonical_space_confuses_are_kept_apart():
    """All of the board lies at one canonical place up to noise; its faces are told by where they face."""
    board = fine_box((0.6, 0.2, 0.6))
    rng = np.random.default_rng(0)
    source, target = (
        Surface(board, np.hstack([0.01 * rng.normal(size=board.vertices.shape), np.zeros((len(board.vertices), 1))]))
        for _ in range(2)
    )
    top, bottom = (np.flatnonzero(np.isclose(board.vertices[:, 1], y) & (np.abs(board.vertices[:, [0, 2]]) < 0.2).all(1))
                   for y in (0.1, -0.1))  # fmt: skip
    found = correspond(source, target, height_weight=0.0).points[:, 1]
    assert (found[top] > 0.09).all()
    assert (found[bottom] < -0.09).all()
    blind = correspond(source, target, normal_weight=0.0, height_weight=0.0).points[:, 1]
    assert (blind[top] < -0.09).mean() > 0.2


def test_points_of_a_surface_correspond_as_its_vertices_do():
    ball = trimesh.creation.icosphere(subdivisions=3, radius=0.4)
    surface = Surface(ball, np.hstack([ball.vertices, ball.vertices[:, :1]]))
    points = ball.vertices[::5]
    some = Places(points, surface.canonical[::5], surface)
    found = correspond(surface, some)
    np.testing.assert_array_equal(found.index, np.arange(len(ball.vertices))[::5])
    np.testing.assert_allclose(found.distance, 0, atol=1e-9)


def test_reconstructions_of_two_models_do_not_correspond():
    ball = trimesh.creation.icosphere(subdivisions=1, radius=0.4)
    chair, car, unknown = (Surface(ball, np.asarray(ball.vertices), space) for space in ("chair:1", "car:2", None))
    with pytest.raises(UserError, match="source's canonical space is chair:1, the target's car:2"):
        correspond(chair, Places.of(car))
    assert correspond(chair, unknown).counterpart.all()


def test_what_cannot_correspond_is_refused_in_one_line():
    unchecked = inspect.unwrap(correspond)  # as outside of tests, where annotations check nothing
    ball = trimesh.creation.icosphere(subdivisions=1, radius=0.4)
    surface = Surface(ball, np.asarray(ball.vertices))
    for name, value, said in (
        ("feature_weight", -1, "--feature-weight -1: give a number of 0 or more"),
        ("normal_weight", np.nan, "--normal-weight nan"),
        ("height_weight", np.inf, "--height-weight inf"),
        ("max_distance", np.nan, "--max-distance nan"),
        ("max_distance", -1, "--max-distance -1"),
        ("max_distance", None, "max_distance is None; give a number, or leave it out"),
        ("max_distance", "0.2", "--max-distance '0.2'"),
        ("max_cycle", -1, "--max-cycle -1"),
    ):
        with pytest.raises(UserError, match=re.escape(said)):
            unchecked(surface, surface, **{name: value})
    for other, kind in ((ball, "Trimesh"), ("a.glb", "str")):
        with pytest.raises(UserError, match=f"the target is a {kind}; give what model.reconstruct returns"):
            unchecked(surface, other)


def bumpy(seed: int, subdivisions: int = 1) -> Surface:
    """A dented ball whose canonical places and two point features are noisy."""
    rng = np.random.default_rng(seed)
    ball = trimesh.creation.icosphere(subdivisions=subdivisions, radius=0.4)
    ball.vertices *= rng.uniform(0.8, 1.2, (len(ball.vertices), 1))
    return Surface(ball, np.hstack([ball.vertices, np.zeros((len(ball.vertices), 2))]) + rng.normal(size=5) / 10)


@pytest.mark.parametrize("weights", [(0.0, 0.0, 0.0), (0.7, 0.0, 0.0), (0.0, 0.2, 0.0), (0.1, 0.2, 1.5)])
def test_correspond_agrees_with_brute_force(weights):
    source, target = bumpy(0), bumpy(1, subdivisions=2)
    features, normals, heights = weights
    rows, asked = (
        np.hstack([
            side.canonical[:, :3], features * side.canonical[:, 3:], normals * mean_normals(side.mesh, side.mesh.vertices),
            heights * levelled_heights(side.mesh, side.canonical, side.mesh.vertices)[:, None],
        ])
        for side in (source, target)
    )  # fmt: skip
    naive = np.linalg.norm(asked[:, None] - rows[None], axis=-1)
    found = correspond(
        source, target, feature_weight=features, normal_weight=normals, height_weight=heights, max_distance=0.1, max_cycle=0.1
    )  # fmt: skip
    np.testing.assert_array_equal(found.index, naive.argmin(1))
    np.testing.assert_array_equal(found.points, source.mesh.vertices[naive.argmin(1)])
    np.testing.assert_allclose(found.distance, naive.min(1))
    cycle = np.linalg.norm(target.mesh.vertices[naive.argmin(0)[naive.argmin(1)]] - target.mesh.vertices, axis=1)
    np.testing.assert_allclose(found.cycle, cycle)
    np.testing.assert_array_equal(found.counterpart, (naive.min(1) <= 0.1) & (cycle <= 0.1))
    assert 0 < found.counterpart.mean() < 1


def cloud(canonical: np.ndarray, points: np.ndarray | None = None) -> Places:
    """Points of no surface."""
    points = canonical[:, :3] if points is None else points
    return Places(points, canonical, Surface(trimesh.Trimesh(), np.zeros((0, canonical.shape[1]))))


ALONE = {"normal_weight": 0.0, "height_weight": 0.0}


def test_features_tell_apart_what_lies_at_the_same_place():
    """An armrest deformed onto the seat: only the point feature knows the difference."""
    source = cloud(np.array([[0.0, 0, 0, 1], [0.01, 0, 0, -1]]))
    target = cloud(np.array([[0.0, 0, 0, -1]]))
    assert correspond(source, target, feature_weight=0.0, **ALONE).index[0] == 0
    assert correspond(source, target, feature_weight=1.0, **ALONE).index[0] == 1


def test_a_cycle_ends_where_it_began_for_what_the_source_has_only():
    rng = np.random.default_rng(0)
    whole = cloud(rng.normal(size=(50, 3)), rng.normal(size=(50, 3)))
    part = cloud(whole.canonical[:10], whole.points[:10])
    assert (correspond(whole, whole, max_cycle=0.0, **ALONE).cycle == 0).all()
    cycle = correspond(part, whole, max_cycle=0.0, **ALONE).cycle
    assert (cycle[:10] == 0).all()
    assert (cycle[10:] > 0).all()


def test_what_has_no_canonical_space_corresponds_to_nothing():
    ball = trimesh.creation.icosphere(subdivisions=1, radius=0.4)
    known, none = (Surface(ball, np.asarray(ball.vertices), space) for space in ("chair:1", ""))
    with pytest.raises(UserError, match="the source's model has no canonical space"):
        correspond(none, known)
