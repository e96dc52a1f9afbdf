"""A mask without the steps of its pixels: how much of each pixel the object covers, as far as the pixels around tell.

The outline flows by its curvature, so steps become the straight line between them, while every pixel's middle stays on its side (Whitaker,
"Reducing aliasing artifacts in iso-surfaces of binary volumes", VolVis 2000). Such a flow shrinks what is thin. So here the outline also moves back
by what its surroundings lost of their area. `photo.outline` bends shapes to it.
"""

import numpy as np
from jaxtyping import Bool, Float
from scipy.ndimage import gaussian_filter

from tars3d.geometry.distance_transform import distance_transform

STEPS = 60
"""Of the flow: steps of up to ten pixels become straight."""
STEP = 0.2
"""Square pixels: time of a step of the flow; an explicit scheme is stable up to 0.25."""
EVERY = 2
"""Steps of the flow after which lost area is given back."""
GIVEN_BACK = 0.1
"""How much of it at once; much more and lines of one pixel swing between nothing and twice their width."""
SURROUNDINGS = 3.0
"""Standard deviation of the Gaussian in which areas are compared, pixels: wider than a step of an outline is high, narrower than most parts."""
INSIDE = 0.02
"""Pixels that the middle of a pixel stays from the outline."""
FAR = 3.0
"""Pixels from the outline beyond which distances are all alike."""
OFFSETS = (-0.375, -0.125, 0.125, 0.375)
"""Places along a pixel's side, from its middle, at which it is asked whether the object is there."""


def mask_coverage(mask: Bool[np.ndarray, "height width"]) -> Float[np.ndarray, "height width"]:
    """How much of each pixel an object covers, 0 to 1, by a mask of the pixels whose middle it covers; the border of the picture is no edge."""
    if mask.all() or not mask.any() or min(mask.shape) < 2:
        return mask.astype(np.float32)
    distance, target = distance_transform(mask).clip(max=FAR), mask.astype(np.float32)
    level = np.where(mask, -distance, distance)
    down, across = np.gradient(target)
    area, length = (gaussian_filter(part, SURROUNDINGS) for part in (target, np.hypot(down, across)))
    for step in range(STEPS):
        level = level + STEP * _curvature(level)
        if step % EVERY == 0:
            lost = area - gaussian_filter(_covered(level), SURROUNDINGS)
            level = level - GIVEN_BACK * np.divide(lost, length, out=np.zeros_like(lost), where=length > 1e-3)
        level = np.where(mask, np.minimum(level, -INSIDE), np.maximum(level, INSIDE))
    return _covered(level)


def _curvature(level: Float[np.ndarray, "height width"]) -> Float[np.ndarray, "height width"]:
    """Curvature of the level lines, times the slope: what a line moves by, in pixels, in unit time."""
    around = np.pad(level, 1, mode="edge")
    left, right = around[1:-1, :-2], around[1:-1, 2:]
    above, below = around[:-2, 1:-1], around[2:, 1:-1]
    x, y = (right - left) / 2, (below - above) / 2
    xx, yy = right - 2 * level + left, below - 2 * level + above
    xy = (around[2:, 2:] - around[2:, :-2] - around[:-2, 2:] + around[:-2, :-2]) / 4
    return (x * x * yy - 2 * x * y * xy + y * y * xx) / (x * x + y * y + 1e-3)


def _covered(level: Float[np.ndarray, "height width"]) -> Float[np.ndarray, "height width"]:
    """Share of each pixel where the level, linear between the middles, is negative."""
    rows = [_beside(level, offset) for offset in OFFSETS]
    inside = sum((_beside(row.T, offset).T < 0).astype(np.float32) for row in rows for offset in OFFSETS)
    return np.asarray(inside / len(OFFSETS) ** 2, np.float32)


def _beside(level: Float[np.ndarray, "rows columns"], offset: float) -> Float[np.ndarray, "rows columns"]:
    """Values below the middles of the pixels by `offset` pixels, -1 to 1; beyond the border as at it."""
    share = np.float32(abs(offset))
    neighbour = np.concatenate([level[:1], level[:-1]] if offset < 0 else [level[1:], level[-1:]])
    return level * (1 - share) + neighbour * share
