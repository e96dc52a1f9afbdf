"""Several pictures of one object: their cameras moved to where one shape suits all of them, before it is bent to their outlines.

Each camera is found on the shape as predicted, which is not the object, and a few see it from the wrong side; one of those would carve away what the
other pictures show. `Reconstructor.bent` calls `agreed_cameras`.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
import trimesh

from tars3d.data.framing import FramedPicture
from tars3d.geometry.silhouette_fit import CenteredCamera, turn_between
from tars3d.methods.base import Shape
from tars3d.photo.camera import find_camera, silhouette_iou
from tars3d.photo.outline import Outlined, OutlineSettings

T = TypeVar("T")
SEVERAL = OutlineSettings(background=1.0)
"""What one mask takes away for an error of its camera, the others ask for; so their backgrounds count in full."""
STIFF = replace(SEVERAL, smoothing=2.0, camera_learning_rate=0.2)
"""A shape that bends less leaves more to the cameras."""
ROUNDS = 2
DOUBTED = 0.8
"""Overlap of silhouettes, once the stiff shape is bent to all pictures, below which a camera is looked for elsewhere."""
ELSEWHERE = 15.0
"""Degrees of turn from which a camera counts as another one."""
GAIN = 0.01
"""Of the mean overlap, that makes another camera the better one."""

Bend = Callable[[Sequence[CenteredCamera], Sequence[FramedPicture]], Outlined]
"""A shape bent, stiffly, to the outlines of pictures, and its cameras."""


def agreed_cameras(
    pictures: Sequence[FramedPicture],
    cameras: Sequence[CenteredCamera],
    bend: Bend,
    draft: Callable[[Shape], trimesh.Trimesh],
    *,
    seed: int = 0,
) -> list[CenteredCamera]:
    """Cameras under which one shape has the outlines of all pictures, as nearly as can be.

    All are moved along with the shape, `ROUNDS` times. Then each that fits badly is searched all around a shape that the other pictures alone have
    bent, and stays there if all pictures together fit better for it.

    Args:
        pictures: two or more of one object.
        cameras: of these pictures, found one by one.
        draft: a coarse mesh of a shape.
        seed: of the points of the mesh that a camera is fitted with.
    """
    found = list(cameras)
    for _ in range(ROUNDS):
        bent = bend(found, pictures)
        found = bent.cameras
    overlaps = _overlaps(draft(bent.shape), found, pictures)
    for number in np.argsort(overlaps).tolist():
        if overlaps[number] >= DOUBTED:
            continue
        others = bend(_without(found, number), _without(pictures, number))
        mesh = draft(others.shape)
        if not len(mesh.faces):
            continue
        other = find_camera(mesh, pictures[number], found[number], search=True, seed=seed).framed
        if turn_between(other.rotation, found[number].rotation) < ELSEWHERE:
            continue
        bent = bend([*found[:number], other, *found[number + 1 :]], pictures)
        fit = _overlaps(draft(bent.shape), bent.cameras, pictures)
        if np.mean(fit) > np.mean(overlaps) + GAIN:
            found, overlaps = bent.cameras, fit
    return found


def _without(values: Sequence[T], number: int) -> list[T]:
    return [*values[:number], *values[number + 1 :]]


def _overlaps(
    mesh: trimesh.Trimesh, cameras: Sequence[CenteredCamera], pictures: Sequence[FramedPicture]
) -> list[float]:
    """Of the mesh's silhouette and the mask, in each picture."""
    return [
        silhouette_iou(mesh, camera, picture.mask, picture.seen)
        for camera, picture in zip(cameras, pictures, strict=True)
    ]
