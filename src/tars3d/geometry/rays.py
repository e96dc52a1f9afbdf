"""Where rays pass through the cube around the object (for `training.step` and `photo.refine`), and where several of them nearly meet (for
cameras whose object must be found: `data.checking`, `data.importers`).
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor


def cube_chord(
    origins: Float[Tensor, "*any 3"], directions: Float[Tensor, "*any 3"], half_side: float
) -> tuple[Float[Tensor, "*any"], Float[Tensor, "*any"]]:
    """Ray parameters at which a ray enters and leaves the cube of this half side about the origin (slab method).

    A ray that misses it leaves before it enters.
    """
    tiny = torch.finfo(directions.dtype).tiny
    slope = torch.where(directions.abs() < tiny, torch.full_like(directions, tiny), directions)
    ends = torch.stack([(-half_side - origins) / slope, (half_side - origins) / slope])
    return ends.amin(dim=0).amax(dim=-1), ends.amax(dim=0).amin(dim=-1)


def nearest_point(
    origins: Float[np.ndarray, "rays 3"], directions: Float[np.ndarray, "rays 3"]
) -> Float[np.ndarray, "3"]:
    """The point with the least sum of squared distances to lines of unit directions; of parallel ones, one of many."""
    across = np.eye(3) - directions[:, :, None] * directions[:, None, :]
    return np.linalg.lstsq(across.sum(axis=0), (across @ origins[..., None]).sum(axis=0)[:, 0], rcond=None)[0]
