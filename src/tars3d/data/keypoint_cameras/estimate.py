"""Cameras where there are none: `tars3d data cameras` estimates them from the keypoints of a collection and writes them into it.

The mathematics is in `geometry.structure_from_motion` and `geometry.deformable`. Here: which points are pairs and which directions are right,
front and up, by their names; what is left out to measure the fit honestly; units. `data.keypoint_cameras.placement` then moves cameras by the masks.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from tars3d.arguments import Placement, check_seed
from tars3d.data.collection import read_index, read_splits
from tars3d.data.image_record import ImageRecord
from tars3d.data.importers.common import DEPTH
from tars3d.data.keypoint_cameras.sheet import draw_sheet
from tars3d.data.keypoint_cameras.sightings import FEWEST, SHOWN, Sightings, read_sightings, write_cameras
from tars3d.errors import UserError
from tars3d.geometry.camera import pinhole
from tars3d.geometry.deformable import DeformableStructure, deform
from tars3d.geometry.rasterize import project
from tars3d.geometry.structure_from_motion import solve
from tars3d.geometry.tracks import Axes, Tracks

LEFT_OUT = 0.15
"""Share of each picture's points that is left out of the fit that measures the error."""
WORST = 0.15
"""A picture whose points are off by more than this share of the box side (median) is rejected."""
SETTLED_FROM = 30
"""Pictures that a category's hull takes to be worth moving cameras to."""
STRETCH = 2.0
"""An object is at most so many times as long or as short as the mean shape: more is a fit gone wrong."""

BACK, FRONT = ("tail", "back", "rear"), ("bill", "beak", "nose", "head", "front")
LOW, HIGH = ("foot", "feet", "leg", "wheel", "belly"), ("crown", "back", "roof", "top", "head")


@dataclass(frozen=True)
class CameraReport:
    """What was estimated and how well it fits; errors in shares of the box side."""

    images: int
    rejected: tuple[str, ...]
    median_reprojection_error: float
    """Of keypoints that were left out of the fit."""
    median_fit_error: float
    per_keypoint: dict[str, float]
    """Median error of each keypoint where it was left out."""
    mask_iou: tuple[float, float] | None
    """Of the masks and the category's hull, before and after cameras were moved to agree with it; None where they were not."""
    sheet: Path | None


@dataclass(frozen=True)
class Estimate:
    """Cameras of all pictures, and each object's keypoints in its own frame."""

    records: list[ImageRecord]
    shapes: Float[np.ndarray, "images keypoints 3"]

    def errors(self, seen: Sightings) -> Float[np.ndarray, "images keypoints"]:
        """Distances of reprojected keypoints to the given ones, in shares of the box side."""
        landed = [
            project(shape, record.intrinsics, record.extrinsics, False)[0]
            for record, shape in zip(self.records, self.shapes, strict=True)
        ]
        return np.linalg.norm(np.stack(landed) - seen.pixels, axis=-1) / seen.side[:, None]


def estimate_cameras(
    root: str | Path,
    *,
    front: str | None = None,
    up: str | None = None,
    right: str | None = None,
    placement: Placement = "masks",
    replace_cameras: bool = False,
    sheet: str | Path | None = None,
    seed: int = 0,
) -> CameraReport:
    """Estimate weak-perspective cameras from keypoints, and write them into the collection's cameras.json.

    Args:
        root: a collection whose entries have keypoints and no cameras yet.
        front, up, right: directions as "FROM:TO", each one or several names of keypoints with commas between; None guesses from
            the names, and takes right from pairs that differ in "left" and "right" alone.
        placement: what tells size, roll and middle in the picture in the end. Masks need symmetric keypoints and some pictures.
        replace_cameras: overwrite cameras that are there.
        sheet: where to draw pictures with axes and reprojected points.
        seed: of the points left out and of the starts.

    Raises:
        UserError: too few keypoints, names that say nothing, cameras that are there already, a file or the seed that is wrong.
    """
    check_seed(seed)
    root = Path(root)
    index, splits = read_index(root), read_splits(root)
    seen, few = read_sightings(root, index, replace_cameras)
    pairs = find_pairs(seen.names)
    axes = _axes(root / "cameras.json", seen.names, pairs, front, up, right)
    points = (seen.pixels - seen.middle[:, None]) / seen.side[:, None, None]
    # annotators mark a hidden wingtip or foot where they know it is; points without that have no place
    tracks = Tracks(points, seen.visible, seen.visible == 0, np.array(pairs, dtype=np.int64).reshape(-1, 2))

    tested = replace(tracks, weight=seen.visible * _kept(seen.visible, seed))
    out = (seen.visible > 0) & (tested.weight == 0)
    by_masks = placement == "masks" and bool(pairs) and len(seen.entries) >= SETTLED_FROM
    error = _estimated(root, seen, tested, axes, seed, by_masks=by_masks)[0].errors(seen)
    found, mask_iou = _estimated(root, seen, tracks, axes, seed, by_masks=by_masks)
    fit = found.errors(seen)
    each = np.array([np.median(e[v > 0]) for e, v in zip(fit, seen.visible, strict=True)])
    good = each <= WORST

    bad = [record.name for record, ok in zip(found.records, good, strict=True) if not ok]
    accepted = [record for record, ok in zip(found.records, good, strict=True) if ok]
    write_cameras(root, index, splits, accepted, [*few, *bad])
    drawn = None
    if sheet is not None:
        keypoints = [entry["keypoints"] for entry in seen.entries.values()]
        drawn = draw_sheet(Path(sheet), found.records, keypoints, found.shapes, each, WORST)
    by_name = {name: float(np.median(error[:, k][out[:, k]])) for k, name in enumerate(seen.names) if out[:, k].any()}
    return CameraReport(
        int(good.sum()), (*few, *bad), float(np.median(error[out])), float(np.median(fit[seen.visible > 0])), by_name, mask_iou, drawn
    )  # fmt: skip


def _estimated(
    root: Path, seen: Sightings, tracks: Tracks, axes: Axes, seed: int, *, by_masks: bool
) -> tuple[Estimate, tuple[float, float] | None]:
    """Cameras from keypoints, then moved to agree with masks; and the IoU of these with the category before and after."""
    found = _solve(root, tracks, axes, seed)
    origins, units = _boxes(seen, found)
    shapes = (found.shapes - origins[:, None]) / units[:, None, None]
    records = _records(seen, found, origins, units)
    if not by_masks:
        return Estimate(records, shapes), None
    from tars3d.data.keypoint_cameras.placement import settled

    moved, before, after = settled(records)
    carried = [_carried(shape, record, there) for shape, record, there in zip(shapes, records, moved, strict=True)]
    return Estimate(moved, np.stack(carried)), (before, after)


def _carried(
    shape: Float[np.ndarray, "keypoints 3"], record: ImageRecord, moved: ImageRecord
) -> Float[np.ndarray, "keypoints 3"]:
    """An object's keypoints in the frame that a moved camera gives it: where they were in the picture, their depth grown with the rest."""
    pixels, depth = project(shape, record.intrinsics, record.extrinsics, False)
    grown = record.intrinsics[0, 0] / moved.intrinsics[0, 0]
    plane = (pixels - moved.intrinsics[:2, 2]) / moved.intrinsics[0, 0]
    seen = np.c_[plane, grown * (depth - record.extrinsics[2, 3])]
    return seen @ moved.extrinsics[:, :3]


def find_pairs(names: Sequence[str]) -> list[tuple[int, int]]:
    """Indices of (left, right) keypoints whose names differ in that word alone: "left eye", "left_eye", "LeftEye", "eye-left"."""
    spaced = [re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower() for name in names]
    pairs = []
    for index, name in enumerate(spaced):
        other = re.sub(r"(?<![^\W\d_])left(?![^\W\d_])", "right", name)  # no letter on either side
        if other != name:
            pairs += [(index, k) for k, candidate in enumerate(spaced) if candidate == other]
    return pairs


def _axes(
    file: Path, names: Sequence[str], pairs: list[tuple[int, int]], front: str | None, up: str | None, right: str | None
) -> Axes:
    def named(option: str, text: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
        halves = [[word.strip() for word in half.split(",") if word.strip()] for half in text.split(":")]
        if len(halves) != 2 or not all(halves):
            raise UserError(f'--{option} {text}: is not "FROM:TO"; give names of keypoints, commas between several')
        for word in halves[0] + halves[1]:
            if word not in names:
                raise UserError(f"--{option} {text}: there is no keypoint '{word}'; choose from {', '.join(names)}")
        return tuple(names.index(w) for w in halves[0]), tuple(names.index(w) for w in halves[1])

    def guessed(option: str, low: Sequence[str], high: Sequence[str]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        ends = []
        for words in (low, high):
            hits = ([k for k, name in enumerate(names) if word in name.lower()] for word in words)
            ends.append(tuple(next((found for found in hits if found), ())))
        if not all(ends) or set(ends[0]) & set(ends[1]):
            raise UserError(f'{file}: the keypoints\' names do not tell the {option}; give --{option} "FROM:TO"')
        return ends[0], ends[1]

    if right is None and not pairs:
        raise UserError(f'{file}: no keypoints are called left and right; give --right "FROM:TO"')
    return Axes(
        right=named("right", right) if right else (tuple(p[0] for p in pairs), tuple(p[1] for p in pairs)),
        front=named("front", front) if front else guessed("front", BACK, FRONT),
        up=named("up", up) if up else guessed("up", LOW, HIGH),
    )


def _kept(visible: np.ndarray, seed: int) -> np.ndarray:
    """1 for points that are fitted, 0 for those left out: at least one a picture, as long as FEWEST remain."""
    rng = np.random.default_rng([seed, 0x1E47])
    kept = np.ones_like(visible)
    for row, seen in enumerate(visible):
        known = np.flatnonzero(seen)
        count = min(max(1, round(LEFT_OUT * len(known))), len(known) - FEWEST + 1)
        kept[row, rng.choice(known, count, replace=False)] = 0
    return kept


def _solve(root: Path, tracks: Tracks, axes: Axes, seed: int) -> DeformableStructure:
    try:
        return deform(solve(tracks, axes, seed=seed), tracks, axes, seed=seed)
    except (ValueError, np.linalg.LinAlgError) as error:
        raise UserError(
            f"{root}/cameras.json: the keypoints do not make one shape ({error}); check their names, left and right"
        ) from error


def _boxes(
    seen: Sightings, found: DeformableStructure
) -> tuple[Float[np.ndarray, "images 3"], Float[np.ndarray, " images"]]:
    """Middle and longest side of each object, in shape units: they become the origin and 1.

    Along an axis that the picture shows nearly at full length the mask tells them, as it will to the encoder; along others the
    object's keypoints do.
    """
    low, high = found.shapes.min(axis=1), found.shapes.max(axis=1)
    usual = float(np.ptp(found.shape, axis=0).max())
    for row, (rotation, scale, shift) in enumerate(zip(*found.cameras, strict=True)):
        for axis in (1, 2):
            direction = rotation[:2, axis]
            length = float(np.linalg.norm(direction))
            if length >= SHOWN:
                along = (seen.outlines[row] - shift) @ direction / (length**2 * scale)
                low[row, axis], high[row, axis] = along.min(), along.max()
    longest = (high - low).max(axis=1).clip(usual / STRETCH, usual * STRETCH)
    return (low + high) / 2 * [0.0, 1.0, 1.0], longest


def _records(
    seen: Sightings,
    found: DeformableStructure,
    origins: Float[np.ndarray, "images 3"],
    units: Float[np.ndarray, " images"],
) -> list[ImageRecord]:
    """Records with cameras: each object's box centred, and its longest side 1."""
    records = []
    for row, (name, entry, origin, unit) in enumerate(
        zip(seen.entries, seen.entries.values(), origins, units, strict=True)
    ):
        side, rotation = seen.side[row], Rotation.from_matrix(found.rotations[row]).as_matrix()  # rounding undone
        scale = side * found.scales[row] * unit
        centre = side * (found.scales[row] * (rotation @ origin)[:2] + found.translations[row]) + seen.middle[row]
        file, mask = seen.pictures[row]
        intrinsics = pinhole(scale, centre)
        records.append(
            ImageRecord(name, file, mask, str(entry.get("instance", name)), "orthographic", intrinsics, np.c_[rotation, [0, 0, DEPTH]])
        )  # fmt: skip
    return records
