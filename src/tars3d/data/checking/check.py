"""Looks at every picture of a collection before a model trains on it for hours, and says in words what is wrong.

Called by `tars3d data check`. Masks are judged by the edges in their pictures (`data.checking.mask_edges`); cameras by where the ground truth
lands (`data.checking.truth_fit`), and without it by keypoints (`data.checking.keypoint_fit`) and by silhouettes of one object from several sides
(`data.checking.silhouette_faults`). Each names the usual mistake that fits (`data.checking.camera_mistakes`). Once masks or ground truth have been
found at fault, what could follow from that is not said as well.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tars3d.data.checking.coherence import PosedOutline, choose
from tars3d.data.checking.fault import Fault, listed
from tars3d.data.checking.keypoint_fit import ON_THE_MASK, Marked, camera_faults, keypoint_mistake
from tars3d.data.checking.mask_edges import mask_faults
from tars3d.data.checking.sheet import write_sheet
from tars3d.data.checking.silhouette_faults import faults
from tars3d.data.checking.truth_fit import CLEAR_FIT, Sighting, likely_mistake, view_of
from tars3d.data.collection import SIDES, ImageCollection, load_collection
from tars3d.data.framing import edge_pixels, share_inside
from tars3d.data.image_record import ImageRecord
from tars3d.data.pictures import read_picture
from tars3d.errors import UserError
from tars3d.progress import tracked

POINTS = 1000
TIPS = 200
SINGLES = 200  # pictures, one an object, by which the scale is judged
SHOWN_ERRORS = 10
CROP_SHOWS = 0.5
"""Share of an object that the crop of its picture must show."""
SERIOUS = 0.1
"""Share of the pictures from which on a fault is a problem, not a warning."""
LONGEST = "the longest side is"
"""Begins what is said of the size of ground truth."""


@dataclass(frozen=True)
class CheckReport:
    """What the check found."""

    problems: list[str]
    """Training on the collection would fail or learn nonsense. Empty: the collection is good. Of many pictures that cannot be used the
    first ten are named."""
    warnings: list[str]
    """Worth a look."""
    images: int
    instances: int
    median_inside: float | None = None
    """Share of the ground truth's points that fall inside the mask, median over pictures; None: nothing to
    project.
    """
    sheet: Path | None = None
    """The overlay sheet, where one was asked for and could be written."""
    notes: list[str] = field(default_factory=list)
    """What could not be checked."""
    unnamed: int = 0
    """Pictures that cannot be used, besides those named among the problems, where one line counts them."""

    @property
    def count(self) -> int:
        """How many problems there are."""
        return len(self.problems) + max(0, self.unnamed - 1)

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
    marked: Marked | None = None
    outline: PosedOutline | None = None
    sighting: Sighting | None = None


def check_collection(root: str | Path, *, sheet: str | Path | None = None, progress: bool = True) -> CheckReport:
    """Open every picture and mask, project the ground truth, and collect everything that is wrong.

    Args:
        root: folder of the collection.
        sheet: where to write the overlay sheet (PNG): pictures with the mask's outline in magenta and the
            ground truth's points coloured by depth, near ones yellow and far ones blue; the worst pictures
            first. That it cannot be written is one of the warnings.
        progress: show a progress bar.

    What is wrong with the collection is returned, not raised.
    """
    try:
        collection = load_collection(root, check_poses=False)
    except UserError as error:
        return CheckReport([str(error)], [], 0, 0)

    problems, warnings = [], []
    clouds: dict[str, np.ndarray | None] = {}
    for instance in collection.instances:
        clouds[instance] = _cloud(collection, instance, problems)
    problems += _of_sizes(collection, clouds)
    if not collection.splits["train"]:
        problems.append(f"{collection.root}/splits.json: 'train' is empty; name the objects to learn from")
    warnings += _of_splits(collection)
    lacking = [instance for instance, cloud in clouds.items() if cloud is None]
    outlined = _outlined(collection, set(lacking))
    pictures = tracked(enumerate(collection.images), "checking pictures", progress)
    findings = [_look(record, clouds[record.instance], k in outlined) for k, record in pictures]

    unreadable = [f.error for f in findings if f.error is not None]
    unnamed = max(0, len(unreadable) - SHOWN_ERRORS)
    more = [f"... and {unnamed} more"] if unnamed else []
    problems = [*unreadable[:SHOWN_ERRORS], *more, *problems]
    wrong_masks = list(mask_faults(collection.images))
    said = [*wrong_masks, *_in_words(findings)]
    if not any(serious for _, serious in wrong_masks):
        said += _of_cameras(findings, scale_told=any(LONGEST in words for words in problems))
    for words, serious in said:
        (problems if serious else warnings).append(words)
    written = None
    if sheet is not None:
        looked_at = [(f.record, f.sighting) for f in findings if f.error is None]
        try:
            written = write_sheet(Path(sheet), looked_at, clouds)
        except UserError as error:
            warnings.append(str(error))
    shares = [f.sighting.inside for f in findings if f.sighting is not None]
    inside = float(np.median(shares)) if shares else None
    notes = _unchecked(findings, len(lacking), len(clouds)) if lacking else []
    return CheckReport(problems, warnings, len(findings), len(clouds), inside, written, notes, unnamed)


def _outlined(collection: ImageCollection, lacking: set[str]) -> set[int]:
    """Indices of the pictures whose silhouettes are kept: of objects without ground truth."""
    indices = [k for k, record in enumerate(collection.images) if record.instance in lacking]
    several = {indices[k] for k in choose([collection.images[k].instance for k in indices])}
    first = list({collection.images[k].instance: k for k in reversed(indices)}.values())
    return several | {first[k] for k in np.linspace(0, len(first) - 1, SINGLES).astype(int)} if first else several


def _look(record: ImageRecord, cloud: np.ndarray | None, outlined: bool) -> _Finding:
    try:
        picture = read_picture(record.file, record.mask)
    except UserError as error:
        return _Finding(record, error=str(error))
    mask = picture.mask
    if record.crop is not None and (share := share_inside(mask, record.crop)) < CROP_SHOWS:
        words = f"its 'crop' shows {share:.0%} of the object; is it another picture's? Mend it, or leave it out"
        return _Finding(record, error=f"{record.file}: {words}")
    return _Finding(
        record,
        guessed=picture.guessed,
        cut=any(edge_pixels(mask).values()),
        marked=Marked.of(record, mask),
        outline=PosedOutline.of(record.name, view_of(record, mask), mask) if outlined else None,
        sighting=None if cloud is None else Sighting.of(record, mask, cloud),
    )


def _among(chosen: Sequence[_Finding], count: int) -> str:
    return f"{len(chosen)} of {count} pictures ({listed([f.record.name for f in chosen])})"


def _in_words(findings: list[_Finding]) -> Iterator[Fault]:
    """What is to be said whatever the cameras are."""
    total = len(findings)
    if guessed := [f for f in findings if f.guessed]:
        words = f"neither mask nor alpha channel in {_among(guessed, total)}"
        yield Fault(f"{words}: masks were found from the plain background, look at the overlay sheet", serious=False)
    if cut := [f for f in findings if f.cut]:
        yield Fault(f"the object touches the border in {_among(cut, total)}: is it cut off?", serious=False)


def _of_cameras(findings: list[_Finding], scale_told: bool) -> Iterator[Fault]:
    """What is wrong with cameras. A few bad pictures are bad annotations; more than a tenth are a wrong convention, which no training survives."""
    total = len(findings)
    if away := [f for f in findings if f.record.pose_looks_away]:
        yield Fault(
            f"{len(away)} of {total} cameras look away from the object, {away[0].record.name} for one: "
            "is z flipped? Extrinsics are world-to-camera, x right, y down, z forward",
            serious=True,
        )
    seen = [f.sighting for f in findings if f.sighting is not None]
    off = [f for f in findings if f.sighting is not None and f.sighting.fit < CLEAR_FIT]
    mistake = likely_mistake([f.sighting for f in off if f.sighting is not None]) if off else None
    if off and not scale_told:
        cure = mistake or "look at the overlay sheet; are cameras and pictures in the same order?"
        words = f"ground truth falls outside the mask, or covers little of it, in {_among(off, len(seen))}"
        yield Fault(f"{words}: {cure}", serious=len(off) > SERIOUS * len(seen))
    if len(off) > SERIOUS * len(seen):
        return
    marked = [f for f in findings if f.marked is not None]
    if stray := [f for f in marked if f.marked is not None and f.marked.on_the_mask() < ON_THE_MASK]:
        cure = keypoint_mistake([f.marked for f in stray if f.marked is not None]) or "are they of these pictures?"
        yield Fault(
            f"keypoints lie off the mask in {_among(stray, total)}: {cure}", serious=len(stray) > SERIOUS * total
        )
    if len(stray) > SERIOUS * total:
        return
    against = list(camera_faults([f.marked for f in marked if f.marked is not None and f.sighting is None]))
    yield from against or _of_silhouettes(findings)


def _of_silhouettes(findings: list[_Finding]) -> Iterator[Fault]:
    of: dict[str, list[PosedOutline]] = {}
    for f in findings:
        if f.outline is not None:
            of.setdefault(f.record.instance, []).append(f.outline)
    if of:
        yield from faults([outlines[0] for outlines in of.values()], [o for o in of.values() if len(o) >= 3])


def _unchecked(findings: list[_Finding], lacking: int, objects: int) -> list[str]:
    """What nothing here can tell of objects without ground truth."""
    bare = [f for f in findings if f.sighting is None]
    counts: dict[str, int] = {}
    for f in bare:
        counts[f.record.instance] = counts.get(f.record.instance, 0) + 1
    if any(f.marked is not None for f in bare):
        how = "their cameras were checked against their keypoints"
    elif max(counts.values(), default=0) >= 3:
        how = (
            "their cameras were checked by silhouettes of one object from several sides, which cannot tell up and front"
        )
    else:
        how = "one or two pictures of an object and no keypoints: only the scale of their cameras could be checked"
    then = "`evaluate` can only compare silhouettes" if lacking == objects else "they cannot be evaluated"
    return [f"{lacking} of {objects} objects have no usable ground truth; {how}, and {then}"]


def _of_splits(collection: ImageCollection) -> Iterator[str]:
    """What is left out of training and evaluation, maybe unawares."""
    file, splits = collection.root / "splits.json", collection.splits
    if others := [name for name in splits if name not in SIDES]:
        yield f"{file}: has the split {others[0]!r}; training reads train and val, `evaluate` test or the --split it is given"
    placed = {instance for members in splits.values() for instance in members}
    if homeless := [instance for instance in collection.instances if instance not in placed]:
        yield f"{file}: {len(homeless)} of {len(collection.instances)} objects are in no split, {homeless[0]} for one; nothing reads them"


def _of_sizes(collection: ImageCollection, clouds: dict[str, np.ndarray | None]) -> list[str]:
    sides = {name: float(np.ptp(cloud, axis=0).max()) for name, cloud in clouds.items() if cloud is not None}
    wrong = [name for name, side in sides.items() if not 0.5 < side < 2.0]
    if not wrong:
        return []
    which = f"{collection.root}/ground_truth: of {len(wrong)} of {len(sides)} objects, {wrong[0]} for one,"
    return [f"{which} {LONGEST} {sides[wrong[0]]:.3g}; scale objects and cameras so that it is 1"]


def _cloud(collection: ImageCollection, instance: str, damaged: list[str]) -> np.ndarray | None:
    if not collection.has_ground_truth(instance):
        return None
    try:
        points, _ = collection.ground_truth(instance)
    except UserError as error:
        damaged.append(str(error))
        return None
    rng = np.random.default_rng(0)
    drawn = rng.choice(len(points), min(POINTS, len(points)), replace=False)
    # Tips of wings and tails decide how large an object is seen to be; a random draw misses them.
    tips = (points @ rng.normal(size=(3, TIPS)).astype(points.dtype)).argmax(axis=0)
    return points[np.union1d(drawn, tips)]
