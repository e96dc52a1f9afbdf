"""Coverage, depth order and interpolation of the rasteriser, against a loop over pixels and faces."""

import numpy as np
import pytest
import trimesh

from tars3d.geometry.rasterize import project, rasterize, silhouette
from tars3d.geometry.views import orbit_camera, orbit_views, render_view


def rasterize_naive(points, depth, faces, height, width, perspective):
    face_index, depths = np.full((height, width), -1), np.full((height, width), np.inf)
    weights = np.zeros((height, width, 3))
    for i in range(height):
        for j in range(width):
            for f, (a, b, c) in enumerate(faces):
                system = np.vstack([points[[a, b, c]].T, np.ones(3)])
                if abs(np.linalg.det(system)) < 1e-9:
                    continue
                w = np.linalg.solve(system, [j + 0.5, i + 0.5, 1.0])
                if (w < 0).any():
                    continue
                if perspective:
                    w = w / depth[[a, b, c]]
                    w /= w.sum()
                z = w @ depth[[a, b, c]]
                if z < depths[i, j]:
                    face_index[i, j], depths[i, j], weights[i, j] = f, z, w
    return face_index, weights, depths


@pytest.mark.parametrize("perspective", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_agrees_with_a_loop(seed, perspective):
    rng = np.random.default_rng(seed)
    points, depth = (
        rng.uniform(-6, 22, (30, 2)),
        rng.uniform(1, 3, 30),
    )  # many triangles stick out of the picture
    faces = rng.integers(0, 30, (25, 3))  # both windings, some with a vertex twice
    found = rasterize(points, depth, faces, 13, 17, perspective=perspective)
    expected = rasterize_naive(points, depth, faces, 13, 17, perspective)
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_allclose(found[1], expected[1], atol=1e-9)
    np.testing.assert_allclose(found[2], expected[2], atol=1e-9)


def test_pixel_centres_are_at_one_half():
    square = np.array([[1.0, 1.0], [3.0, 1.0], [3.0, 3.0], [1.0, 3.0]])
    faces = np.array([[0, 1, 2], [0, 2, 3]])
    covered = rasterize(square, np.ones(4), faces, 4, 4)[0] >= 0
    expected = np.zeros((4, 4), dtype=bool)
    expected[1:3, 1:3] = True
    np.testing.assert_array_equal(covered, expected)
    covered = rasterize(square + 0.51, np.ones(4), faces, 5, 5)[0] >= 0
    assert covered.sum() == 4
    assert covered[2:4, 2:4].all()


def test_no_gap_between_faces_that_share_edges():
    rng = np.random.default_rng(0)
    side = np.linspace(-1, 61, 40)
    grid = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2) + rng.uniform(-0.5, 0.5, (1600, 2))
    corner = np.add.outer(np.arange(39) * 40, np.arange(39)).ravel()
    faces = np.concatenate([np.c_[corner, corner + 1, corner + 40], np.c_[corner + 1, corner + 41, corner + 40]])
    assert (rasterize(grid, np.ones(1600), faces, 60, 60)[0] >= 0).all()
    on_centres = np.round(grid) + 0.5  # vertices and edges through pixel centres
    inner = rasterize(on_centres, np.ones(1600), faces, 60, 60)[0]
    assert (inner >= 0).all()


def test_equal_depths_go_to_the_first_face():
    triangle = np.array([[0.0, 0.0], [8.0, 0.0], [0.0, 8.0]])
    index = rasterize(triangle, np.ones(3), np.array([[0, 1, 2], [2, 1, 0], [1, 2, 0]]), 4, 4)[0]
    assert (index == 0).all()


def test_faces_behind_a_perspective_camera_are_left_out():
    triangle = np.array([[0.0, 0.0], [8.0, 0.0], [0.0, 8.0]])
    faces = np.array([[0, 1, 2]])
    assert (rasterize(triangle, np.full(3, -1.0), faces, 4, 4, perspective=True)[0] == -1).all()
    assert (rasterize(triangle, np.full(3, -1.0), faces, 4, 4)[0] == 0).all()  # orthographic has no behind


def test_nothing_to_draw_and_nonsense():
    empty = rasterize(np.zeros((0, 2)), np.zeros(0), np.zeros((0, 3), dtype=int), 3, 5)
    assert empty[0].shape == (3, 5)
    assert (empty[0] == -1).all()
    with pytest.raises(ValueError, match="1 of 1 faces"):
        rasterize(np.array([[0, 0], [1, np.nan], [1, 1]]), np.ones(3), np.array([[0, 1, 2]]), 3, 3)


def test_silhouette_of_a_sphere_has_the_projected_area():
    intrinsics = np.array([[100.0, 0, 64], [0, 100.0, 64], [0, 0, 1]])
    extrinsics = np.c_[np.eye(3), [0, 0, 2.0]]
    mesh = trimesh.creation.icosphere(4, 0.5)
    weak = np.array([[50.0, 0, 64], [0, 50.0, 64], [0, 0, 1]])
    flat = silhouette(mesh, weak, extrinsics, False, 128, 128)
    assert flat.sum() == pytest.approx(np.pi * 25**2, rel=0.02)
    seen = silhouette(mesh, intrinsics, extrinsics, True, 128, 128)
    assert seen.sum() == pytest.approx(np.pi * (100 * 0.5 / np.sqrt(4 - 0.25)) ** 2, rel=0.02)


@pytest.mark.parametrize("elevation", [-90.0, -20.0, 0.0, 20.0, 90.0])
def test_orbit_camera_stands_where_it_says_upright_and_frames_the_cube(elevation):
    cube = np.array(list(np.ndindex(2, 2, 2))) - 0.5
    for azimuth in (0.0, 30.0, 120.0, 210.0, 300.0):
        intrinsics, extrinsics = orbit_camera(azimuth, elevation, 64)
        rotation = extrinsics[:, :3]
        np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
        assert np.linalg.det(rotation) == pytest.approx(1)
        az, el = np.radians([azimuth, elevation])
        centre = -rotation.T @ extrinsics[:, 3]
        np.testing.assert_allclose(
            centre / 3, [np.sin(az) * np.cos(el), np.sin(el), -np.cos(az) * np.cos(el)], atol=1e-9
        )
        pixels, depth = project(cube, intrinsics, extrinsics, True)
        assert (depth > 0).all()
        assert ((pixels > 0) & (pixels < 64)).all()
        if abs(elevation) < 90:
            top, bottom = project(np.array([[0, 0.5, 0], [0, -0.5, 0]]), intrinsics, extrinsics, True)[0]
            assert top[1] < bottom[1]
            assert top[0] == pytest.approx(bottom[0])


def test_the_front_view_shows_the_front_and_left_is_not_right():
    """From azimuth 0 the camera is at -Z and sees +X on its left; a mirrored camera would swap them."""
    patch = trimesh.Trimesh(
        [[0.1, -0.4, -0.5], [0.4, -0.4, -0.5], [0.4, 0.4, -0.5], [0.1, 0.4, -0.5]], [[0, 1, 2], [0, 2, 3]]
    )
    back = trimesh.creation.box([1, 1, 0.1])
    mesh = trimesh.util.concatenate([patch, back])
    colors = np.r_[np.tile([1.0, 0, 0], (4, 1)), np.tile([0, 0, 1.0], (8, 1))]
    intrinsics, extrinsics = orbit_camera(0.0, 0.0, 32)
    picture = render_view(mesh, intrinsics, extrinsics, True, 32, 32, vertex_colors=colors, light=False)
    red = (picture == [255, 0, 0]).all(axis=2)
    assert red[:, :16].sum() > 20
    assert red[:, 16:].sum() == 0


def test_light_and_background():
    mesh = trimesh.creation.icosphere(3, 0.4)
    views = orbit_views(mesh, count=2, size=48)
    assert [v.shape for v in views] == [(48, 48, 3)] * 2
    assert views[0].dtype == np.uint8
    assert (views[0][0, 0] == 255).all()
    disc = views[0][12:36, 12:36].astype(int)
    assert disc[:12].mean() > disc[12:].mean() + 20  # lit from above
    mesh.invert()
    np.testing.assert_allclose(orbit_views(mesh, count=1, size=48)[0].astype(int), views[0], atol=1)  # two-sided
    blank = orbit_views(trimesh.Trimesh(), count=1, size=8)[0]
    assert (blank == 255).all()


def test_mesh_colours_are_used():
    mesh = trimesh.creation.icosphere(2, 0.4)
    mesh.visual.vertex_colors = np.tile([0, 255, 0, 255], (len(mesh.vertices), 1))
    picture = render_view(mesh, *orbit_camera(0.0, 0.0, 16), True, 16, 16, light=False)
    assert (picture[8, 8] == [0, 255, 0]).all()
