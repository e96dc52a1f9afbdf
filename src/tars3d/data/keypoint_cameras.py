"""Cameras where there are none: `tars3d data cameras` estimates them from the keypoints of a collection and writes them into it.

The mathematics is in `geometry.structure` and `geometry.deformable`. Here: which points are pairs and which directions are right,
front and up, by their names; what is left out to measure the fit honestly; units; the sheet to look at.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image, ImageDraw
from scipy.spatial import ConvexHull

from tars3d.atomic import atomic_path
from tars3d.data.collection import parse_roots, read_index, write_index
from tars3d.data.image_record import ImageRecord, existing_file, parse_keypoints
from tars3d.data.pictures import read_picture
from tars3d.errors import UserError
from tars3d.geometry.deformable import DeformableStructure, deform
from tars3d.geometry.rasterize import project
from tars3d.geometry.structure import Axes, Tracks, solve

DEPTH = 2.5
FEWEST = 5
"""Visible keypoints that a picture needs."""
LEFT_OUT = 0.15
"""Share of each picture's points that is left out of the fit that measures the error."""
WORST = 0.15
"""A picture whose points are off by more than this share of the box side (median) is rejected."""
SHOWN = 0.8
"""Length in the picture, as a share of the true one, from which on an axis is measured there."""
STRETCH = 2.0
"""An object is at most so many times as long or as short as the mean shape: more is a fit gone wrong."""

BACK, FRONT = ("tail", "back", "rear"), ("bill", "beak", "nose", "head", "front")
LOW, HIGH = ("foot", "feet", "leg", "wheel", "belly"), ("crown", "back", "roof", "top", "head")


@dataclass(frozen=True, eq=False)
class Sightings:
    """What a collection knows before it has cameras."""

    entries: dict[str, dict[str, Any]]
    pictures: tuple[tuple[Path, Path | None], ...]
    names: tuple[str, ...]
    """Of the keypoints."""
    pixels: Float[np.ndarray, "images keypoints 2"]
    visible: Float[np.ndarray, "images keypoints"]
    middle: Float[np.ndarray, "images 2"]
    """Of the mask's bounding box, pixels."""
    side: Float[np.ndarray, " images"]
    """Its longer side."""
    outlines: tuple[Float[np.ndarray, "_ 2"], ...]
    """Corners of each mask's convex hull, in box sides from the middle of the box."""


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
    sheet: Path | None


def estimate_cameras(
    root: str | Path,
    *,
    front: str | None = None,
    up: str | None = None,
    right: str | None = None,
    replace_cameras: bool = False,
    sheet: str | Path | None = None,
    seed: int = 0,
) -> CameraReport:
    """Estimate weak-perspective cameras from keypoints, and write them into the collection's cameras.json.

    Args:
        root: a collection whose entries have keypoints and no cameras yet.
        front, up, right: directions as "FROM:TO", each one or several names of keypoints with commas between; None guesses from
            the names, and takes right from pairs that differ in "left" and "right" alone.
        replace_cameras: overwrite cameras that are there.
        sheet: where to draw pictures with axes and reprojected points.
        seed: of the points left out and of the starts.

    Raises:
        UserError: too few keypoints, names that say nothing, cameras that are there already, a file that is wrong.
    """
    root = Path(root)
    index = read_index(root)
    seen, few = _read(root, index, replace_cameras)
    pairs = find_pairs(seen.names)
    axes = _axes(root / "cameras.json", seen.names, pairs, front, up, right)
    points = (seen.pixels - seen.middle[:, None]) / seen.side[:, None, None]
    # annotators mark a hidden wingtip or foot where they know it is; points without that have no place
    tracks = Tracks(points, seen.visible, seen.visible == 0, np.array(pairs, dtype=np.int64).reshape(-1, 2))

    tested = replace(tracks, weight=seen.visible * _kept(seen.visible, seed))
    out = (seen.visible > 0) & (tested.weight == 0)
    error = _errors(_solve(root, tested, axes, seed), tracks)
    found = _solve(root, tracks, axes, seed)
    fit = _errors(found, tracks)
    each = np.array([np.median(e[v > 0]) for e, v in zip(fit, seen.visible, strict=True)])
    good = each <= WORST

    records = _records(seen, found)
    bad = [record.name for record, ok in zip(records, good, strict=True) if not ok]
    _write(root, index, [record for record, ok in zip(records, good, strict=True) if ok], [*few, *bad])
    drawn = _draw(Path(sheet), records, each, found, seen) if sheet is not None else None
    by_name = {name: float(np.median(error[:, k][out[:, k]])) for k, name in enumerate(seen.names) if out[:, k].any()}
    return CameraReport(
        int(good.sum()), (*few, *bad), float(np.median(error[out])), float(np.median(fit[seen.visible > 0])), by_name, drawn
    )  # fmt: skip


def find_pairs(names: Sequence[str]) -> list[tuple[int, int]]:
    """Indices of (left, right) keypoints whose names differ in that word alone."""
    pairs = []
    for index, name in enumerate(names):
        if re.search(r"\bleft\b", name, flags=re.IGNORECASE):
            other = re.sub(r"\bleft\b", "right", name.lower())
            pairs += [(index, k) for k, candidate in enumerate(names) if candidate.lower() == other]
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


def _read(root: Path, index: dict[str, Any], replace_cameras: bool) -> tuple[Sightings, list[str]]:
    """The pictures with enough keypoints, and the names of the others."""
    file = root / "cameras.json"
    roots = parse_roots(file, index)
    entries = {**index["images"], **index.get("rejected", {})}
    if not replace_cameras and (there := [name for name, entry in entries.items() if "camera" in entry]):
        raise UserError(f"{file}: image {there[0]} has a camera already; overwrite all cameras with --replace-cameras")
    keypoints = {}
    for name, entry in entries.items():
        found = parse_keypoints(f"{file}: image {name}", entry.get("keypoints")) if isinstance(entry, dict) else None
        if not found:
            raise UserError(
                f"{file}: image {name} has no keypoints to find a camera from; add them or remove the entry"
            )
        keypoints[name] = found
    names = tuple(dict.fromkeys(key for found in keypoints.values() for key in found))
    chosen = [name for name, found in keypoints.items() if sum(seen for *_, seen in found.values()) >= FEWEST]
    if len(chosen) < 8:
        raise UserError(f"{file}: only {len(chosen)} pictures have {FEWEST} visible keypoints; cameras need 8 or more")
    pixels, visible = np.zeros((len(chosen), len(names), 2)), np.zeros((len(chosen), len(names)))
    middles, sides, pictures, outlines = [], [], [], []
    for row, name in enumerate(chosen):
        for key, (u, v, seen) in keypoints[name].items():
            pixels[row, names.index(key)], visible[row, names.index(key)] = (u, v), float(seen)
        entry, where = entries[name], f"{file}: image {name}"
        picture_file = existing_file(root, where, "file", entry.get("file"), roots)
        mask_file = existing_file(root, where, "mask", entry["mask"], roots) if entry.get("mask") else None
        mask = read_picture(picture_file, mask_file).mask
        columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
        low, high = np.array([columns[0], rows[0]]), np.array([columns[-1] + 1, rows[-1] + 1])
        middles.append((low + high) / 2)
        sides.append(float((high - low).max()))
        pictures.append((picture_file, mask_file))
        outlines.append((_corners(mask) - middles[-1]) / sides[-1])
    kept = {name: entries[name] for name in chosen}
    found = Sightings(
        kept, tuple(pictures), names, pixels, visible, np.array(middles), np.array(sides), tuple(outlines)
    )
    return found, [name for name in entries if name not in kept]


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


def _errors(found: DeformableStructure, tracks: Tracks) -> Float[np.ndarray, "images keypoints"]:
    return np.linalg.norm(found.project() - tracks.points, axis=-1)


def _corners(mask: Bool[np.ndarray, "height width"]) -> Float[np.ndarray, "corners 2"]:
    """Corners of the convex hull of a mask's pixels."""
    rows = np.flatnonzero(mask.any(axis=1))
    left, right = mask[rows].argmax(axis=1), mask.shape[1] - mask[rows, ::-1].argmax(axis=1)
    ends = np.concatenate([np.c_[x, y] for x in (left, right) for y in (rows, rows + 1)]).astype(float)
    return ends[ConvexHull(ends).vertices]


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


def _records(seen: Sightings, found: DeformableStructure) -> list[ImageRecord]:
    """Records with cameras: each object's box centred, and its longest side 1."""
    records = []
    for row, (name, entry, origin, unit) in enumerate(
        zip(seen.entries, seen.entries.values(), *_boxes(seen, found), strict=True)
    ):
        side, rotation = seen.side[row], found.rotations[row]
        left, _, right = np.linalg.svd(rotation)
        rotation = left @ right
        scale = side * found.scales[row] * unit
        centre = side * (found.scales[row] * (rotation @ origin)[:2] + found.translations[row]) + seen.middle[row]
        file, mask = seen.pictures[row]
        intrinsics = np.array([[scale, 0, centre[0]], [0, scale, centre[1]], [0, 0, 1]])
        records.append(
            ImageRecord(name, file, mask, str(entry.get("instance", name)), "orthographic", intrinsics, np.c_[rotation, [0, 0, DEPTH]])
        )  # fmt: skip
    return records


def _write(root: Path, index: dict[str, Any], records: list[ImageRecord], rejected: list[str]) -> None:
    """Cameras into the entries; rejected pictures aside under "rejected", out of the way of training and of the splits."""
    entries = {**index["images"], **index.get("rejected", {})}
    images = {}
    for record in records:
        camera = ImageRecord.to_json(replace(record, file=root / "x", mask=None), root)["camera"]
        images[record.name] = {"instance": record.instance, **entries[record.name], "camera": camera}
    if not images:
        raise UserError(f"{root}/cameras.json: no picture fits the mean shape; check the keypoints' names and order")
    splits = None
    file = root / "splits.json"
    if file.is_file() and rejected:
        there = {entry["instance"] for entry in images.values()}
        splits = {
            k: [n for n in names if n in there] for k, names in json.loads(file.read_text(encoding="utf-8")).items()
        }
    aside = {name: {key: value for key, value in entries[name].items() if key != "camera"} for name in rejected}
    write_index(
        root, str(index.get("category", "object")), images, splits, parse_roots(root / "cameras.json", index), aside
    )


def axes_overlay(
    record: ImageRecord, keypoints: dict[str, Any], shape: Float[np.ndarray, "keypoints 3"], size: int = 200
) -> UInt8[np.ndarray, "height width 3"]:
    """The masked picture with the object's axes (red to its right, green up, blue to the front), its keypoints as rings and
    the fitted shape's as dots."""
    picture = read_picture(record.file, record.mask)
    height, width = picture.mask.shape
    scale = size / max(height, width)
    ground = np.where(picture.mask[..., None], picture.rgb // 2 + 110, 255).clip(0, 255).astype(np.uint8)
    image = Image.fromarray(ground).resize((round(width * scale), round(height * scale)), Image.Resampling.BILINEAR)
    draw = ImageDraw.Draw(image)

    def at(points: np.ndarray) -> list[tuple[float, float]]:
        pixels = project(points, record.intrinsics, record.extrinsics, record.model == "perspective")[0] * scale
        return [(float(u), float(v)) for u, v in pixels]

    for u, v, visible in keypoints.values():
        if visible:
            draw.ellipse([u * scale - 3, v * scale - 3, u * scale + 3, v * scale + 3], outline=(120, 60, 160))
    for u, v in at(shape):
        draw.ellipse([u - 1.5, v - 1.5, u + 1.5, v + 1.5], fill=(235, 150, 0))
    origin, *tips = at(np.array([[0, 0, 0], [0.45, 0, 0], [0, 0.45, 0], [0, 0, -0.45]]))
    for tip, color in zip(tips, [(220, 30, 30), (20, 150, 40), (30, 70, 255)], strict=True):
        draw.line([origin, tip], fill=color, width=3)
    return np.asarray(image)


def _draw(
    path: Path, records: list[ImageRecord], errors: np.ndarray, found: DeformableStructure, seen: Sightings
) -> Path:
    """Pictures from the best to the worst fit, evenly chosen, rejected ones included."""
    from tars3d.report import contact_sheet

    origins, units = _boxes(seen, found)
    shapes = (found.shapes - origins[:, None]) / units[:, None, None]
    order = np.argsort(errors)
    chosen = order[np.linspace(0, len(order) - 1, min(40, len(order))).round().astype(int)]
    tiles = [axes_overlay(records[k], seen.entries[records[k].name]["keypoints"], shapes[k]) for k in chosen]
    words = [f"{records[k].name}: {100 * errors[k]:.1f}%{' rejected' if errors[k] > WORST else ''}" for k in chosen]
    rows = range(0, len(tiles), 8)
    sheet = contact_sheet([tiles[k : k + 8] for k in rows], [words[k : k + 8] for k in rows], tile=150)
    with atomic_path(path) as temporary:
        Image.fromarray(sheet).quantize(128).save(temporary, format="PNG", optimize=True)
    return path
