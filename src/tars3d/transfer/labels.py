"""Transfer of part labels, from one labelled object or from several together. Called by `cli_transfer`."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import chain
from pathlib import Path

import numpy as np
import trimesh
from jaxtyping import Int

from tars3d.appearance import SurfaceColors
from tars3d.atomic import atomic_path
from tars3d.correspondence import Places
from tars3d.errors import UserError
from tars3d.export import vertex_colors
from tars3d.labelling import LabelledPoints, PartSegmenter, PartTrees, carried_labels, typical_pieces
from tars3d.rules import BORDERS, BorderRule, check_weights
from tars3d.transfer import TransferSettings
from tars3d.transfer.painted import PaintedMesh, read_painted
from tars3d.transfer.session import GREY, PALETTE, Result, Session, colored, share_without
from tars3d.transfer.source import StoredReconstruction, read_labels, read_reconstruction

SAMPLES = 50_000
"""Of the surfaces of all sources together: about 0.006 apart on a chair."""


def transfer_labels(
    source: Path,
    labels_file: Path,
    targets: Sequence[Path],
    settings: TransferSettings,
    *,
    more: Sequence[str] = (),
    borders: BorderRule = BORDERS,
) -> Iterator[Result]:
    """Carry part labels: NAME_labels.json lists the vertices of each part, those without counterpart are in none.

    Args:
        more: further sources, each MESH=LABELS, of meshes that tars3d wrote: a part is as near as its nearest points are, as many as
            there are sources. Parts are the same where their names are.
        borders: what the target itself says about where its parts end.

    Raises:
        UserError: see `Session`, `read_labels`, `locate`; a further source is not of that form.
    """
    check_weights(asdict(borders))
    if more and settings.max_cycle is not None:
        raise UserError("--max-cycle: a cycle goes through one source; leave out --more or this")
    samples = SAMPLES // (1 + len(more))
    further = [_mesh_and_labels(pair) for pair in more]
    session = Session(source, targets, settings, "labels", [labels_file, *chain.from_iterable(further)])
    names, labels, of_faces = read_labels(labels_file, session.painted)
    known, rule = list(names), settings.rule("labels")
    points, face, weights = session.painted.sample(samples, settings.seed)
    canonical, notes = session.source_canonical(points, face, weights)
    places = Places(points, canonical, session.reconstruction)
    first = _at_points(session.painted, labels, face, weights, of_faces=of_faces)
    sources = [LabelledPoints(places.coordinates(rule), first, _pieces(session.painted, labels, of_faces=of_faces))]
    for mesh, listing in further:
        sources.append(_further(mesh, listing, known, session, samples))
    part_colors = np.concatenate([PALETTE[np.arange(len(known)) % len(PALETTE)], GREY[None]])  # -1 is the last row
    if of_faces:
        plain = trimesh.Trimesh(np.asarray(session.painted.mesh.triangles).reshape(-1, 3), process=False)
        plain.faces = np.arange(3 * len(session.painted.mesh.faces)).reshape(-1, 3)
        drawn = (plain, part_colors[np.repeat(labels, 3)])
    else:
        drawn = (session.painted.mesh, part_colors[labels])
    trees = PartTrees(sources)
    for path, target in session.each_target():
        own = Places.of(target)
        colors = target.colors if target.colors is not None else SurfaceColors.guessed(vertex_colors(target.mesh))
        segmenter = PartSegmenter(target.mesh, colors)
        carried, counterpart = carried_labels(trees, own.coordinates(rule), segmenter, rule.max_distance, borders)
        if settings.max_cycle is not None:
            counterpart = session.match(places, own).counterpart
            carried = np.where(counterpart, carried, -1)
        files = session.write(path, colored(target.mesh, part_colors[carried]), target.canonical, drawn, target.space)
        members = {name: np.flatnonzero(carried == number).tolist() for number, name in enumerate(known)}
        listing = settings.out / f"{path.stem}_labels.json"
        with atomic_path(listing) as temporary:
            temporary.write_text(json.dumps({"vertices": members}))
        yield Result((*files, listing), (*notes, *target.notes, *share_without(counterpart)))


def _mesh_and_labels(pair: str) -> tuple[Path, Path]:
    """The two files that one of `more` names."""
    mesh, equals, listing = pair.rpartition("=")
    if not (equals and mesh and listing):
        raise UserError(f"--more {pair}: is not MESH=LABELS; write for example --more second.glb=second.json")
    return Path(mesh), Path(listing)


def _further(path: Path, listing: Path, known: list[str], session: Session, samples: int) -> LabelledPoints:
    """One of `more`; names of parts that are new are appended to `known`."""
    painted = read_painted(path)
    reconstruction: StoredReconstruction = read_reconstruction(path)
    session.check_same_space(path, reconstruction)
    names, labels, of_faces = read_labels(listing, painted)
    known += [name for name in names if name not in known]
    numbers = np.array([*(known.index(name) for name in names), -1])  # the last stands for no part
    points, face, weights = painted.sample(samples, session.settings.seed)
    places = Places(points, reconstruction.canonical_at(face, weights), reconstruction)
    labels = numbers[labels]
    at_points = _at_points(painted, labels, face, weights, of_faces=of_faces)
    coordinates = places.coordinates(session.settings.rule("labels"))
    return LabelledPoints(coordinates, at_points, _pieces(painted, labels, of_faces=of_faces))


def _at_points(
    painted: PaintedMesh, labels: np.ndarray, face: np.ndarray, weights: np.ndarray, *, of_faces: bool
) -> Int[np.ndarray, " points"]:
    """Labels of points in faces: the face's, or its nearest corner's."""
    corners = painted.mesh.faces[face]
    return labels[face] if of_faces else labels[corners[np.arange(len(face)), weights.argmax(axis=1)]]


def _pieces(painted: PaintedMesh, labels: np.ndarray, *, of_faces: bool) -> dict[int, float]:
    """`typical_pieces` of the parts; a face has the label of its first corner where vertices are labelled."""
    return typical_pieces(painted.mesh, labels if of_faces else labels[painted.mesh.faces[:, 0]])
