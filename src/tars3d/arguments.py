"""What several commands are told, checked before any work: the device, the grid, the steps of refining."""

import os
from typing import Literal

import torch

from tars3d.errors import UserError

MAX_RESOLUTION = 1024
MAX_REFINE_STEPS = 1000

CameraMode = Literal["auto", "search", "none"]


def choose_device(device: str) -> torch.device:
    """`auto` takes CUDA where there is one.

    Raises:
        UserError: cuda was asked for and there is none.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: no CUDA device here; use --device cpu")
    return torch.device(device)


def check_refine(steps: int, camera: CameraMode) -> None:
    """Refuse numbers of refining steps that make no sense."""
    if not 0 <= steps <= MAX_REFINE_STEPS:
        raise UserError(f"--refine {steps}: choose a number of steps from 0 to {MAX_REFINE_STEPS}")
    if steps and camera == "none":
        raise UserError("--refine: needs the picture's camera; leave out --camera none")


def check_resolution(resolution: int) -> None:
    """Refuse grids that make no sense or no longer fit into memory."""
    if not 8 <= resolution <= MAX_RESOLUTION:
        raise UserError(f"--resolution {resolution}: choose a number from 8 to {MAX_RESOLUTION}")
    needed = 12 * resolution**3  # values, mask and marching cubes' own copies, bytes
    try:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return
    if needed > free:
        raise UserError(
            f"--resolution {resolution}: needs {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free; choose a smaller one"
        )
