"""Whether masks follow what is seen in their pictures: their outlines lie where colours change, or lie there once mirrored or moved.

Called by `data.checking.check`, for masks in files of their own: an alpha channel cannot belong to another picture. No learned segmentation:
only the ranks of colour gradients along the outline count, compared between one way to lay the mask and another.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image
from scipy import ndimage

from tars3d.data.checking.fault import Fault
from tars3d.data.image_record import ImageRecord
from tars3d.data.pictures import read_picture
from tars3d.errors import UserError
from tars3d.geometry.masks import mask_rim

SIDE = 160  # pixels of the longer side at which outlines are compared
PICTURES = 40  # that are looked at
FEW = 4  # pictures that tell two ways apart, from which on they are believed
MARGIN = 0.06  # mean rank by which one way must beat another in a picture to count
REACH = 0.3  # of the longer side, how far masks are moved
FOLLOWING = 0.04  # mean rank by which a mask must beat those of other pictures, median


@dataclass(frozen=True, eq=False)
class _Laid:
    """A picture's edges, and its mask."""

    rank: Float[np.ndarray, "rows columns"]
    """Of each pixel's colour gradient among the picture's, 0 to 1; the strongest of its neighbourhood."""
    mask: Bool[np.ndarray, "rows columns"]
    scale: float
    """Pixels of the picture per pixel here."""


def mask_faults(records: Sequence[ImageRecord]) -> Iterator[Fault]:
    """What is wrong with masks as against pictures.

    Pictures that cannot be read are passed over: the caller has named them.
    """
    own = [k for k, record in enumerate(records) if record.mask is not None]
    if not own:
        return
    chosen = [own[k] for k in np.unique(np.linspace(0, len(own) - 1, PICTURES).astype(int))]
    laid = {k: found for k in chosen if (found := _lay(records[k])) is not None}
    if len(laid) < FEW:
        return
    masks = {k: found.mask for k, found in laid.items()}

    def mask_of(k: int) -> np.ndarray | None:
        if k not in masks and 0 <= k < len(records) and records[k].mask is not None:
            masks[k] = found.mask if (found := _lay(records[k])) is not None else np.zeros((1, 1), dtype=bool)
        return masks.get(k)

    ways: dict[str, Callable[[int], np.ndarray | None]] = {
        "the masks are mirrored left-right; mirror them back": lambda k: masks[k][:, ::-1],
        "the masks are upside down; turn them over": lambda k: masks[k][::-1],
        "the masks are turned by half a turn; is the photos' EXIF orientation applied to both?": lambda k: masks[k][
            ::-1, ::-1
        ],
        "the masks are one picture late: each shows the object of the picture before; count masks and pictures alike": lambda k: (
            mask_of(k + 1)
        ),
        "the masks are one picture early: each shows the object of the next picture; count masks and pictures alike": lambda k: (
            mask_of(k - 1)
        ),
    }
    better = {words: _wins(_gains(laid, way)) for words, way in ways.items()} | _moved(list(laid.values()))
    best = max(better, key=lambda words: better[words])
    if better[best] > 0:
        yield Fault(f"masks do not follow the outlines in their pictures: {best}", serious=True)
    else:
        others = [masks[j] for j in chosen if j in masks]
        against = _gains(laid, lambda k: others[(chosen.index(k) + len(others) // 2) % len(others)])
        if len(against) >= 2 * FEW and -np.median(against) < FOLLOWING:
            yield Fault(
                "masks follow the outlines in their pictures no better than other pictures' masks do: "
                "do they belong to these pictures? Look at the overlay sheet",
                serious=False,
            )


def _lay(record: ImageRecord) -> _Laid | None:
    try:
        picture = read_picture(record.file, record.mask)
    except UserError:
        return None
    scale = max(picture.mask.shape) / SIDE
    height, width = (max(3, round(side / scale)) for side in picture.mask.shape)
    size = (width, height)
    rgb = np.asarray(Image.fromarray(picture.rgb).resize(size, Image.Resampling.BOX))
    mask = np.asarray(Image.fromarray(picture.mask).resize(size, Image.Resampling.NEAREST))
    return _Laid(_edge_ranks(rgb), mask, scale)


def _edge_ranks(rgb: UInt8[np.ndarray, "rows columns 3"]) -> Float[np.ndarray, "rows columns"]:
    """The strongest gradient within one pixel, as its rank among all: light and contrast of the photo do not matter."""
    smooth = ndimage.gaussian_filter(rgb.astype(np.float64), (0.8, 0.8, 0))
    gradient = (ndimage.sobel(smooth, axis=0) ** 2 + ndimage.sobel(smooth, axis=1) ** 2).sum(axis=-1)
    strongest = ndimage.maximum_filter(gradient, 3)
    flat = np.sort(strongest.ravel())
    below = np.searchsorted(flat, strongest, "left") + np.searchsorted(flat, strongest, "right")
    return below / (2 * flat.size)


def _outline(mask: np.ndarray) -> np.ndarray:
    """The mask's rim, without the picture's own border, where no edge can be seen."""
    rim = mask_rim(mask)
    rim[[0, -1]] = rim[:, [0, -1]] = False
    return rim


def _follows(rank: np.ndarray, mask: np.ndarray) -> float:
    rim = _outline(mask)
    return float(rank[rim].mean()) if rim.any() else float("nan")


def _gains(laid: dict[int, _Laid], way: Callable[[int], np.ndarray | None]) -> list[float]:
    """By how much another mask follows each picture better than its own; pictures where that cannot be said are left out."""
    gains = []
    for k, found in laid.items():
        mask = way(k)
        if mask is not None and mask.shape == found.rank.shape:
            gains.append(_follows(found.rank, mask) - _follows(found.rank, found.mask))
    return [gain for gain in gains if np.isfinite(gain)]


def _wins(gains: Sequence[float]) -> float:
    """How clearly another way is better: its median gain where it makes a difference, or 0 where it does not win nearly always."""
    telling = np.array([gain for gain in gains if abs(gain) > MARGIN])
    if len(telling) < max(FEW, 0.25 * len(gains)) or (telling > 0).mean() < 0.85:
        return 0.0
    return float(np.median(telling))


def _moved(laid: Sequence[_Laid]) -> dict[str, float]:
    """The step by which all masks are off, in words, and its gain; empty if there is none that most pictures share."""
    steps, gains = [], []
    for found in laid:
        (down, right), gain = _best_step(found)
        steps.append((found.scale * right, found.scale * down))
        gains.append(gain)
    size = float(np.median([max(found.mask.shape) * found.scale for found in laid]))
    step = np.median(steps, axis=0)
    alike = np.linalg.norm(np.array(steps) - step, axis=1) < 0.03 * size
    if np.linalg.norm(step) < 0.025 * size or alike.mean() < 0.6 or np.median(np.array(gains)[alike]) < MARGIN:
        return {}
    across = f"{abs(step[0]):.0f} pixels too far {'left' if step[0] > 0 else 'right'}"
    down = f"{abs(step[1]):.0f} too {'high' if step[1] > 0 else 'low'}"
    words = f"they lie beside the objects, about {across} and {down}; were pictures or masks cropped or padded?"
    return {words: float(np.median(np.array(gains)[alike]))}


def _best_step(found: _Laid) -> tuple[tuple[int, int], float]:
    """The step (down, right) after which the outline follows edges best, and by how much better than at rest."""
    rim = _outline(found.mask).astype(np.float64)
    if not rim.any():
        return (0, 0), 0.0
    rows, columns = rim.shape
    shape = (2 * rows, 2 * columns)
    # What leaves the picture counts as an average pixel.
    spectrum = np.fft.rfft2(found.rank - 0.5, shape) * np.conj(np.fft.rfft2(rim, shape))
    score = np.fft.irfft2(spectrum, shape) / rim.sum()
    reach = round(REACH * max(rows, columns))
    near = np.roll(score, (reach, reach), axis=(0, 1))[: 2 * reach + 1, : 2 * reach + 1]
    down, right = np.unravel_index(near.argmax(), near.shape)
    return (int(down) - reach, int(right) - reach), float(near.max() - score[0, 0])
