"""Looks at every picture of a collection before a model trains on it for hours, and says in words what is
wrong.

Called by `tars3d data check`. Cameras are judged by where the ground truth lands: inside the mask, and as
large as it. Where it does not, the usual mistakes of conventions are tried (`data.conventions`), and the one
that fits is named.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from rich.progress import track
from scipy import ndimage

from tars3d.atomic import atomic_path
from tars3d.data.collection import ImageCollection, ImageRecord, load_collection
from tars3d.data.conventions import CLEAR_FIT, Sighting, Vicinity, likely_mistake
from tars3d.data.pictures import Picture, read_picture
from tars3d.errors import UserError
from tars3d.geometry.rasterize import project
from tars3d.report import contact_sheet

POINTS = 1000
SHEET_PICTURES = 40
SHEET_COLUMNS = 5
SHEET_TILE = 240
SHOWN_NAMES = 3
SHOWN_ERRORS = 10
SERIOUS = 0.1
"""Share of the pictures from which on a fault is a problem, not a warning."""


@dataclass(frozen=True)
class CheckReport:
    """What the check found."""

    problems: list[str]
    """Training on the collection would fail or learn nonsense. Empty: the collection is good."""
    warnings: list[str]
    """Worth a look."""
    images: int
    instances: int
    median_inside: float | None = None
    """Share of the ground truth's points that fall inside the mask, median over pictures; None: nothing to
    project.
    """
    sheet: Path | None = None
    """The overlay sheet, where one was asked for."""

    @property
    def ok(self) -> bool:
        """Whether there are no problems."""
        return not self.problems


@dataclass(eq=False)
class _Finding:
    """What one picture showed."""

    record: ImageRecord
    error: str | None = None
    guessed: bool = False
    cut: bool = False
    stray: bool = False
    sighting: Sighting | None = None


def check_collection(root: str | Path, *, sheet: str | Path | None = None, progress: bool = True) -> CheckReport:
    """Open every picture and mask, project the ground truth, and collect everything that is wrong.

    Args:
        root: folder of the collection.
        sheet: where to write the overlay sheet (PNG): pictures with the mask's outline in magenta and the
            ground truth's points coloured by depth, near ones yellow and far ones blue; the worst pictures
            first.
        progress: show a progress bar.

    Raises:
        UserError: the sheet cannot be written. What is wrong with the collection is returned, not raised.
    """
    try:
        collection = load_collection(root, check_poses=False)
    except UserError as error:
        return CheckReport([str(error)], [], 0, 0)

    problems, warnings = [], []
    clouds: dict[str, np.ndarray | None] = {}
    for instance in collection.instances:
        clouds[instance] = _cloud(collection, instance, problems)
    pictures = track(collection.images, "checking pictures", disable=not progress, transient=True)
    findings = [_look(record, clouds[record.instance]) for record in pictures]

    unreadable = [f.error for f in findings if f.error is not None]
    more = [f"... and {len(unreadable) - SHOWN_ERRORS} more"] if len(unreadable) > SHOWN_ERRORS else []
    problems = [*unreadable[:SHOWN_ERRORS], *more, *problems]
    for words, serious in _in_words(findings):
        (problems if serious else warnings).append(words)
    lacking = sum(cloud is None for cloud in clouds.values())
    if lacking:
        warnings.append(
            f"{lacking} of {len(clouds)} instances have no usable ground truth: "
            "their cameras could not be checked, and they cannot be evaluated"
        )
    written = _write_sheet(Path(sheet), findings, clouds) if sheet is not None else None
    shares = [f.sighting.inside for f in findings if f.sighting is not None]
    inside = float(np.median(shares)) if shares else None
    return CheckReport(problems, warnings, len(findings), len(clouds), inside, written)


def _look(record: ImageRecord, cloud: np.ndarray | None) -> _Finding:
    try:
        picture = read_picture(record.file, record.mask)
    except UserError as error:
        return _Finding(record, error=str(error))
    mask = picture.mask
    return _Finding(
        record,
        guessed=any("found by itself" in note for note in picture.notes),
        cut=bool(mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any()),
        stray=_keypoints_off_the_mask(record, mask),
        sighting=None if cloud is None else Sighting.of(record, mask, cloud),
    )


def _in_words(findings: list[_Finding]) -> Iterator[tuple[str, bool]]:
    """What the findings say together, and whether it is a problem. A few bad pictures are bad annotations;
    more than a tenth are a wrong convention, which no training survives.
    """
    total = len(findings)

    def among(chosen: list[_Finding], count: int) -> str:
        names = ", ".join(f.record.name for f in chosen[:SHOWN_NAMES])
        return f"{len(chosen)} of {count} pictures ({names}{', ...' if len(chosen) > SHOWN_NAMES else ''})"

    if away := [f for f in findings if f.record.pose_looks_away]:
        yield (
            f"{len(away)} of {total} cameras look away from the object, {away[0].record.name} for one: "
            "is z flipped? Extrinsics are world-to-camera, x right, y down, z forward",
            True,
        )
    seen = [f for f in findings if f.sighting is not None]
    if off := [f for f in seen if f.sighting is not None and f.sighting.fit < CLEAR_FIT]:
        mistake = likely_mistake([f.sighting for f in off if f.sighting is not None])
        cure = mistake or "look at the overlay sheet; are cameras and pictures in the same order?"
        words = f"ground truth falls outside the mask, or covers little of it, in {among(off, len(seen))}"
        yield f"{words}: {cure}", len(off) > SERIOUS * len(seen)
    if stray := [f for f in findings if f.stray]:
        words = f"keypoints lie off the mask in {among(stray, total)}: are they in pixels, u before v?"
        yield words, len(stray) > SERIOUS * total
    if guessed := [f for f in findings if f.guessed]:
        words = f"neither mask nor alpha channel in {among(guessed, total)}"
        yield f"{words}: masks were found from the plain ground, look at the overlay sheet", False
    if cut := [f for f in findings if f.cut]:
        yield f"the object touches the border in {among(cut, total)}: is it cut off?", False


def _cloud(collection: ImageCollection, instance: str, damaged: list[str]) -> np.ndarray | None:
    if not collection.has_ground_truth(instance):
        return None
    try:
        points, _ = collection.ground_truth(instance)
    except UserError as error:
        damaged.append(str(error))
        return None
    side = float(np.ptp(points, axis=0).max())
    if not 0.5 < side < 2.0:
        damaged.append(
            f"{collection.root}/ground_truth/{instance}: the longest side is {side:.3g}; scale object and cameras so that it is 1"
        )
    rng = np.random.default_rng(0)
    return points[rng.choice(len(points), min(POINTS, len(points)), replace=False)]


def _keypoints_off_the_mask(record: ImageRecord, mask: np.ndarray) -> bool:
    visible = [(u, v) for u, v, seen in (record.keypoints or {}).values() if seen]
    if not visible:
        return False
    return bool(Vicinity.of(mask).holds(np.array(visible)).mean() < 0.7)


def _write_sheet(path: Path, findings: list[_Finding], clouds: dict[str, np.ndarray | None]) -> Path:
    if path.suffix.lower() != ".png":
        path = path.with_name(path.name + ".png")
    readable = [f for f in findings if f.error is None]
    chosen = sorted(readable, key=lambda f: 2.0 if f.sighting is None else f.sighting.fit)
    if len(chosen) > SHEET_PICTURES:
        # Half of the sheet shows the worst, the rest an even choice of the others: failures alone mislead.
        half = SHEET_PICTURES // 2
        even = np.linspace(half, len(chosen) - 1, SHEET_PICTURES - half).astype(int)
        chosen = chosen[:half] + [chosen[k] for k in even]
    tiles, captions = [], []
    for f in chosen:
        picture = read_picture(f.record.file, f.record.mask)
        tiles.append(overlay(picture, f.record, clouds[f.record.instance]))
        share = "" if f.sighting is None else f": {100 * f.sighting.inside:.0f}% inside"
        captions.append(f"{f.record.name}{share}")
    rows = range(0, len(tiles), SHEET_COLUMNS)
    sheet = contact_sheet(
        [tiles[k : k + SHEET_COLUMNS] for k in rows],
        [captions[k : k + SHEET_COLUMNS] for k in rows],
        tile=SHEET_TILE,
    )
    with atomic_path(path) as temporary:
        Image.fromarray(sheet).save(temporary)
    return path


def overlay(
    picture: Picture, record: ImageRecord, points: np.ndarray | None, size: int = SHEET_TILE
) -> UInt8[np.ndarray, "height width 3"]:
    """The picture, at most `size` pixels a side, with its mask's outline, projected points by depth, and
    keypoints.
    """
    height, width = picture.mask.shape
    scale = size / max(height, width)
    shape = (max(1, round(width * scale)), max(1, round(height * scale)))
    canvas = np.asarray(Image.fromarray(picture.rgb).resize(shape, Image.Resampling.BILINEAR)).copy()
    mask = np.asarray(Image.fromarray(picture.mask).resize(shape, Image.Resampling.NEAREST))
    if points is not None:
        pixels, depth = project(points, record.intrinsics, record.extrinsics, record.model == "perspective")
        order = np.argsort(-depth)  # near points are drawn over far ones
        share = (depth - depth.min()) / max(float(np.ptp(depth)), 1e-9)
        near, far = np.array([255.0, 214, 0]), np.array([30.0, 70, 255])
        colors = near + share[:, None] * (far - near)
        on_canvas = Vicinity(np.ones((1, 1), dtype=bool), size, *mask.shape).holds(pixels * scale)
        for k in order[on_canvas[order]]:
            u, v = np.floor(pixels[k] * scale).astype(int)
            canvas[v, u] = colors[k]
    edge = mask & ~np.asarray(ndimage.binary_erosion(mask, border_value=1), dtype=bool)
    canvas[edge] = [255, 0, 200]
    for u, v, seen in (record.keypoints or {}).values():
        if seen and np.isfinite([u, v]).all():
            x, y = int(u * scale), int(v * scale)
            canvas[max(y - 2, 0) : max(y + 3, 0), max(x - 2, 0) : max(x + 3, 0)] = [0, 200, 80]
    return canvas
