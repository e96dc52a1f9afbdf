"""Samples of a field on a fine grid, evaluated only near its zero surface; `isosurface` makes the mesh.

A coarse grid is evaluated whole and halved level by level. A sample is skipped where a known value next to it
is too large for the field to come down to zero in between, at the steepness measured there: its sign is then
certain.
"""

from collections.abc import Callable

import numpy as np
import scipy.ndimage
from jaxtyping import Bool, Float, Int

FieldFunction = Callable[[np.ndarray], np.ndarray]

COARSEST = 32
"""Cells a side of the first grid, at most."""
SAFETY = 0.3
"""The field is taken to be steeper by this part than it was measured to be in the 27 cells around, on the first grid. On each finer
grid it is half of that: the measurement is then from half as far away."""
KEPT = 0.7
"""On a finer grid the steepness is measured anew, and taken to be at least this part of what it was on the grid before."""
FLATTEST = 0.7
"""The steepness is nowhere taken to be below this part of its median: a field is flat along its ridges, and
it is there that a thin part can hide between two samples."""
MARGIN = 0.15
"""A sample whose sign is certain is evaluated all the same if its bound is below this many cells' worth of
steepness, except on the finest grid: the value spares evaluations on the grids that follow."""

_CORNERS = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)])
_POINTS = np.array(list(np.ndindex(3, 3, 3)))  # the samples of a cell once it is halved, in half cells
_KIND = (_POINTS == 1).sum(axis=1)  # 0 for corners, which are there before; middles of edges, of faces, of the cell
_APART = np.linalg.norm(_POINTS[:, None] - _POINTS, axis=2) / 2  # [27, 27], in cells
_UNKNOWN = np.float32(1e-30)
"""Magnitude of a bound that says nothing but, perhaps, a sign."""
_MOST_MEAN_DISTANCE = np.linalg.norm(_CORNERS, axis=1).mean()


def _needed_corners() -> Bool[np.ndarray, "256 8"]:
    """For each pattern of inside corners (bit k for corner k), the corners whose values, not only signs,
    shape the mesh: the ends of edges with a change of sign; all eight where the surface is not determined by
    the signs."""
    inside = (np.arange(256)[:, None] >> np.arange(8)) & 1 == 1
    apart = np.abs(_CORNERS[:, None] - _CORNERS).sum(axis=2)
    differs = inside[:, :, None] != inside[:, None]
    needed = (differs & (apart == 1)).any(axis=2)
    # A face with two diagonal corners inside and two outside can be joined in two ways.
    faces = [np.flatnonzero(_CORNERS[:, axis] == end) for axis in range(3) for end in (0, 1)]
    ambiguous = np.zeros(256, dtype=bool)
    for a, b, c, d in faces:  # a-d and b-c are the diagonals
        ambiguous |= (inside[:, a] == inside[:, d]) & (inside[:, b] == inside[:, c]) & differs[:, a, b]
    # So can two opposite corners of the cell that differ from the six others: apart, or through a tunnel.
    for k in range(8):
        pair = np.isin(np.arange(8), [k, 7 - k])
        ambiguous |= (inside == pair).all(axis=1) | (inside != pair).all(axis=1)
    return needed | ambiguous[:, None]


_NEEDED = _needed_corners()


class Evaluator:
    """Asks the field for values at samples of the finest grid; counts and checks the answers."""

    def __init__(self, sdf: FieldFunction, low: float, spacing: float, chunk: int) -> None:
        self.sdf, self.low, self.spacing, self.chunk = sdf, low, spacing, max(1, chunk)
        self.count = 0

    def __call__(self, samples: Int[np.ndarray, "n 3"]) -> Float[np.ndarray, " n"]:
        """Float32 values at integer positions on the finest grid. Raises FloatingPointError unless all are
        finite."""
        values = np.empty(len(samples), dtype=np.float32)
        for start in range(0, len(samples), self.chunk):
            part = samples[start : start + self.chunk]
            answer = np.asarray(self.sdf((part * self.spacing + self.low).astype(np.float32)))
            if answer.shape != (len(part),):
                raise ValueError(f"the field gave values of shape {answer.shape} for {len(part)} points")
            values[start : start + self.chunk] = answer
        self.count += len(samples)
        bad, nan = int((~np.isfinite(values)).sum()), int(np.isnan(values).sum())
        if bad:
            raise FloatingPointError(f"the field is NaN at {nan} and infinite at {bad - nan} of {len(values)} points")
        return values

    def whole_grid(self, cells: int, step: int) -> Float[np.ndarray, "s s s"]:
        """Values at every `step`-th sample of the finest grid, `cells` + 1 a side, some planes of x at a
        time."""
        side = cells + 1
        plane = np.stack(np.meshgrid(np.arange(side), np.arange(side), indexing="ij"), axis=-1).reshape(-1, 2)
        volume = np.empty((side, side * side), dtype=np.float32)
        planes = max(1, self.chunk // len(plane))
        for start in range(0, side, planes):
            x = np.arange(start, min(start + planes, side))
            slab = np.c_[np.repeat(x, len(plane)), np.tile(plane, (len(x), 1))]
            volume[x] = self(slab * step).reshape(len(x), -1)
        return volume.reshape(side, side, side)


def refine(evaluate: Evaluator, resolution: int) -> Float[np.ndarray, "samples samples samples"]:
    """The field on a grid of `resolution` cells a side or slightly more (so that it can be halved down to the
    first one; the spacing is kept): the field's values wherever marching cubes reads them, elsewhere only the
    right sign.

    This rests on the field's steepness varying little over two cells of each grid. Parts much thinner than a
    cell of the first are found as long as the field falls towards them from a cell away. A surface that was met is
    followed to its end, whatever the bounds say."""
    levels = max(0, int(np.ceil(np.log2(resolution / COARSEST))))
    step = 2**levels
    side = -(-resolution // step)  # cells, here and below
    volume = evaluate.whole_grid(side, step)
    if levels == 0:
        return volume
    known = np.ones(volume.shape, dtype=bool)  # else `volume` has the field's sign and at most its magnitude
    steepness = _steepness(volume)
    active = np.arange(side**3)  # the cells that may hold the surface

    for level in range(1, levels + 1):
        corner = np.stack(np.unravel_index(active, (side,) * 3), axis=1)
        most = (1 + SAFETY / 2 ** (level - 1)) * steepness
        halved = _may_hold_zero(volume.ravel()[_flat(corner[:, None] + _CORNERS, side)], most)
        corner, steepness, most = 2 * corner[halved], steepness[halved], most[halved]

        step, side = step // 2, 2 * side
        volume, known = _spread(volume, known)
        flat, margin = _flat(corner[:, None] + _POINTS, side), MARGIN if level < levels else 0.0
        for kind in (1, 2, 3):  # each is bounded by what is known of those before, which lie nearer than corners
            new, before = kind == _KIND, kind > _KIND
            bound = _bound(volume.ravel()[flat[:, before]], most, _APART[new][:, before])
            uncertain = np.abs(bound) <= np.maximum(margin * most[:, None], _UNKNOWN)
            volume.ravel()[flat[:, new]] = bound
            _ask(evaluate, volume, known, np.unique(flat[:, new][uncertain]), step)
        crossing = _follow_surface(evaluate, volume, known, step)
        if level < levels:
            active, steepness = _halves(volume, known, corner, steepness, crossing)
    return volume


def _flat(samples: np.ndarray, side: int) -> np.ndarray:
    """Flat positions of samples [..., 3] in a volume of `side` cells a side."""
    return (samples[..., 0] * (side + 1) + samples[..., 1]) * (side + 1) + samples[..., 2]


def _steepness(volume: np.ndarray) -> np.ndarray:
    """How much the field may change over one cell's length, for each cell [cells ** 3]."""
    square = np.zeros(tuple(n - 1 for n in volume.shape))
    for axis in range(3):
        rise = np.abs(np.diff(volume, axis=axis))
        for other in {0, 1, 2} - {axis}:
            low, high = [slice(None)] * 3, [slice(None)] * 3
            low[other], high[other] = slice(None, -1), slice(1, None)
            rise = np.maximum(rise[tuple(low)], rise[tuple(high)])
        square += rise.astype(np.float64) ** 2
    slope = np.sqrt(square)
    return np.maximum(scipy.ndimage.maximum_filter(slope, 3), FLATTEST * np.median(slope)).ravel()


def _may_hold_zero(values: np.ndarray, steepness: np.ndarray) -> np.ndarray:
    """False for cells [n] in which a zero would be nearer to the corners than their values [n, 8] allow."""
    size = np.abs(values)
    one_sign = (values > 0).all(axis=1) | (values <= 0).all(axis=1)
    # Every point of a cell has a corner within half the diagonal, and a mean distance to the corners of at
    # most that of a corner itself.
    too_far = (size.min(axis=1) > np.sqrt(0.75) * steepness) | (size.mean(axis=1) > _MOST_MEAN_DISTANCE * steepness)
    return ~(one_sign & too_far)


def _bound(values: np.ndarray, steepness: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """Signed bounds [n, new] of the field at new samples of cells: its sign, and at most its magnitude.

    Args:
        values: the field, or such bounds of it, at other samples of the cells [n, old].
        distance: from the new samples to those [new, old], in cells.

    Returns:
        ±1e-30 where nothing is certain.
    """
    size = np.abs(values)
    found = np.empty((len(values), len(distance)), dtype=np.float32)
    for k, apart in enumerate(distance):
        reach = size - apart * steepness[:, None]
        best = reach.argmax(axis=1)[:, None]
        sign = np.where(np.take_along_axis(values, best, axis=1) > 0, 1, -1)
        found[:, k] = (sign * np.maximum(np.take_along_axis(reach, best, axis=1), _UNKNOWN))[:, 0]
    return found


def _spread(volume: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The next finer grid: old samples where they were, the new ones with nothing but the sign of a neighbour
    (which is theirs in all cells that are not halved)."""
    cells = 2 * (len(volume) - 1)
    finer, finer_known = np.empty((cells + 1,) * 3, dtype=np.float32), np.zeros((cells + 1,) * 3, dtype=bool)
    sign = np.where(volume > 0, _UNKNOWN, -_UNKNOWN)
    for i, j, k in _CORNERS:
        source = volume if i + j + k == 0 else sign
        finer[i::2, j::2, k::2] = source[: len(volume) - i, : len(volume) - j, : len(volume) - k]
    finer_known[::2, ::2, ::2] = known
    return finer, finer_known


def _ask(evaluate: Evaluator, volume: np.ndarray, known: np.ndarray, flat: np.ndarray, step: int) -> bool:
    """Evaluates samples; returns whether any sign was not what had been written there."""
    values = evaluate(np.stack(np.unravel_index(flat, volume.shape), axis=1) * step)
    surprise = bool(((values > 0) != (volume.ravel()[flat] > 0)).any())
    volume.ravel()[flat] = values
    known.ravel()[flat] = True
    return surprise


def _follow_surface(evaluate: Evaluator, volume: np.ndarray, known: np.ndarray, step: int) -> np.ndarray:
    """Evaluates what the mesh needs in cells with a change of sign, until that adds no such cell. Returns
    their flat positions (as samples: of the low corner)."""
    side = len(volume) - 1
    while True:
        inside = volume <= 0
        pattern = np.zeros((side,) * 3, dtype=np.uint8)
        for bit, (i, j, k) in enumerate(_CORNERS):
            pattern |= inside[i : i + side, j : j + side, k : k + side].view(np.uint8) << np.uint8(bit)
        crossing = np.flatnonzero(pattern.ravel() + np.uint8(1) > 1)  # neither 0 nor 255
        corners = np.stack(np.unravel_index(crossing, pattern.shape), axis=1)[:, None] + _CORNERS
        flat = _flat(corners, side)
        needed = flat[_NEEDED[pattern.ravel()[crossing]] & ~known.ravel()[flat]]
        if len(needed) == 0 or not _ask(evaluate, volume, known, np.unique(needed), step):
            return crossing


def _halves(
    volume: np.ndarray, known: np.ndarray, corner: np.ndarray, steepness: np.ndarray, crossing: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The cells to look at on the grid just made, and their steepness: the halves of the halved cells (low
    corners `corner`), and all that the surface runs through."""
    side = len(volume) - 1
    active = np.ravel_multi_index(tuple((corner[:, None] + _CORNERS).reshape(-1, 3).T), (side,) * 3)
    inherited = np.repeat(steepness / 2, len(_CORNERS))
    strays = np.setdiff1d(crossing, active)
    if len(strays):
        active = np.concatenate([active, strays])
        inherited = np.concatenate([inherited, np.full(len(strays), inherited.max())])

    flat = _flat(np.stack(np.unravel_index(active, (side,) * 3), axis=1)[:, None] + _CORNERS, side)
    values = np.where(known.ravel()[flat], volume.ravel()[flat], np.nan).reshape(-1, 2, 2, 2)
    square = np.zeros(len(active))
    for axis in (1, 2, 3):
        rise = np.abs(np.diff(values, axis=axis)).reshape(len(active), 4)
        square += np.where(np.isnan(rise), 0.0, rise).max(axis=1) ** 2
    around = np.zeros(side**3, dtype=np.float32)
    around[active] = np.sqrt(square)
    around = scipy.ndimage.maximum_filter(around.reshape((side,) * 3), 3).ravel()[active]
    kept = np.where(known.ravel()[flat].all(axis=1), KEPT, 1.0)
    return active, np.maximum(kept * inherited, around)
