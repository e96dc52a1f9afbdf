"""Transfers of colours and keypoints. Called by `cli_transfer`; `labels` has the third, which may take several sources."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import trimesh
from jaxtyping import Float, UInt8

from tars3d.arguments import TEXTURED_FACES
from tars3d.atomic import atomic_path
from tars3d.correspondence import Places, correspond
from tars3d.errors import UserError
from tars3d.texture import Painter, check_texture, in_pieces, write_baked
from tars3d.transfer import TransferSettings
from tars3d.transfer.painted import PaintedMesh
from tars3d.transfer.session import GREY, PALETTE, Result, Session, colored, rgb, share_without
from tars3d.transfer.source import StoredReconstruction, locate, read_keypoints

SAMPLES = 200_000
"""Points of the source's surface that offer their colours: about 0.003 apart on a chair."""


def transfer_texture(
    source: Path,
    targets: Sequence[Path],
    settings: TransferSettings,
    *,
    unmatched: str = "own",
    texture: str = "vertex",
    texture_size: int = 1024,
) -> Iterator[Result]:
    """Carry colours: each target vertex takes that of its source point; `unmatched` ones keep their own, or turn grey.

    `texture`: "vertex" colours, or "baked" into a picture of `texture_size` texels a side, as fine as what was painted.

    Raises:
        UserError: see `Session`, `PaintedMesh.colors`, `locate`, `check_texture`.
    """
    check_texture(texture, texture_size)
    if texture == "baked" and settings.faces is None:
        settings = replace(settings, faces=TEXTURED_FACES)
    session = Session(source, targets, settings, "texture")
    points, face, weights = session.painted.sample(SAMPLES, settings.seed)
    colors = session.painted.colors(face, weights)
    canonical, notes = session.source_canonical(points, face, weights)
    places = Places(points, canonical, session.reconstruction)
    drawn = (session.painted.mesh, corner_colors(session.painted))
    for path, target in session.each_target():
        found = session.match(places, target)
        rest = np.tile(GREY, (len(found.index), 1)) if unmatched == "grey" else rgb(target.mesh)
        mesh = colored(target.mesh, np.where(found.counterpart[:, None], colors[found.index], rest))
        if texture == "vertex":
            files = session.write(path, mesh, target.canonical, drawn, target.space)
        else:
            painter = texel_painter(session, places, colors, target, rest)
            at = session.place(path)
            baked = write_baked(at, target.mesh, target.canonical, target.space, painter, texture_size)
            files = [*baked, session.draw(path, mesh, drawn)]
        yield Result(tuple(files), (*notes, *target.notes, *share_without(found.counterpart)))


def texel_painter(
    session: Session,
    places: Places,
    colors: UInt8[np.ndarray, "points 3"],
    target: StoredReconstruction,
    rest: UInt8[np.ndarray, "vertices 3"],
) -> Painter:
    """Colours of any points of a target: those of their places on the source, else `rest`, which the target's vertices have."""

    def paint(face: np.ndarray, weights: np.ndarray) -> np.ndarray:
        texels = np.einsum("nk,nkc->nc", weights, np.asarray(target.mesh.triangles)[face])
        found = session.match(places, Places(texels, target.canonical_at(face, weights), target))
        fallback = np.einsum("nk,nkc->nc", weights, rest[target.mesh.faces[face]])
        return np.where(found.counterpart[:, None], colors[found.index], fallback.round()).astype(np.uint8)

    # The way back of a cycle ends at the nearest of all texels, so there they are matched together.
    return in_pieces(paint) if session.settings.max_cycle is None else paint


def transfer_keypoints(
    source: Path, keypoints_file: Path, targets: Sequence[Path], settings: TransferSettings
) -> Iterator[Result]:
    """Carry named points: NAME_keypoints.json holds those that the target has; in the GLB and the picture they are balls.

    Raises:
        UserError: see `Session`, `read_keypoints`, `locate`; a cycle was asked for.
    """
    if settings.max_cycle is not None:
        raise UserError("--max-cycle: over a few keypoints a cycle means nothing; leave it out")
    session = Session(source, targets, settings, "keypoints", [keypoints_file])
    names, points = read_keypoints(keypoints_file, session.painted)
    canonical, notes = locate_points(session, points)
    dots = PALETTE[np.arange(len(names)) % len(PALETTE)]
    shown = with_balls(session.painted.mesh, points, dots)
    drawn = (shown, rgb(shown))
    places = Places(points, canonical, session.reconstruction)
    for path, target in session.each_target():
        # The other way round: a keypoint looks for its place on the target.
        found = correspond(target, places, **asdict(settings.rule("keypoints")))
        kept = found.counterpart
        placed = {name: found.points[i].round(6).tolist() for i, name in enumerate(names) if kept[i]}
        files = session.write(path, with_balls(target.mesh, found.points[kept], dots[kept]), None, drawn, target.space)
        listing = settings.out / f"{path.stem}_keypoints.json"
        with atomic_path(listing) as temporary:
            temporary.write_text(json.dumps(placed, indent=1))
        absent = [f"{name} (nearest {found.distance[i]:.3g})" for i, name in enumerate(names) if not kept[i]]
        limit = session.settings.rule("keypoints").max_distance
        lost = (f"no counterpart for {', '.join(absent)} within --max-distance {limit:g}",) if absent else ()
        yield Result((*files, listing), (*notes, *target.notes, *lost))


def locate_points(session: Session, points: np.ndarray) -> tuple[Float[np.ndarray, "points channels"], list[str]]:
    """Canonical coordinates of a few points on the source, after the whole of it was held against its reconstruction."""
    sample, _, _ = session.painted.sample(2000, session.settings.seed)
    _, notes = locate(session.painted, session.reconstruction, sample)
    canonical, _ = locate(session.painted, session.reconstruction, points)
    return canonical, [*session.reconstruction.notes, *notes]


def corner_colors(painted: PaintedMesh) -> UInt8[np.ndarray, "vertices 3"]:
    """The painted colours at the vertices, for drawing."""
    faces = np.asarray(painted.mesh.faces)
    colors = np.broadcast_to(GREY, (len(painted.mesh.vertices), 3)).copy()
    for corner in range(3):
        weights = np.zeros((len(faces), 3))
        weights[:, corner] = 1
        colors[faces[:, corner]] = painted.colors(np.arange(len(faces)), weights)
    return colors


def with_balls(
    mesh: trimesh.Trimesh, points: Float[np.ndarray, "points 3"], colors: UInt8[np.ndarray, "points 3"]
) -> trimesh.Trimesh:
    """A grey mesh with a coloured ball at each point."""
    parts = [colored(mesh, np.broadcast_to(GREY, (len(mesh.vertices), 3)).copy())]
    for point, color in zip(points, colors, strict=True):
        ball = trimesh.creation.icosphere(subdivisions=2, radius=0.03)
        ball.apply_translation(point)
        parts.append(colored(ball, np.tile(color, (len(ball.vertices), 1))))
    starts = np.cumsum([0, *(len(part.vertices) for part in parts)])
    return trimesh.Trimesh(
        np.concatenate([part.vertices for part in parts]),
        np.concatenate([part.faces + start for part, start in zip(parts, starts[:-1], strict=True)]),
        vertex_colors=np.concatenate([rgb(part) for part in parts]),
        process=False,
    )
