"""Transfers of colours and keypoints: read the source once, then match, colour, write and draw each target. Called by `cli_transfer`.

`labels` has the third, which may take several sources.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import trimesh
from jaxtyping import Bool, Float, UInt8

from tars3d.arguments import check_resolution
from tars3d.atomic import atomic_path
from tars3d.correspondence import Correspondence, Located, Places, correspond
from tars3d.data.pictures import as_picture
from tars3d.errors import UserError
from tars3d.export import export_mesh, vertex_colors
from tars3d.geometry.views import orbit_views
from tars3d.photo.colors import surface_colors
from tars3d.progress import Skipped, progress_bar
from tars3d.reconstruct import Reconstructor, load_deformed
from tars3d.sheets import contact_sheet, write_picture
from tars3d.texture import Painter, check_texture, in_pieces, write_baked
from tars3d.transfer import TransferSettings
from tars3d.transfer.checks import check_results, check_settings, check_targets
from tars3d.transfer.painted import PaintedMesh, read_painted
from tars3d.transfer.source import StoredReconstruction, locate, read_keypoints, read_reconstruction

SAMPLES = 200_000
"""Points of the source's surface that offer their colours: about 0.003 apart on a chair."""
MESHES = (".glb", ".gltf", ".obj", ".ply")
GREY = np.array([200, 200, 200], np.uint8)
PALETTE = np.array(
    [[31, 119, 180], [255, 127, 14], [44, 160, 44], [214, 39, 40], [148, 103, 189], [140, 86, 75], [227, 119, 194],
     [188, 189, 34], [23, 190, 207], [255, 187, 120]], np.uint8,
)  # fmt: skip
"""Colours of parts and keypoints, in their order, repeating."""


@dataclass(frozen=True)
class Result:
    """A target that is done: its files and what the user should know."""

    files: tuple[Path, ...]
    notes: tuple[str, ...]


class Session:
    """What one command reads: the model when a picture needs it, the source, the targets one by one."""

    def __init__(
        self,
        source: Path,
        targets: Sequence[Path],
        settings: TransferSettings,
        command: str,
        also_read: Sequence[Path] = (),
    ):
        self.settings, self.targets, self.command = settings, targets, command
        check_resolution(settings.resolution)
        check_settings(settings)
        check_targets(targets, command)
        check_results(settings, targets, command, [source, *also_read])
        self.model: Reconstructor | None = None
        self.painted: PaintedMesh = read_painted(source)
        self.reconstruction = self._source_reconstruction(source)

    def _source_reconstruction(self, source: Path) -> StoredReconstruction:
        settings = self.settings
        if settings.reconstruction is not None:
            return read_reconstruction(settings.reconstruction)
        if settings.source_image is not None:
            return self.from_picture(settings.source_image)
        return read_reconstruction(source)

    def from_picture(self, path: Path, *, looks: bool = False) -> StoredReconstruction:
        """Reconstruct a picture; `looks`: with the colours that it shows."""
        if self.model is None:
            self.model = load_deformed(self.settings.model, device=self.settings.device)
        picture = as_picture(path)
        found = self.model.reconstruct_picture(
            picture, resolution=self.settings.resolution, camera="auto" if looks else "none", uncut=True
        )
        if not len(found.mesh.faces):
            raise UserError(
                f"{path}: the model sees no surface in it; is it a {self.model.category}, and is the mask right?"
            )
        colors = surface_colors(picture, found, self.model.category, self.model.device) if looks else None
        return StoredReconstruction(
            str(path), found.mesh, found.canonical, self.model.space, colors, tuple(found.notes)
        )

    def each_target(self) -> Iterator[tuple[Path, StoredReconstruction]]:
        """The targets, with a progress bar; each must share the source's canonical space.

        Raises:
            UserError: one cannot be used; of several, it is named when it is met, and the error comes after the others.
        """
        skipped = Skipped(len(self.targets))
        with progress_bar() as bar:
            for path in bar.track(self.targets, description=f"transferring {self.command}"):
                try:
                    target = self.read_target(path)
                except UserError as error:
                    skipped.add(error)
                    continue
                yield path, target
        skipped.finish()

    def read_target(self, path: Path) -> StoredReconstruction:
        """A target, a reconstruction or a picture.

        Raises:
            UserError: it cannot be used, or does not share the source's canonical space.
        """
        is_mesh = path.suffix.lower() in MESHES
        looks = self.command == "labels"  # borders between parts heed colours
        target = read_reconstruction(path) if is_mesh else self.from_picture(path, looks=looks)
        self.check_same_space(path, target)
        return target

    def check_same_space(self, path: Path, other: StoredReconstruction) -> None:
        """Refuse what another model, or one of another category, reconstructed."""
        source = self.reconstruction
        if source.space is not None and other.space is not None and source.space != other.space:
            raise UserError(
                f"{path}: its canonical space is {other.space}, that of {source.name} is {source.space}; use "
                "objects of one category, reconstructed by one model"
            )
        if source.canonical.shape[1] != other.canonical.shape[1]:
            raise UserError(
                f"{path}: has {other.canonical.shape[1]} canonical channels, {source.name} has "
                f"{source.canonical.shape[1]}; reconstruct both with one model"
            )

    def match(self, source: Located | Places, target: Located | Places) -> Correspondence:
        """Which of the source's points each point of the target takes."""
        rule = asdict(self.settings.rule(self.command))
        return correspond(source, target, **rule, max_cycle=self.settings.max_cycle)

    def write(
        self,
        path: Path,
        mesh: trimesh.Trimesh,
        canonical: np.ndarray | None,
        drawn: tuple[trimesh.Trimesh, np.ndarray],
        space: str | None,
    ) -> list[Path]:
        """The GLB of a target and the picture: see `draw`."""
        written = export_mesh(mesh, canonical, self.place(path), "glb", space=space)
        return [*written, self.draw(path, mesh, drawn)]

    def place(self, path: Path) -> Path:
        """Where the GLB of a target goes."""
        return self.settings.out / f"{path.stem}_{self.command}.glb"

    def draw(self, path: Path, mesh: trimesh.Trimesh, drawn: tuple[trimesh.Trimesh, np.ndarray]) -> Path:
        """The picture of a target: two views of the source as it was drawn, four of the target."""
        views = orbit_views(drawn[0], count=4, size=256, vertex_colors=drawn[1] / 255.0)
        tiles = [*views[:2], *orbit_views(mesh, count=4, size=256)]
        captions = ["source", "", path.name, "", "", ""]
        return write_picture(self.place(path).with_suffix(".png"), contact_sheet([tiles], [captions], tile=200))


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
    session = Session(source, targets, settings, "texture")
    points, face, weights = session.painted.sample(SAMPLES, settings.seed)
    colors = session.painted.colors(face, weights)
    canonical, notes = source_canonical(session, points, face, weights)
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


def source_canonical(
    session: Session, points: np.ndarray, face: np.ndarray, weights: np.ndarray
) -> tuple[Float[np.ndarray, "points channels"], list[str]]:
    """Canonical coordinates of points in the source's faces: its own map, or that of the reconstruction it copies."""
    if session.settings.reconstruction is None and session.settings.source_image is None:
        return session.reconstruction.canonical_at(face, weights), []
    canonical, notes = locate(session.painted, session.reconstruction, points)
    return canonical, [*session.reconstruction.notes, *notes]


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


def colored(mesh: trimesh.Trimesh, colors: UInt8[np.ndarray, "vertices 3"]) -> trimesh.Trimesh:
    """The mesh in other vertex colours."""
    return trimesh.Trimesh(mesh.vertices, mesh.faces, vertex_colors=colors, process=False)


def rgb(mesh: trimesh.Trimesh) -> UInt8[np.ndarray, "vertices 3"]:
    """The mesh's vertex colours; grey where it has none."""
    colors = vertex_colors(mesh)
    return np.tile(GREY, (len(mesh.vertices), 1)) if colors is None else colors


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


def share_without(counterpart: Bool[np.ndarray, " points"]) -> tuple[str, ...]:
    """A note of how much has no counterpart, where that is some."""
    share = 100 * float((~counterpart).mean())
    return (f"{share:.0f}% of its vertices have no counterpart on the source",) if share >= 0.5 else ()
