"""Pictures turned in their plane, and cut: the camera follows exactly, the object fills the frame again."""

import numpy as np
import torch

from helpers import toy_camera
from tars3d.data.framing import apply_crop, bbox_crop
from tars3d.data.reframing import cut_pictures, turn_pictures
from tars3d.geometry.camera import Cameras, look_at_origin

SIZE = 64


def spots(model: str) -> tuple[torch.Tensor, Cameras, torch.Tensor]:
    """Two pictures of three points in space, drawn as dark spots."""
    cameras = Cameras(
        torch.stack([torch.from_numpy(toy_camera(k, SIZE, model)[0]).float() for k in range(2)]),
        torch.tensor(np.array([look_at_origin(40.0 + 100 * k, 20.0, 2.7) for k in range(2)])).float(),
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


def block(count: int) -> tuple[torch.Tensor, Cameras]:
    """Pictures of a grey block, 40 by 20 pixels, under cameras whose pixels are those of the picture."""
    images = torch.ones(count, 3, SIZE, SIZE)
    images[:, :, 22:42, 12:52] = -0.5
    intrinsics = torch.eye(3).expand(count, 3, 3).clone()
    extrinsics = torch.eye(4)[:3].expand(count, 3, 4).clone()
    return images, Cameras(intrinsics, extrinsics, torch.zeros(count, dtype=torch.bool))


def test_a_cut_picture_loses_up_to_two_fifths_at_any_one_side():
    whole, cameras = block(64)
    sides = set()
    for seed in range(12):
        cut, moved = cut_pictures(whole, cameras, 1.0, 1.15, torch.Generator().manual_seed(seed))
        assert not torch.equal(cut, whole)
        for picture, intrinsics in zip(cut, moved.intrinsics, strict=True):
            scale, place = float(intrinsics[0, 0]), intrinsics[:2, 2]
            rows, columns = np.nonzero((picture[0] < 0.25).numpy())
            box = [(values + 0.5) / scale for values in (columns, rows)]  # in old pixels, but for the shift
            box = [values - float(shift) / scale for values, shift in zip(box, place, strict=True)]
            seen = [box[0].min() - 12, 52 - box[0].max(), box[1].min() - 22, 42 - box[1].max()]
            lost = [gap > 1.0 for gap in seen]
            assert sum(lost) <= 1
            assert max(seen) < 0.4 * 40 + 1.5  # up to 40% of it
            sides |= {k for k in range(4) if lost[k]}
    assert sides == {0, 1, 2, 3}


def test_the_camera_follows_a_cut_picture():
    for model in ("perspective", "orthographic"):
        images, cameras, points = spots(model)
        for seed in range(8):
            cut, moved = cut_pictures(images, cameras, 1.0, 1.15, torch.Generator().manual_seed(seed))
            pixels, _ = moved.project(points)
            grid = (2 * pixels / SIZE - 1)[:, None]
            found = torch.nn.functional.grid_sample(cut[:, :1], grid, padding_mode="border", align_corners=False)
            dark = (found < -0.9).sum(dim=(1, 2, 3))
            assert bool(((dark >= 1) & (dark <= 3)).all())  # what is left is dark where the new camera sees it
            torch.testing.assert_close(moved.extrinsics, cameras.extrinsics)


def test_some_cut_pictures_are_framed_as_bbox_crop_frames_what_is_left():
    whole, cameras = block(200)
    cut, moved = cut_pictures(whole, cameras, 1.0, 1.15, torch.Generator().manual_seed(3))
    narrow = 0
    for picture, intrinsics in zip(cut, moved.intrinsics, strict=True):
        scale, (x, y) = float(intrinsics[0, 0]), (-intrinsics[:2, 2] / intrinsics[0, 0]).tolist()
        rows, columns = np.nonzero((picture[0] < 0.25).numpy())
        left, top = round(float(columns.min()) / scale + x), round(float(rows.min()) / scale + y)
        right, bottom = round(float(columns.max() + 1) / scale + x), round(float(rows.max() + 1) / scale + y)
        mask = np.zeros((SIZE, SIZE), bool)
        mask[top:bottom, left:right] = True
        crop = bbox_crop(mask, 1.15)
        if abs(crop.side - SIZE / scale) < 0.7 and abs(crop.x - x) < 0.7 and abs(crop.y - y) < 0.7:
            narrow += 1
            rgb = np.where(mask[..., None], 64, 255).astype(np.uint8).repeat(3, axis=2)
            expected, _ = apply_crop(rgb, mask, crop, SIZE)
            found = (127.5 * (picture + 1)).permute(1, 2, 0).numpy()
            assert np.abs(found - expected).mean() < 12
    assert narrow  # where nothing was taken to go on


def test_a_share_of_the_pictures_is_cut():
    whole, cameras = block(400)
    cut, moved = cut_pictures(whole, cameras, 0.25, 1.15, torch.Generator().manual_seed(0))
    changed = (cut != whole).flatten(1).any(dim=1)
    assert 0.15 < float(changed.float().mean()) < 0.35
    torch.testing.assert_close(moved.intrinsics[~changed], cameras.intrinsics[~changed])
    assert cut_pictures(whole, cameras, 0.0, 1.15, torch.Generator()) == (whole, cameras)
