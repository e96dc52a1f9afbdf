"""What masks and cameras say by themselves, where there is no ground truth: do views of one object agree, and how large is it?

Called by `data.checking.check`. Silhouettes alone cannot tell which way is front, nor the scale from the distance: what follows is all they say.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from tars3d.data.checking.camera_mistakes import CAMERA_MISTAKES, in_words
from tars3d.data.checking.coherence import PosedOutline, coherence, coherence_of, meeting_point
from tars3d.data.checking.fault import Fault, listed

NAMED = 0.95
"""Coherence that a correction must reach to be named. Rendered collections have 1.00, with wrong conventions 0.93 at most."""
COHERENT = 0.85
"""Below, views of one object contradict each other, whatever the cause: masks of photos are never perfect."""
USUAL = 1.05
"""Median longer side of silhouettes whose objects are 1 long: 0.96 to 1.14 in the rendered chairs, cars and airplanes."""
LARGEST, SMALLEST = 1.7, 0.4
"""Beyond these the scale is wrong: the field is searched for in a cube a little larger than 1."""
OFF_CENTRE = 0.4
"""Distance of objects' middles from the origin, as a share of their size, from which on they leave that cube."""


def faults(singles: Sequence[PosedOutline], objects: Sequence[Sequence[PosedOutline]]) -> Iterator[Fault]:
    """What is wrong with cameras or masks.

    Args:
        singles: pictures from all over the collection, one an object.
        objects: several pictures each of a few objects; maybe none.
    """
    if not objects:
        yield from _wrong_scale([o.extent() for o in singles], singles, "the focal lengths or the translations")
        yield from _beside_the_origin(singles)
        yield from _not_upright(singles)
        return
    each = [coherence(outlines) for outlines in objects]
    as_is = float(np.median([scores.mean() for scores in each]))
    if as_is < NAMED:
        tried = {words: coherence_of(objects, words=words) for words in CAMERA_MISTAKES}
        best = max(tried, key=lambda words: tried[words])
        if tried[best] > max(NAMED, as_is + 0.04):
            yield Fault(f"silhouettes of one object contradict each other: {best}", serious=True)
            return
    middles = [meeting_point(outlines) for outlines in objects]
    extents = [o.extent(middle) for outlines, middle in zip(objects, middles, strict=True) for o in outlines]
    if words := _wrong_focal(objects, float(np.nanmedian(extents)), as_is):
        yield Fault(words, serious=True)
        return
    if as_is < COHERENT:
        yield Fault(
            f"silhouettes of one object contradict each other ({100 * as_is:.0f}% of a mask agrees with the other views): "
            "are cameras, masks and pictures in the same order, and is one 'instance' one object?",
            serious=True,
        )
        return
    names = [
        o.name
        for outlines, scores in zip(objects, each, strict=True)
        for o, s in zip(outlines, scores, strict=True)
        if s < COHERENT
    ]
    if names:
        yield Fault(
            f"{len(names)} of {len(extents)} silhouettes looked at contradict other views of their object "
            f"({listed(names)}): is the mask or the camera wrong?",
            serious=False,
        )
    scale = list(_wrong_scale(extents, objects[0], "the translations"))
    yield from scale
    size = float(np.median(extents))
    if not scale and (away := float(np.median(np.linalg.norm(middles, axis=1)))) > OFF_CENTRE * size:
        x, y, z = np.median(middles, axis=0)
        yield Fault(
            f"objects lie {away:.2g} from the origin, about at ({x:.2g}, {y:.2g}, {z:.2g}); move the origin to their middles",
            serious=True,
        )
    yield from _not_upright(singles)


def _wrong_focal(objects: Sequence[Sequence[PosedOutline]], size: float, as_is: float) -> str | None:
    """With a wrong focal length perspective is wrong, and views disagree a little. They agree again with the focal length that
    makes objects about 1 long.
    """
    if not all(o.view.perspective for outlines in objects for o in outlines) or not np.isfinite(size):
        return None
    zoom = size / USUAL
    if 1 / 1.25 < zoom < 1.25 or 1 - as_is < 0.003 or 1 - coherence_of(objects, zoom) > (1 - as_is) / 3:
        return None
    return f"the focal lengths seem about {in_words(1 / zoom)}; write them in pixels of this picture's size"


def _wrong_scale(extents: Sequence[float], some: Sequence[PosedOutline], suspects: str) -> Iterator[Fault]:
    size = float(np.median(extents))
    if not np.isfinite(size) or SMALLEST < size < LARGEST:
        return
    wrong = size / USUAL
    if not some[0].view.perspective:
        suspects, wrong = "the cameras' scale (pixels per unit)", 1 / wrong
    elif "or" in suspects.split():
        suspects = f"the focal lengths seem about {in_words(1 / wrong)}, or the translations"
        yield Fault(
            f"objects come out {size:.2g} long and should be about 1 long: {suspects} {in_words(wrong)}", serious=True
        )
        return
    yield Fault(
        f"the scale is wrong: objects come out {size:.2g} long and should be about 1 long: {suspects} seem about {in_words(wrong)}",
        serious=True,
    )


def _not_upright(singles: Sequence[PosedOutline]) -> Iterator[Fault]:
    """Photos are mostly taken with the camera held upright: on average, up in the picture is up in the world."""
    if any(o.view.extrinsics[2, 3] <= 0 for o in singles):
        return
    up = -np.mean([o.view.extrinsics[1, :3] for o in singles], axis=0)
    length = float(np.linalg.norm(up))
    if length > 0.6 and up[1] < 0.5 * length:
        x, y, z = up / length
        yield Fault(
            f"up in the pictures is on average ({x:.1f}, {y:.1f}, {z:.1f}) in the world, and should be near (0, 1, 0): "
            "are objects Z up, or are the cameras' x and y negated?",
            serious=False,
        )


def _beside_the_origin(singles: Sequence[PosedOutline]) -> Iterator[Fault]:
    names = []
    for o in singles:
        camera = o.view.extrinsics[:, 3]
        depth = camera[2] if o.view.perspective else 1.0
        pixel = (o.view.intrinsics @ [camera[0] / depth, camera[1] / depth, 1])[:2] if depth > 0 else np.full(2, np.nan)
        margin = 0.25 * (o.box[1] - o.box[0]).max()
        if not ((pixel > o.box[0] - margin) & (pixel < o.box[1] + margin)).all():
            names.append(o.name)
    if names:
        yield Fault(
            f"the origin, where objects should lie, is seen beside the mask in {len(names)} of {len(singles)} pictures "
            f"({listed(names)}): are principal points and translations those of these pictures?",
            serious=len(names) > 0.1 * len(singles),
        )
