"""Cameras moved in their pictures' plane by masks: what was disturbed comes back, and what was right stays."""

import dataclasses
import math

import torch

from tars3d.data.keypoint_cameras.placement import LONGEST, Moves, settle
from test_category_hull import SCALE, SIZE, eggs

AZIMUTHS = [15.0 * number for number in range(24)]


def disturbed(size: float, seed: int = 0):
    """Eggs whose cameras are off in the plane by `size` times usual errors; the moves that were made."""
    bank, rng = eggs(AZIMUTHS), torch.Generator().manual_seed(seed)
    noise = size * torch.randn(len(bank), 4, generator=rng) * torch.tensor([0.05, 0.12, 0.04, 0.04])
    noise = noise - noise.median(dim=0).values
    moves = Moves(noise[:, 0], noise[:, 1], noise[:, 2:])
    return dataclasses.replace(bank, cameras=moves.applied(bank.cameras)), moves


def middles(bank, moves: Moves):
    """Pixels at which the moved cameras see the middle of the object."""
    return moves.applied(bank.cameras).project(torch.zeros(len(bank), 1, 3))[0][:, 0]


def test_disturbed_cameras_come_back_to_the_silhouettes():
    bank, _ = disturbed(1.0)
    moves, (before, after) = settle(bank)
    assert after > before + 0.05
    assert after > 0.9
    none = Moves(torch.zeros(24), torch.zeros(24), torch.zeros(24, 2))
    wanted = torch.full((24, 2), SIZE / 2)
    was, now = ((middles(bank, each) - wanted).norm(dim=1).median() for each in (none, moves))
    assert float(now) < 0.5 * float(was)
    scale = moves.applied(bank.cameras).focal / SCALE
    assert float((scale.log() - scale.log().median()).abs().median()) < 0.02


def test_right_cameras_stay_nearly_where_they_are():
    bank, _ = disturbed(0.0)
    moves, (_, after) = settle(bank)
    assert float(after) > 0.9
    assert float((moves.log_scale - math.log(LONGEST)).abs().max()) < 0.04
    assert float(moves.shift.abs().max()) < 0.02


def test_a_move_grows_turns_and_shifts_what_the_camera_sees():
    cameras = eggs([30.0]).cameras
    point = torch.tensor([[[0.1, 0.2, -0.3]]])
    before = cameras.project(point)[0][0, 0] - SIZE / 2
    moves = Moves(torch.tensor([2.0]).log(), torch.tensor([torch.pi / 2]), torch.tensor([[0.25, -0.125]]))
    after = moves.applied(cameras).project(point)[0][0, 0] - SIZE / 2
    turned = torch.stack([-before[1], before[0]])  # from u to v
    torch.testing.assert_close(after, 2 * turned + SCALE * torch.tensor([0.25, -0.125]), rtol=1e-4, atol=1e-3)
