"""Transfer of part labels, from one labelled object or from several together. Called by `cli_transfer`."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import trimesh
from jaxtyping import Int

from tars3d.atomic import atomic_path
from tars3d.correspondence import Places
from tars3d.errors import UserError
from tars3d.labelling import PartTrees, RandomWalker, carried_labels
from tars3d.transfer import TransferSettings
from tars3d.transfer.painted import PaintedMesh, read_painted
from tars3d.transfer.run import GREY, PALETTE, Result, Session, colored, share_without, source_canonical
from tars3d.transfer.source import StoredReconstruction, read_labels, read_reconstruction

LABELLED_POINTS = 50_000
"""Of the surfaces of all sources together: about 0.006 apart on a chair."""


@dataclass(frozen=True)
class LabelledPoints:
    """Points of a labelled surface: what they are compared by, and their parts (-1: none)."""

    places: Places
    labels: Int[np.ndarray, " points"]


def transfer_labels(
    source: Path, labels_file: Path, targets: Sequence[Path], settings: TransferSettings, *, more: Sequence[str] = ()
) -> Iterator[Result]:
    """Carry part labels: NAME_labels.json lists the vertices of each part, those without counterpart are in none.

    Args:
        more: further sources, each MESH=LABELS, of meshes that tars3d wrote: a part is as near as its nearest points are, as many as
            there are sources. Parts are the same where their names are.

    Raises:
        UserError: see `Session`, `read_labels`, `locate`; a further source is not of that form.
    """
    if more and settings.max_cycle is not None:
        raise UserError("--max-cycle: a cycle goes through one source; leave out --more or this")
    session = Session(source, targets, settings, "labels")
    names, labels, of_faces = read_labels(labels_file, session.painted)
    known = list(names)
    points, face, weights = session.painted.sample(LABELLED_POINTS // (1 + len(more)), settings.seed)
    canonical, notes = source_canonical(session, points, face, weights)
    first = _at_points(session.painted, labels, face, weights, of_faces=of_faces)
    sources = [LabelledPoints(session.source_places(points, canonical), first)]
    for pair in more:
        sources.append(_further(pair, known, session, LABELLED_POINTS // (1 + len(more))))
    part_colors = np.concatenate([PALETTE[np.arange(len(known)) % len(PALETTE)], GREY[None]])  # -1 is the last row
    if of_faces:
        plain = trimesh.Trimesh(np.asarray(session.painted.mesh.triangles).reshape(-1, 3), process=False)
        plain.faces = np.arange(3 * len(session.painted.mesh.faces)).reshape(-1, 3)
        drawn = (plain, part_colors[np.repeat(labels, 3)])
    else:
        drawn = (session.painted.mesh, part_colors[labels])
    rule = settings.rule("labels")
    counted = (rule.feature_weight, rule.normal_weight, rule.height_weight)
    trees = PartTrees([s.places.coordinates(*counted) for s in sources], [s.labels for s in sources])
    for path, target in session.each_target():
        places = Places.of(target)
        walker = RandomWalker(target.mesh)
        carried, counterpart = carried_labels(trees, places.coordinates(*counted), walker, rule.max_distance)
        if settings.max_cycle is not None:
            counterpart = session.match(sources[0].places, places).counterpart
            carried = np.where(counterpart, carried, -1)
        files = session.write(path, colored(target.mesh, part_colors[carried]), target.canonical, drawn, target.space)
        members = {name: np.flatnonzero(carried == number).tolist() for number, name in enumerate(known)}
        listing = settings.out / f"{path.stem}_labels.json"
        with atomic_path(listing) as temporary:
            temporary.write_text(json.dumps({"vertices": members}))
        yield Result((*files, listing), (*notes, *share_without(counterpart)))


def _further(pair: str, known: list[str], session: Session, samples: int) -> LabelledPoints:
    """One of `more`; names of parts that are new are appended to `known`."""
    mesh, equals, listing = pair.rpartition("=")
    if not (equals and mesh and listing):
        raise UserError(f"--more {pair}: is not MESH=LABELS; write for example --more second.glb=second.json")
    path = Path(mesh)
    painted = read_painted(path)
    reconstruction: StoredReconstruction = read_reconstruction(path)
    session.check_same_space(path, reconstruction)
    names, labels, of_faces = read_labels(Path(listing), painted)
    known += [name for name in names if name not in known]
    numbers = np.array([*(known.index(name) for name in names), -1])  # the last stands for no part
    points, face, weights = painted.sample(samples, session.settings.seed)
    places = Places.on(reconstruction, points, reconstruction.canonical_at(face, weights))
    return LabelledPoints(places, numbers[_at_points(painted, labels, face, weights, of_faces=of_faces)])


def _at_points(
    painted: PaintedMesh, labels: np.ndarray, face: np.ndarray, weights: np.ndarray, *, of_faces: bool
) -> Int[np.ndarray, " points"]:
    """Labels of points in faces: the face's, or its nearest corner's."""
    corners = painted.mesh.faces[face]
    return labels[face] if of_faces else labels[corners[np.arange(len(face)), weights.argmax(axis=1)]]
