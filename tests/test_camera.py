"""One camera convention: what projects where, which way is up, and that rays undo projection in both models."""

import numpy as np
import pytest
import torch

from helpers import toy_camera
from tars3d.geometry import rasterize
from tars3d.geometry.camera import SHAPENET_FOCAL, Cameras, look_at_origin


def mixed_cameras() -> Cameras:
    """Perspective and orthographic cameras in one batch, with uneven focal lengths, skew and off-centre axes."""
    intrinsics = torch.tensor(
        [
            [[90.0, 0.0, 31.0], [0.0, 80.0, 35.0], [0.0, 0.0, 1.0]],
            [[40.0, 0.0, 30.0], [0.0, 40.0, 33.0], [0.0, 0.0, 1.0]],
            [[70.0, 4.0, 28.0], [0.0, 75.0, 30.0], [0.0, 0.0, 1.0]],
        ]
    ).double()
    poses = [look_at_origin(30, 20, 2.7), look_at_origin(200, -10, 2.5, 15), look_at_origin(90, 60, 3)]
    return Cameras(intrinsics, torch.tensor(np.array(poses)), torch.tensor([True, False, True]))


def random_points(batch: int, count: int = 20, seed: int = 0) -> torch.Tensor:
    return torch.rand(batch, count, 3, generator=torch.Generator().manual_seed(seed)).double() - 0.5


def test_rays_undo_projection_and_their_parameter_is_depth():
    cameras, points = mixed_cameras(), random_points(3)
    pixels, depth = cameras.project(points)
    origins, directions = cameras.rays(pixels)
    torch.testing.assert_close(origins + depth[..., None] * directions, points)
    deeper, deeper_depth = cameras.project(origins + 3.7 * directions)
    torch.testing.assert_close(deeper, pixels, atol=1e-5, rtol=0)  # the rotations are float32
    torch.testing.assert_close(deeper_depth, torch.full_like(depth, 3.7), atol=1e-6, rtol=0)


def test_projection_by_hand():
    cameras = mixed_cameras()
    point = torch.tensor([0.1, -0.2, 0.3]).double()
    for i in range(3):
        x, y, z = cameras.extrinsics[i, :, :3] @ point + cameras.extrinsics[i, :, 3]
        k = cameras.intrinsics[i]
        if cameras.perspective[i]:
            x, y = x / z, y / z
        expected = torch.stack([k[0, 0] * x + k[0, 1] * y + k[0, 2], k[1, 1] * y + k[1, 2]])
        pixel, depth = cameras[i : i + 1].project(point[None, None])
        torch.testing.assert_close(pixel[0, 0], expected)
        torch.testing.assert_close(depth[0, 0], z)


def test_the_same_points_in_every_camera_project_as_one_by_one():
    cameras, points = mixed_cameras(), random_points(1)
    pixels, depth = cameras.project(points.expand(3, -1, -1))
    u, v, shared_depth = cameras.project_shared(points[0])
    torch.testing.assert_close(torch.stack([u, v], dim=-1), pixels)
    torch.testing.assert_close(shared_depth, depth)


@pytest.mark.parametrize("model", ["perspective", "orthographic"])
def test_agrees_with_the_rasterisers_projection(model):
    intrinsics, extrinsics = toy_camera(1, 64, model)
    points = random_points(1)
    camera = Cameras(
        torch.from_numpy(intrinsics)[None], torch.from_numpy(extrinsics)[None], torch.tensor([model == "perspective"])
    )
    pixels, depth = camera.project(points)
    expected = rasterize.project(points[0].numpy(), intrinsics, extrinsics, model == "perspective")
    np.testing.assert_allclose(pixels[0].numpy(), expected[0], atol=1e-9)
    np.testing.assert_allclose(depth[0].numpy(), expected[1], atol=1e-9)


def test_image_plane_is_where_rays_cross_it():
    cameras, points = mixed_cameras(), random_points(3)
    pixels, depth = cameras.project(points)
    camera = points @ cameras.extrinsics[:, :, :3].transpose(1, 2) + cameras.extrinsics[:, None, :, 3]
    divisor = torch.where(cameras.perspective[:, None], depth, torch.ones_like(depth))
    torch.testing.assert_close(cameras.image_plane(pixels), camera[..., :2] / divisor[..., None])


def test_shapenet_camera_meets_a_sphere_where_the_paper_says():
    focal = 64 * SHAPENET_FOCAL
    intrinsics = torch.tensor([[focal, 0, 32], [0, focal, 32], [0, 0, 1]])[None]
    camera = Cameras(intrinsics, torch.tensor(look_at_origin(45, 30, 2.732)[None]).float(), torch.tensor([True]))
    origin, direction = camera.rays(torch.tensor([[[32.0, 32.0]]]))
    torch.testing.assert_close(direction.norm(), torch.tensor(1.0))
    torch.testing.assert_close((origin + 2.232 * direction).norm(), torch.tensor(0.5))
    torch.testing.assert_close(camera.object_depth, torch.tensor([2.732]))
    torch.testing.assert_close(camera.focal, torch.tensor([119.4256]), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("azimuth", "elevation", "centre"),
    [
        (0, 0, (0, 0, -2)),
        (90, 0, (2, 0, 0)),
        (180, 0, (0, 0, 2)),
        (0, 30, (0, 1, -np.sqrt(3))),
        (0, 90, (0, 2, 0)),
        (30, -90, (0, -2, 0)),
    ],
)
def test_where_the_camera_stands(azimuth, elevation, centre):
    pose = look_at_origin(azimuth, elevation, 2.0)
    rotation = pose[:, :3]
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(rotation), 1)
    np.testing.assert_allclose(-rotation.T @ pose[:, 3], centre, atol=1e-12)


def seen(point: tuple[float, float, float], **angles: float) -> torch.Tensor:
    """Where a point lands relative to the picture's centre: right and down are positive."""
    pose = torch.tensor(look_at_origin(**{"azimuth": 0.0, "elevation": 0.0, "distance": 3.0, **angles}))
    camera = Cameras(torch.eye(3)[None], pose[None].float(), torch.tensor([False]))
    return camera.project(torch.tensor(point)[None, None])[0][0, 0]


def test_which_way_is_up_and_right():
    for azimuth in (0, 90, 135):
        assert seen((0, 0.5, 0), azimuth=azimuth, elevation=20)[1] < -0.4
    torch.testing.assert_close(seen((0.5, 0, 0)), torch.tensor([-0.5, 0.0]))  # the front is seen face to face
    torch.testing.assert_close(seen((0.5, 0, 0), azimuth=180), torch.tensor([0.5, 0.0]), atol=1e-6, rtol=0)


def test_roll_turns_the_picture_clockwise():
    torch.testing.assert_close(seen((0, 0.5, 0), roll=90), torch.tensor([0.5, 0.0]), atol=1e-6, rtol=0)
    half = seen((0, 0.5, 0), roll=30)
    assert half[0] > 0
    assert half[1] < 0


@pytest.mark.parametrize("skewed", [False, True])
def test_a_mirrored_camera_sees_the_mirrored_object_flipped(skewed):
    cameras, points, width = mixed_cameras(), random_points(3), 64.0
    if not skewed:
        cameras.intrinsics[:, 0, 1] = 0
    mirror = torch.tensor([-1.0, 1.0, 1.0]).double()
    pixels, depth = cameras.project(points)
    flipped, flipped_depth = cameras.mirrored(width).project(points * mirror)
    torch.testing.assert_close(flipped_depth, depth)
    torch.testing.assert_close(flipped[..., 1], pixels[..., 1])
    torch.testing.assert_close(flipped[..., 0], width - pixels[..., 0])
    rotation = cameras.mirrored(width).extrinsics[:, :, :3]
    torch.testing.assert_close(torch.linalg.det(rotation), torch.ones(3).double(), atol=1e-6, rtol=0)


def test_pixels_over_the_largest_focal_are_never_more_than_the_distance():
    """Of pictures with uneven focal lengths, too: distances to silhouettes bound the shape."""
    cameras = mixed_cameras()
    cameras.intrinsics[:, 0, 1] = 0
    cameras.intrinsics[1, 1, 1] = 60
    plane = random_points(3)[..., :2]
    pixels = plane @ cameras.intrinsics[:, :2, :2].transpose(1, 2)
    apart = torch.cdist(pixels, pixels) / cameras.largest_focal[:, None, None]
    true = torch.cdist(plane, plane)
    assert (apart <= true + 1e-9).all()
    assert (apart.flatten(1).amax(1) > 0.6 * true.flatten(1).amax(1)).all(), "so short that it says nothing"


def test_selecting_cameras():
    cameras = mixed_cameras()
    assert len(cameras) == 3
    chosen = cameras[torch.tensor([2, 0])]
    assert torch.equal(chosen.intrinsics, cameras.intrinsics[[2, 0]])
    assert chosen.perspective.tolist() == [True, True]
    assert len(cameras[~cameras.perspective]) == 1
