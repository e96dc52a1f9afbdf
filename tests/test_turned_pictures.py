"""Pictures turned in their plane: the camera follows exactly, the object fills the frame again."""

import torch

from helpers import toy_camera
from tars3d.data.turn import turn_pictures
from tars3d.geometry.camera import Cameras, look_at_origin

SIZE = 64


def spots(model: str) -> tuple[torch.Tensor, Cameras, torch.Tensor]:
    """Two pictures of three points in space, drawn as dark spots."""
    cameras = Cameras(
        torch.stack([torch.from_numpy(toy_camera(k, SIZE, model)[0]).float() for k in range(2)]),
        torch.stack([look_at_origin(40.0 + 100 * k, 20.0, 2.7) for k in range(2)]),
        torch.full((2,), model == "perspective"),
    )
    points = torch.tensor([[0.3, 0.1, 0.0], [-0.3, -0.1, 0.1], [0.0, 0.25, -0.3]]).expand(2, 3, 3)
    return draw(cameras, points), cameras, points


def draw(cameras: Cameras, points: torch.Tensor) -> torch.Tensor:
    centre = torch.arange(SIZE) + 0.5
    grid = torch.stack(torch.meshgrid(centre, centre, indexing="xy"), dim=-1)
    pixels, _ = cameras.project(points)
    near = (grid[None, None] - pixels[:, :, None, None]).norm(dim=-1).amin(dim=1)
    return torch.where(near < 3.0, -1.0, 1.0)[:, None].expand(-1, 3, -1, -1).contiguous()


def test_the_camera_follows_a_turned_picture():
    for model in ("perspective", "orthographic"):
        images, cameras, points = spots(model)
        turned, moved = turn_pictures(images, cameras, 40.0, 1.15, torch.Generator().manual_seed(1))
        assert not torch.equal(turned, images)
        pixels, _ = moved.project(points)
        found = torch.nn.functional.grid_sample(turned[:, :1], (2 * pixels / SIZE - 1)[:, None], align_corners=False)
        assert float(found.max()) < -0.9  # every point is dark where the new camera sees it
        rotation = moved.extrinsics[:, :, :3]
        torch.testing.assert_close(rotation @ rotation.transpose(1, 2), torch.eye(3).expand(2, 3, 3))


def test_the_object_fills_the_frame_again():
    images, cameras, _ = spots("orthographic")
    turned, _ = turn_pictures(images, cameras, 40.0, 1.15, torch.Generator().manual_seed(1))
    for picture in turned:
        rows, columns = torch.nonzero(picture[0] < 0).T
        longer = max(rows.max() - rows.min(), columns.max() - columns.min()) + 1
        assert abs(float(longer) - SIZE / 1.15) < 2.5


def test_no_degrees_change_nothing():
    images, cameras, _ = spots("orthographic")
    assert turn_pictures(images, cameras, 0.0, 1.15, torch.Generator()) == (images, cameras)
