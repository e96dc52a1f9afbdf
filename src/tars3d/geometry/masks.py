"""What is asked of a mask in many rooms: its box, its rim, what share of coarser cells it covers, how far another overlaps it.

Called by the checker, the importers, `data.framing`, the metrics and the fit of cameras to masks.
"""

import numpy as np
from jaxtyping import Bool, Float
from scipy.ndimage import binary_erosion


def mask_box(mask: Bool[np.ndarray, "height width"]) -> Float[np.ndarray, "2 2"]:
    """Bounding box of a mask in continuous pixel coordinates: (left, top), (right, bottom).

    Raises:
        ValueError: the mask is empty.
    """
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    if not len(columns):
        raise ValueError("mask_box: the mask is empty")
    return np.array([[columns[0], rows[0]], [columns[-1] + 1, rows[-1] + 1]], dtype=np.float64)


def mask_rim(mask: Bool[np.ndarray, "height width"]) -> Bool[np.ndarray, "height width"]:
    """The outermost pixels of a mask; the border of the picture is no edge."""
    return mask & ~np.asarray(binary_erosion(mask, border_value=1), dtype=bool)


def mask_cells(mask: Bool[np.ndarray, "height width"], most: int) -> tuple[Float[np.ndarray, "rows columns"], int]:
    """What share of each cell the mask covers, 0 to 1, and the side of the cells in pixels, `most` of them a side at most.

    What of a cell lies outside the picture counts as background.
    """
    step = -(-max(mask.shape) // most)
    padded = np.pad(mask, ((0, -mask.shape[0] % step), (0, -mask.shape[1] % step)))
    return padded.reshape(padded.shape[0] // step, step, padded.shape[1] // step, step).mean(axis=(1, 3)), step


def mask_iou(
    first: Bool[np.ndarray, "height width"], second: Bool[np.ndarray, "rows columns"], *, both_empty: float = 1.0
) -> float:
    """Intersection over union of two masks.

    Args:
        both_empty: what two empty masks have: 1 where agreement is measured, 0 where the overlap is to be trusted.

    Raises:
        ValueError: they are not of one size.
    """
    if first.shape != second.shape:
        raise ValueError(f"masks of {first.shape} and {second.shape} pixels cannot be compared")
    union = int((first | second).sum())
    return float((first & second).sum()) / union if union else both_empty
