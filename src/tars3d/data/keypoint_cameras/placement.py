"""Where each object lies in its picture, from the masks: cameras moved in their pictures' plane until silhouettes agree with the category's.

Keypoints say from where an object is seen; how large it is and where its middle lies they say through the mean shape alone, to which no
single object conforms. Outlines know it better. Called by `data.keypoint_cameras.estimate`, whose cameras are orthographic.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from tars3d.data.bank import PictureBank, load_bank
from tars3d.data.category_hull import CategoryHull, category_hull
from tars3d.data.image_record import ImageRecord
from tars3d.data.keypoint_cameras.sightings import SHOWN
from tars3d.geometry.camera import Cameras, pixel_centres

SIZE = 48
"""Side of the framed masks, pixels."""
ROUNDS = 3
"""Times that the category's hull is carved with the cameras as they are and the cameras are moved to it."""
STEPS = 60
LEARNING_RATE = 0.15
EDGE = 0.015
"""World units over which a silhouette's edge is soft."""
WIDTHS = (0.05, 7.0, 0.04)
"""Usual error of cameras from keypoints: of the logarithm of the scale, of the roll in degrees, of the middle in world units."""
LONGEST = 1.25
"""Longest side of an object, in terms of the usual one. In the end all shrink by it, so that the longest is 1: the cube in which surfaces
are sought is hardly larger. With a limit of 1 a long tail would make its bird's body half the size of other bodies."""
BEYOND = 2.0
"""What a unit beyond half of that costs, in shares of the IoU."""
DIRECTIONS = 32
PRIOR = 0.01
"""What an error of the usual size costs, in shares of the IoU, is this times log 2: few cameras that are far off may go far."""


@dataclass(frozen=True)
class Moves:
    """In-plane moves of pictures' cameras, about the pixel of the world's origin.

    Attributes:
        log_scale: logarithm of the factor by which the object grows.
        roll: radians that it turns, from u (right) to v (down).
        shift: of its middle, world units (right, down), before growing.
    """

    log_scale: Float[Tensor, "pictures"]
    roll: Float[Tensor, "pictures"]
    shift: Float[Tensor, "pictures 2"]

    def to(self, kind: torch.dtype) -> "Moves":
        """The same moves in another type of number."""
        return Moves(self.log_scale.to(kind), self.roll.to(kind), self.shift.to(kind))

    def applied(self, cameras: Cameras) -> Cameras:
        """The moved orthographic cameras."""
        scale, cosine, sine = self.log_scale.exp(), self.roll.cos(), self.roll.sin()
        zero, one = torch.zeros_like(scale), torch.ones_like(scale)
        turn = torch.stack([cosine, -sine, zero, sine, cosine, zero, zero, zero, one], dim=-1).view(-1, 3, 3)
        grown = scale[:, None, None] * cameras.intrinsics[:, :2, :2]
        middle = cameras.intrinsics[:, :2, 2:] + cameras.intrinsics[:, :2, :2] @ self.shift[..., None]
        intrinsics = torch.cat([torch.cat([grown, middle], dim=2), cameras.intrinsics[:, 2:]], dim=1)
        return Cameras(intrinsics, turn @ cameras.extrinsics, cameras.perspective)


def settled(records: Sequence[ImageRecord]) -> tuple[list[ImageRecord], float, float]:
    """The records with moved cameras; mean IoU of mask and category before and after. See `settle`.

    Raises:
        UserError: a picture cannot be used; the message names it.
    """
    bank = load_bank(records, size=SIZE, framing="bbox", padding=1.15)
    moves, (before, after) = settle(bank)
    given = Cameras(
        torch.from_numpy(np.stack([record.intrinsics for record in records])),
        torch.from_numpy(np.stack([record.extrinsics for record in records])),
        torch.zeros(len(records), dtype=torch.bool),
    )
    moved = moves.to(torch.float64).applied(given)
    cameras = zip(records, moved.intrinsics.numpy(), moved.extrinsics.numpy(), strict=True)
    return [replace(record, intrinsics=k, extrinsics=e) for record, k, e in cameras], float(before), float(after)


def settle(bank: PictureBank) -> tuple[Moves, Float[Tensor, "2"]]:
    """In-plane moves after which the pictures' masks agree best with the silhouettes of their category's hull.

    The median of all moves is none but shrinking by `LONGEST`: else the category as a whole neither grows nor turns.

    Args:
        bank: orthographic pictures of a symmetric category (at x = 0), whose world origins lie on the optical axes.

    Returns:
        The moves, and the mean IoU of mask and hull before and after them.
    """
    moves = Moves(*(torch.zeros(len(bank), *rest, device=bank.device) for rest in ((), (), (2,))))
    ious = []
    for _ in range(ROUNDS):
        category = category_hull(replace(bank, cameras=moves.applied(bank.cameras)))
        moves, before, after = _fit(bank, category, moves)
        ious += [before, after]
    shrunk = moves.log_scale + math.log(LONGEST)
    return Moves(shrunk, moves.roll, moves.shift), torch.stack([ious[0], ious[-1]])


def _fit(bank: PictureBank, category: CategoryHull, start: Moves) -> tuple[Moves, Tensor, Tensor]:
    """The best moves against one hull, from `start`; mean IoU there and here."""
    widths = torch.tensor([WIDTHS[0], torch.pi / 180 * WIDTHS[1], WIDTHS[2], WIDTHS[2]], device=bank.device)
    values = (torch.cat([start.log_scale[:, None], start.roll[:, None], start.shift], dim=1) / widths).requires_grad_()
    own = _occupied(bank.signed_distance() / bank.cameras.focal[:, None, None])
    hull = category.silhouette(bank.cameras, bank.size)
    hull = hull - _level_of_area(hull, bank.mask)

    def moves_of(values: Tensor) -> Moves:
        scaled = values * widths
        return Moves(scaled[:, 0], scaled[:, 1], scaled[:, 2:])

    rim = _rim(bank)

    def iou_of(values: Tensor) -> Float[Tensor, "pictures"]:
        return _overlap(own, _occupied(_warped(hull, bank, moves_of(values))))

    def measured(values: Tensor) -> Float[Tensor, ""]:
        return _overlap(bank.mask.float(), (_warped(hull, bank, moves_of(values)) < 0).float()).mean()

    before = measured(values.detach())
    optimizer = torch.optim.Adam([values], lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, STEPS)
    for _ in range(STEPS):
        optimizer.zero_grad()
        usual = values.square().sum(dim=1).log1p()
        beyond = (_reach(rim, bank.cameras, moves_of(values)) - LONGEST / 2).clamp_min(0)
        (1 - iou_of(values) + PRIOR * usual + BEYOND * beyond).sum().backward()
        optimizer.step()
        schedule.step()
    found = values.detach()
    return moves_of(found - found.median(dim=0).values), before, measured(found)


def _warped(hull: Float[Tensor, "pictures cells cells"], bank: PictureBank, moves: Moves) -> Tensor:
    """Levels of the hull's silhouettes after the moves, world units, at the pictures' pixels."""
    size, focal = bank.size, bank.cameras.focal
    middle = bank.cameras.intrinsics[:, :2, 2]
    scale, cosine, sine = moves.log_scale.exp(), moves.roll.cos(), moves.roll.sin()
    there = pixel_centres(bank.size, bank.device) - (middle + focal[:, None] * moves.shift)[:, None, None]
    back = torch.stack([cosine, sine, -sine, cosine], dim=-1).view(-1, 1, 1, 2, 2) / scale[:, None, None, None, None]
    source = (back @ there[..., None])[..., 0] + middle[:, None, None]
    found = F.grid_sample(hull[:, None], 2 * source / size - 1, padding_mode="border", align_corners=False)[:, 0]
    return found * scale[:, None, None]


def _rim(bank: PictureBank) -> Float[Tensor, "pictures directions 2"]:
    """The masks' extreme pixels in directions all around."""
    angle = torch.arange(DIRECTIONS, device=bank.device) * (2 * torch.pi / DIRECTIONS)
    direction = torch.stack([angle.cos(), angle.sin()])
    pixels = pixel_centres(bank.size, bank.device).view(-1, 2)
    along = torch.where(bank.mask.flatten(1)[..., None], pixels @ direction, -torch.inf)
    return pixels[along.argmax(dim=1)]


def _reach(rim: Tensor, cameras: Cameras, moves: Moves) -> Float[Tensor, "pictures"]:
    """How far the moved objects reach from the world's origin, along those of their axes that the pictures show nearly at full length."""
    moved = moves.applied(cameras)
    across = moved.extrinsics[:, :2, :3]  # columns: the axes in the picture
    length = across.square().sum(dim=1, keepdim=True)
    places = (rim - moved.intrinsics[:, None, :2, 2]) / moved.focal[:, None, None]
    along = (places @ across / length).abs().amax(dim=1)
    return torch.where(length[:, 0] >= SHOWN**2, along, 0).amax(dim=1)


def _level_of_area(hull: Float[Tensor, "pictures cells cells"], mask: Tensor) -> float:
    """The level at which the hull's silhouettes cover as much of all pictures as the masks do: medians and cuts make the hull thin."""
    return float(np.quantile(hull.cpu().numpy(), float(mask.float().mean())))


def _occupied(level: Tensor) -> Tensor:
    return torch.sigmoid(-level / EDGE)


def _overlap(first: Tensor, second: Tensor) -> Float[Tensor, "pictures"]:
    """Intersection over union of silhouettes, their pixels from 0 to 1."""
    both = (first * second).sum(dim=(1, 2))
    return both / (first.sum(dim=(1, 2)) + second.sum(dim=(1, 2)) - both)
