"""Finds the object on a plain background (a studio shot, a catalogue picture) without any learned segmentation.

Called by `data.pictures` for pictures that bring no mask. The background's colour is a smooth function of the
place, fitted to the border of the picture; the object is what differs from it, and background seen through the
object stays background.
"""

from typing import Any

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image
from scipy import ndimage
from skimage.color import rgb2lab
from skimage.measure import label

LARGEST_SIDE = 1400
"""Colours are compared at this size: enough for chair slats, and 40-megapixel photos stay cheap."""
RING = 0.02
"""Width of the border that is looked at, as a share of the shorter side."""


class NotPlainError(ValueError):
    """The background is not plain, or nothing stands out from it. The message says which."""


def find_object(rgb: UInt8[np.ndarray, "height width 3"]) -> Bool[np.ndarray, "height width"]:
    """The mask of the object in front of a plain background.

    The background may be shaded: each Lab channel is a quadratic polynomial of the place, fitted to the
    picture's border with the object's own pixels trimmed off (it may touch the border). A pixel is object
    where it is further from the background than the background's own noise explains; faint pixels count only where
    they hang together with clear ones.

    Raises:
        NotPlainError: the border has no common colour, or the object would be (nearly) nothing or everything.
    """
    height, width = rgb.shape[:2]
    image = Image.fromarray(rgb)
    if max(height, width) > LARGEST_SIDE:
        image.thumbnail((LARGEST_SIDE, LARGEST_SIDE), Image.Resampling.BOX)
    distance, noise = _distance_from_background(rgb2lab(np.asarray(image)).astype(np.float32))

    # Units of Lab (1 is about just visible). In the one JPEG looked at, 95% of the background that is 2
    # to 4 pixels off the object deviates by up to 5.1 (ringing), background further than 16 pixels by up to 0.2.
    faint = max(6.0, 5 * noise)
    clear = 2.5 * faint
    mask = ndimage.binary_propagation(distance > clear, mask=distance > faint)
    mask = drop_specks(mask, 0.01)
    # A soft or JPEG-fringed edge is cut where it is half way between background and object, at most two pixels
    # deep.
    rim = mask & ndimage.binary_dilation(~mask, iterations=2)
    mask &= ~(rim & (distance < 0.5 * ndimage.maximum_filter(distance, size=5)))
    mask = drop_specks(mask, 0.01)
    mask = _fill_false_holes(mask, distance, faint)

    share = mask.mean()
    if share < 0.002:
        raise NotPlainError("nothing stands out from the plain background")
    if share > 0.95:
        raise NotPlainError("the object fills the picture, no background is left to tell it from")
    if mask.shape != (height, width):
        full = Image.fromarray(mask.astype(np.uint8) * 255).resize((width, height), Image.Resampling.BILINEAR)
        mask = np.asarray(full) >= 128
    return mask


def _distance_from_background(lab: np.ndarray) -> tuple[np.ndarray, float]:
    """Colour difference [H, W] of every pixel from the fitted background, and the noise of the background itself."""
    height, width = lab.shape[:2]
    ring = max(1, round(RING * min(height, width)))
    border = np.zeros((height, width), dtype=bool)
    border[:ring], border[-ring:], border[:, :ring], border[:, -ring:] = True, True, True, True
    y, x = np.indices((height, width), dtype=np.float32)
    x, y = 2 * x / max(width - 1, 1) - 1, 2 * y / max(height - 1, 1) - 1
    basis = np.stack([np.ones_like(x), x, y, x * y, x * x, y * y], axis=-1)

    samples, colours = basis[border], lab[border]
    # The start is the commonest colour, not the mean: half of the border may be legs of a chair.
    background = _commonest(colours)
    near = np.linalg.norm(colours - background, axis=1) < 12
    if near.mean() < 0.4:
        raise NotPlainError("the background is not plain")
    coefficients = None
    for _ in range(4):
        coefficients = np.linalg.lstsq(samples[near], colours[near], rcond=None)[0]
        residual = np.linalg.norm(colours - samples @ coefficients, axis=1)
        near = residual < max(4.0, 3 * float(np.median(residual[near])))
        if near.mean() < 0.6:
            raise NotPlainError("the background is not plain")
    assert coefficients is not None
    noise = float(np.sqrt(np.mean(residual[near] ** 2)))
    if noise > 5:
        raise NotPlainError("the background is not plain")
    return np.linalg.norm(lab - basis @ coefficients, axis=-1), noise


def _commonest(colours: np.ndarray) -> np.ndarray:
    """Mean of the fullest cell of a coarse Lab histogram."""
    cells = np.floor(colours / 8).astype(np.int64)
    _, cell, counts = np.unique(cells, axis=0, return_inverse=True, return_counts=True)
    return colours[cell.ravel() == counts.argmax()].mean(axis=0)


def drop_specks(mask: Bool[np.ndarray, "height width"], share: float) -> Bool[np.ndarray, "height width"]:
    """Keep the components of at least this share of the largest one's area: parts cut off by highlights stay, dust goes."""
    # Where photos have many megapixels, a dozen times faster than skimage's.
    found: Any = ndimage.label(mask, np.ones((3, 3)))
    labels = found[0]
    areas = np.bincount(labels.ravel())
    areas[0] = 0
    return (areas >= max(1, share * areas.max()))[labels]


def _fill_false_holes(mask: np.ndarray, distance: np.ndarray, faint: float) -> np.ndarray:
    """Fill holes that are pinholes or not truly of the background's colour (highlights); gaps between slats stay
    open.
    """
    labels = np.asarray(label(~mask, connectivity=1), dtype=np.intp)
    areas = np.bincount(labels.ravel())
    nearest = np.zeros(len(areas))
    nearest[1:] = ndimage.minimum(distance, labels, np.arange(1, len(areas)))
    false_hole = (areas < max(4, 2e-5 * mask.size)) | (nearest > 0.4 * faint)
    false_hole[np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])] = False
    false_hole[0] = False  # the object itself
    return mask | false_hole[labels]
