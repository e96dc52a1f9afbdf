"""The sparse grid must give the dense grid's mesh, whatever hides between the samples of its first grid."""

import numpy as np
import pytest
import trimesh

from tars3d.geometry.isosurface import as_published, extract_mesh


def sphere(points, centre=(0.0, 0.0, 0.0), radius=0.4):
    return np.linalg.norm(points - np.float32(centre), axis=1) - np.float32(radius)


def rod(points, a, b, radius):
    a, b = np.float32(a), np.float32(b)
    along = np.clip(((points - a) @ (b - a)) / ((b - a) @ (b - a)), 0, 1)[:, None]
    return np.linalg.norm(points - a - along * (b - a), axis=1) - np.float32(radius)


def box(points, centre, half):
    beyond = np.abs(points - np.float32(centre)) - np.float32(half)
    return np.linalg.norm(np.maximum(beyond, 0), axis=1) + np.minimum(beyond.max(axis=1), 0)


def rods(points):
    slanted = rod(points, (-0.4, -0.41, -0.3), (0.42, 0.37, 0.33), 0.01)
    upright = rod(points, (0.1, -0.45, 0.203), (0.1, 0.45, 0.203), 0.01)
    return np.minimum(slanted, upright)


def plates(points):
    return np.minimum(box(points, (0, 0.013, 0), (0.4, 0.006, 0.4)), box(points, (0.02, 0.2, 0.3), (0.3, 0.3, 0.005)))


def parts(points):
    spots = [
        ((0.31, 0.3, 0.2), 0.02),
        ((-0.3, 0.1, 0.1), 0.015),
        ((-0.2, -0.3, -0.4), 0.1),
        ((0.4, -0.4, 0.4), 0.012),
    ]
    return np.min([sphere(points, centre, radius) for centre, radius in spots], axis=0)


def hair(points):  # thinner than a cell at 64: the dense grid itself sees it in places only
    return rod(points, (-0.4, -0.41, -0.3), (0.42, 0.37, 0.33), 0.004)


def warped(field):
    """Steepness between half and one and a half times, as learned fields have it; same surface."""
    return lambda p: field(p) * (1 + 0.5 * np.sin(5 * p[:, 0] + 1) * np.cos(4 * p[:, 1]) * np.cos(3 * p[:, 2] + 0.5))


def clipped(field):
    return lambda p: np.clip(field(p), -0.1, 0.1)


def rippled(field):
    return lambda p: field(p) + 0.004 * np.sin(50 * p[:, 0]) * np.sin(50 * p[:, 1]) * np.sin(50 * p[:, 2])


@pytest.mark.parametrize("change", [lambda field: field, warped, clipped, rippled])
@pytest.mark.parametrize("field", [sphere, rods, plates, parts, hair])
@pytest.mark.parametrize("resolution", [64, 90])
def test_sparse_mesh_is_the_dense_mesh(field, change, resolution):
    sdf = change(field)
    sparse, dense = (extract_mesh(sdf, resolution=resolution, dense=dense) for dense in (False, True))
    assert dense.evaluations == (resolution + 1) ** 3 == sparse.dense_evaluations
    assert len(dense.mesh.faces) > 0
    np.testing.assert_array_equal(sparse.mesh.faces, dense.mesh.faces)
    np.testing.assert_allclose(sparse.mesh.vertices, dense.mesh.vertices, atol=1e-6)
    assert sparse.evaluations < dense.evaluations / 4


@pytest.mark.parametrize("field", [rods, plates, parts, hair])
def test_what_three_halvings_find_is_the_dense_mesh(field):
    """The bounds are tighter on finer grids: thin and separate things must survive them."""
    sparse, dense = (extract_mesh(warped(field), resolution=140, dense=dense).mesh for dense in (False, True))
    assert len(dense.faces) > 0
    np.testing.assert_array_equal(sparse.faces, dense.faces)
    np.testing.assert_allclose(sparse.vertices, dense.vertices, atol=1e-6)


@pytest.mark.parametrize("field", [sphere, rods, plates, parts])
@pytest.mark.parametrize(("resolution", "times"), [(128, 10), (256, 30)])
def test_far_fewer_evaluations_and_they_are_counted(field, resolution, times):
    asked = []

    def sdf(points):
        assert points.dtype == np.float32
        asked.append(len(points))
        return warped(field)(points)

    found = extract_mesh(sdf, resolution=resolution, chunk=10_000)
    assert found.evaluations == sum(asked) < found.dense_evaluations / times
    assert max(asked) <= 10_000
    assert found.mesh.is_watertight


def test_no_sample_is_asked_for_twice():
    seen = []

    def sdf(points):
        seen.append(points)
        return plates(points)

    extract_mesh(sdf, resolution=64)
    points = np.concatenate(seen)
    assert len(np.unique(points, axis=0)) == len(points)


def test_a_surface_once_met_is_followed_where_bounds_mislead():
    """A rod that leaves no trace in the field beside it: bounds cannot find it, its thick end leads to it."""

    def sdf(points):
        thick = sphere(points, (-0.3, 0, 0), 0.15)
        thin = rod(points, (-0.3, 0.0172, 0.0172), (0.45, 0.0172, 0.0172), 0.012)  # between the first grid's lines
        return np.where(thin < 0, np.minimum(thin, thick), np.clip(thick, -1, 0.2))

    sparse, dense = (extract_mesh(sdf, resolution=64, dense=dense).mesh for dense in (False, True))
    np.testing.assert_array_equal(sparse.faces, dense.faces)


@pytest.mark.parametrize("dense", [False, True])
def test_place_size_and_orientation(dense):
    mesh = extract_mesh(lambda p: sphere(p, (0.1, 0, -0.05), 0.3), (-0.6, 0.6), 48, dense=dense).mesh
    np.testing.assert_allclose(mesh.bounds, [[-0.2, -0.3, -0.35], [0.4, 0.3, 0.25]], atol=1e-3)
    assert mesh.volume == pytest.approx(4 / 3 * np.pi * 0.3**3, rel=0.01)  # negative if faces looked inward


def test_as_published_shrinks_towards_the_low_corner():
    """A vertex at grid index i goes to i / samples of the box instead of i / cells (docs/paper-vs-code.md, Q1)."""
    right = extract_mesh(sphere, (-0.6, 0.6), 24).mesh
    published = as_published(right, (-0.6, 0.6), 24)
    index = (right.vertices + 0.6) / 1.2 * 24
    np.testing.assert_allclose(published.vertices, index / 25 * 1.2 - 0.6, atol=1e-9)
    np.testing.assert_array_equal(published.faces, right.faces)
    assert (published.vertices - right.vertices).mean() == pytest.approx(-0.6 / 25, rel=0.01)
    assert not len(as_published(trimesh.Trimesh(), (-0.6, 0.6), 24).faces)


@pytest.mark.parametrize("sign", [1, -1])
def test_no_surface_is_an_empty_mesh(sign):
    found = extract_mesh(lambda p: sign * (1 + np.linalg.norm(p, axis=1)), resolution=64)
    assert len(found.mesh.vertices) == len(found.mesh.faces) == 0
    assert found.reaches_bounds == (sign < 0)


def test_a_shape_larger_than_the_box_is_said_to_be():
    assert extract_mesh(lambda p: sphere(p, radius=0.7), resolution=40).reaches_bounds
    assert not extract_mesh(sphere, resolution=40).reaches_bounds


@pytest.mark.parametrize("side", [1, -1])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_shape_that_leaves_the_box_at_any_one_side_is_said_to_be_open(axis, side):
    centre = np.zeros(3)
    centre[axis] = 0.4 * side
    assert extract_mesh(lambda p: sphere(p, centre, 0.3), resolution=12).reaches_bounds


@pytest.mark.parametrize("dense", [False, True])
def test_nan_is_an_error_with_counts(dense):
    def sdf(points):
        values = sphere(points)
        values[np.abs(values) < 0.005] = np.nan
        return values

    with pytest.raises(FloatingPointError, match=r"NaN at \d+ and infinite at 0 of"):
        extract_mesh(sdf, resolution=64, dense=dense)


def test_senseless_requests_are_refused():
    with pytest.raises(ValueError, match="low end"):
        extract_mesh(sphere, (0.5, -0.5))
    with pytest.raises(ValueError, match="cell"):
        extract_mesh(sphere, resolution=0)
    with pytest.raises(ValueError, match="shape"):
        extract_mesh(lambda p: sphere(p)[:, None], resolution=8)
