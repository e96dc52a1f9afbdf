"""The camera that a model reads off a picture."""

import numpy as np
import pytest
import torch

from helpers import tiny_model, tiny_preset
from tars3d.data.pictures import read_picture, sample_pictures
from tars3d.errors import UserError
from tars3d.geometry.camera import Cameras, look_at_origin
from tars3d.geometry.camera_parameters import mean_over_mirror_images, placed_cameras, placement, rotation_from_rows
from tars3d.methods.inference import export_tensors, inference_model
from tars3d.methods.tars import TARS
from tars3d.objectives import camera_loss
from tars3d.reconstruct import load

SIZE = 48


def cameras() -> Cameras:
    poses = torch.tensor(
        np.array([look_at_origin(30.0 * i, 10.0 * i - 20, 2.0 + i, roll=5.0 * i) for i in range(4)])
    ).float()
    intrinsics = torch.tensor([[60.0, 0, 20], [0, 60, 30], [0, 0, 1]]).repeat(4, 1, 1)
    return Cameras(intrinsics, poses, torch.tensor([True, True, False, True]))


def test_a_camera_is_rebuilt_from_its_rotation_and_placement():
    true = cameras()
    rotation = true.extrinsics[:, :, :3]
    built = placed_cameras(
        rotation_from_rows(3 * rotation[:, 0], rotation[:, 1] + rotation[:, 0]), placement(true, SIZE), SIZE
    )
    points = torch.rand(4, 20, 3, generator=torch.Generator().manual_seed(0)) - 0.5
    torch.testing.assert_close(built.project(points)[0], true.project(points)[0], atol=1e-3, rtol=1e-4)
    assert torch.equal(built.perspective, true.perspective)


def test_rotations_are_proper():
    rows = torch.randn(2, 50, 3, generator=torch.Generator().manual_seed(0))
    rotation = rotation_from_rows(rows[0], rows[1])
    torch.testing.assert_close(rotation @ rotation.transpose(1, 2), torch.eye(3).expand(50, 3, 3), atol=1e-5, rtol=0)
    assert (torch.linalg.det(rotation) > 0).all()


def test_the_loss_is_zero_at_the_truth_and_counts_turns_and_places():
    true = cameras()
    rotation, place = true.extrinsics[:, :, :3], placement(true, SIZE)
    assert camera_loss(rotation, place, rotation, place).item() == pytest.approx(0.0, abs=1e-6)
    half_turn = torch.diag(torch.tensor([-1.0, 1.0, -1.0]))
    half = 8**0.5
    turned = (rotation @ half_turn - rotation).square().sum(dim=(1, 2)).sqrt().mean()
    assert turned.item() == pytest.approx(half, abs=1e-4), "180 degrees are sqrt(8) apart"
    assert camera_loss(rotation @ half_turn, place + 0.5, rotation, place).item() == pytest.approx(
        half + 4 * 0.25, abs=0.01
    )


def test_a_mirrored_answer_is_taken_back_to_the_picture():
    """The camera of the flipped picture of the mirrored object says the same, and both count half."""
    true = cameras()
    flipped = true.mirrored(SIZE)
    picture, mirrored = ((some.extrinsics[:, :, :3], placement(some, SIZE)) for some in (true, flipped))
    rotation, place = mean_over_mirror_images(picture, mirrored)
    torch.testing.assert_close(rotation, picture[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(place, picture[1], atol=1e-5, rtol=1e-5)
    _, moved = mean_over_mirror_images(picture, (mirrored[0], mirrored[1] + 0.2))
    torch.testing.assert_close(moved - picture[1], torch.tensor([0.1, -0.1, 0.1, 0.1]).expand(4, 4), atol=1e-5, rtol=0)


def test_answers_that_have_nothing_in_common_are_not_averaged():
    true = cameras()
    picture = true.extrinsics[:, :, :3], placement(true, SIZE)
    behind = Cameras(true.intrinsics, true.extrinsics.clone(), true.perspective)
    behind.extrinsics[:, :, :3] = torch.diag(torch.tensor([-1.0, 1.0, -1.0])) @ behind.extrinsics[:, :, :3]
    flipped = behind.mirrored(SIZE)
    rotation, place = mean_over_mirror_images(picture, (flipped.extrinsics[:, :, :3], placement(flipped, SIZE) + 1))
    torch.testing.assert_close(rotation, picture[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(place, picture[1], atol=1e-5, rtol=1e-5)


def test_a_picture_and_its_mirror_image_have_cameras_that_mirror():
    chair = load("chair", device="cpu")
    model = chair.model
    images = chair.images(np.stack([chair.frame(read_picture(path)) for path in sample_pictures()[:3]]))
    with torch.no_grad():
        found, flipped = model.predict_camera(images), model.predict_camera(images.flip(-1)).mirrored(128)
    torch.testing.assert_close(found.extrinsics, flipped.extrinsics, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found.intrinsics, flipped.intrinsics, atol=1e-2, rtol=1e-4)


def test_an_exported_model_predicts_the_camera_that_the_method_does():
    config = tiny_preset().model
    method = TARS(config).eval()
    model = inference_model(export_tensors(method, deformed=True, mean_code=torch.zeros(20)), config, "test")
    images = torch.rand(3, 3, 32, 32)
    rotation, place = method.camera_head(method.read(images))
    found = model.predict_camera(images)
    torch.testing.assert_close(found.extrinsics[:, :, :3], rotation)
    torch.testing.assert_close(found.intrinsics, placed_cameras(rotation, place, 32).intrinsics)


def test_a_model_without_the_head_says_so():
    config = tiny_model(camera_hidden=0)
    model = inference_model(export_tensors(TARS(config), deformed=True, mean_code=torch.zeros(8)), config, "test")
    with pytest.raises(UserError, match="predicts no camera"):
        model.predict_camera(torch.rand(1, 3, 32, 32))
