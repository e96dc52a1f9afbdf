"""Pictures that are framed anew before the encoder sees them: turned in their plane, or cut off. Shapes and their targets stay.

Called by `training.stages`: the same shape is to be read from all of these pictures.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from tars3d.geometry.camera import Cameras, pixel_centres
from tars3d.nn.encoder import white_ground

LOST = (0.05, 0.4)
"""Range of the share of its width or height that a cut object loses."""
KNOWN, WHOLE = 0.4, 0.2
"""Shares of the cut pictures that are framed by the object's true extent, and by the visible part alone."""


def turn_pictures(
    images: Float[Tensor, "batch 3 size size"],
    cameras: Cameras,
    degrees: float,
    padding: float,
    generator: torch.Generator,
) -> tuple[Float[Tensor, "batch 3 size size"], Cameras]:
    """Pictures turned by up to `degrees` either way and framed to their object again, with the cameras that take them: objects lean in photos.

    Args:
        images: in [-1, 1] on white.
        cameras: with square pixels.
        padding: side of the frame over the longer side of the object's box.
    """
    if not degrees:
        return images, cameras
    angle = (math.radians(degrees) * (2 * torch.rand(len(images), generator=generator) - 1)).to(images.device)
    turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], dim=-1).view(-1, 2, 2)
    low, high = _box(~white_ground(images)[:, 0], turn)
    return _framed(images, cameras, low, high, padding, turn)


def cut_pictures(
    images: Float[Tensor, "batch 3 size size"],
    cameras: Cameras,
    share: float,
    padding: float,
    generator: torch.Generator,
) -> tuple[Float[Tensor, "batch 3 size size"], Cameras]:
    """Pictures of which a share ends in the middle of the object, framed as `framing.bbox_crop` frames what is left, with their cameras.

    All at one side of the four. How far the object is taken to go on there is the truth for some of them, nothing for some, and for the others anything
    up to the most that is lost: who reconstructs such a picture has to guess.

    Args:
        images: in [-1, 1] on white.
        share: of the pictures that are cut, 0 to 1.
        padding: side of the frame over the longer side of the object's box.
    """
    if not share:
        return images, cameras
    chance, lost, known, guess = torch.rand(4, len(images), generator=generator)
    axis, upper = divmod(int(torch.randint(4, (), generator=generator)), 2)  # upper: the right, or the bottom
    which = (chance < share).nonzero()[:, 0]
    lost = LOST[0] + (LOST[1] - LOST[0]) * lost[which]
    on = torch.where(known[which] < KNOWN, lost, LOST[1] * guess[which])
    on = torch.where(known[which] > 1 - WHOLE, 0.0, on)
    which = which.to(images.device)
    lost, on = lost.to(images.device), on.to(images.device)  # shares of the whole extent

    size, pictures = images.shape[-1], images[which]
    shown = ~white_ground(pictures)[:, 0]
    low, high = _box(shown)
    extent = (high - low)[:, axis]
    edge = high[:, axis] - lost * extent if upper else low[:, axis] + lost * extent
    place = pixel_centres(size, images.device)[..., axis]
    beyond = place > edge[:, None, None] if upper else place < edge[:, None, None]
    low, high = _box(shown & ~beyond)
    (high if upper else low)[:, axis] = edge + on * extent if upper else edge - on * extent

    pictures = torch.where(beyond[:, None], 1.0, pictures)
    framed, moved = _framed(pictures, cameras[which], low, high, padding)
    intrinsics = cameras.intrinsics.index_copy(0, which, moved.intrinsics)
    return images.index_copy(0, which, framed), Cameras(intrinsics, cameras.extrinsics, cameras.perspective)


def _box(
    shown: Bool[Tensor, "batch size size"], turn: Float[Tensor, "batch 2 2"] | None = None
) -> tuple[Float[Tensor, "batch 2"], Float[Tensor, "batch 2"]]:
    """Lower and upper corner of what is shown, in pixels, after turning the plane; of the whole picture where nothing is."""
    pixels = pixel_centres(shown.shape[-1], shown.device).view(1, -1, 2)
    if turn is not None:
        pixels = pixels @ turn.transpose(1, 2)
    object_ = (shown | ~shown.flatten(1).any(dim=1)[:, None, None]).flatten(1)[..., None]
    low = torch.where(object_, pixels, torch.inf).amin(dim=1) - 0.5
    return low, torch.where(object_, pixels, -torch.inf).amax(dim=1) + 0.5


def _framed(
    images: Float[Tensor, "batch 3 size size"],
    cameras: Cameras,
    low: Float[Tensor, "batch 2"],
    high: Float[Tensor, "batch 2"],
    padding: float,
    turn: Float[Tensor, "batch 2 2"] | None = None,
) -> tuple[Float[Tensor, "batch 3 size size"], Cameras]:
    """Pictures turned, and framed to a box of the turned plane, with the cameras that take them."""
    size = images.shape[-1]
    if turn is None:
        turn = torch.eye(2, device=images.device).expand(len(images), 2, 2)
    middle = (low + high) / 2
    scale = size / (padding * (high - low).amax(dim=1))
    centres = pixel_centres(size, images.device).view(-1, 2)
    # a new picture's pixel p shows the old picture's pixel turn^T ((p - size / 2) / scale + middle)
    source = ((centres - size / 2) / scale[:, None, None] + middle[:, None]) @ turn
    grid = (2 * source / size - 1).view(len(images), size, size, 2)
    framed = F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)

    intrinsics, extrinsics = cameras.intrinsics.clone(), cameras.extrinsics.clone()
    extrinsics[:, :2] = turn @ cameras.extrinsics[:, :2]
    intrinsics[:, :2, :2] *= scale[:, None, None]
    old = (turn @ cameras.intrinsics[:, :2, 2:])[..., 0]
    intrinsics[:, :2, 2] = scale[:, None] * (old - middle) + size / 2
    return framed, Cameras(intrinsics, extrinsics, cameras.perspective)
