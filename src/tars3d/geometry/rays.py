"""Where rays pass through the cube around the object. Called by `training.step` and `photo.refine`."""

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
