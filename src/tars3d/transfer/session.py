"""What the transfers share: the source read once, targets read or reconstructed one by one, meshes coloured, written and drawn.

Called by `run` and `labels`, which know what is carried.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Lock

import numpy as np
import trimesh
from jaxtyping import Bool, Float, UInt8

from tars3d.arguments import FEWEST_FACES, ColorMode, OutlineMode, check_at_least, check_resolution, choose_device
from tars3d.correspondence import Correspondence, Located, Places, correspond
from tars3d.data.pictures import as_picture
from tars3d.errors import UserError
from tars3d.export import export_mesh, vertex_colors
from tars3d.geometry.views import orbit_views
from tars3d.progress import Skipped, progress_bar
from tars3d.reconstruct import Reconstructor, load_deformed
from tars3d.sheets import contact_sheet, write_picture
from tars3d.side_by_side import side_by_side
from tars3d.transfer import TransferSettings
from tars3d.transfer.checks import check_results, check_settings, check_targets, is_mesh
from tars3d.transfer.painted import PaintedMesh, read_painted
from tars3d.transfer.source import StoredReconstruction, locate, read_reconstruction

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

    _loading = Lock()
    """Of the model, as targets are read side by side."""

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
        check_at_least(FEWEST_FACES, faces=settings.faces)
        check_settings(settings)
        check_targets(targets, command, together=settings.together)
        check_results(settings, [group[0] for group in self.objects], command, [source, *also_read, *targets])
        self.model: Reconstructor | None = None
        self.painted: PaintedMesh = read_painted(source)
        self.reconstruction = self._source_reconstruction(source)

    def _source_reconstruction(self, source: Path) -> StoredReconstruction:
        settings = self.settings
        if settings.reconstruction is not None:
            return read_reconstruction(settings.reconstruction)
        if settings.source_image is not None:
            return self.from_pictures([settings.source_image], settings.outline, "model")
        return read_reconstruction(source)

    @property
    def objects(self) -> list[Sequence[Path]]:
        """The files of each target."""
        return [self.targets] if self.settings.together else [[path] for path in self.targets]

    def from_pictures(
        self, paths: Sequence[Path], outline: OutlineMode, colors: ColorMode, faces: int | None = None
    ) -> StoredReconstruction:
        """Reconstruct an object from its pictures, bent to their outlines or not, in their colours or in the model's."""
        with self._loading:
            if self.model is None:
                self.model = load_deformed(self.settings.model, device=self.settings.device)
        pictures = [as_picture(path) for path in paths]
        found = self.model.reconstruct_pictures(
            pictures, resolution=self.settings.resolution, faces=faces, outline=outline, colors=colors
        )
        if not len(found.mesh.faces):
            raise UserError(
                f"{paths[0]}: the model sees no surface in it; is it a {self.model.category}, and is the mask right?"
            )
        return StoredReconstruction(
            str(paths[0]), found.mesh, found.canonical, self.model.space, found.colors, tuple(found.notes)
        )

    def source_canonical(
        self, points: np.ndarray, face: np.ndarray, weights: np.ndarray
    ) -> tuple[Float[np.ndarray, "points channels"], list[str]]:
        """Canonical coordinates of points in the source's faces: its own map, or that of the reconstruction it copies; and notes for the user."""
        if self.settings.reconstruction is None and self.settings.source_image is None:
            return self.reconstruction.canonical_at(face, weights), []
        canonical, notes = locate(self.painted, self.reconstruction, points)
        return canonical, [*self.reconstruction.notes, *notes]

    def each_target(self) -> Iterator[tuple[Path, StoredReconstruction]]:
        """The targets, with a progress bar; each must share the source's canonical space.

        Raises:
            UserError: one cannot be used; of several, it is named when it is met, and the error comes after the others.
        """
        objects = self.objects
        skipped = Skipped(len(objects))
        device, resolution = choose_device(self.settings.device), self.settings.resolution
        targets = side_by_side(self.read_target, objects, device, resolution=resolution)
        with progress_bar() as bar:
            words = f"transferring {self.command}"
            for paths, read in zip(objects, bar.track(targets, description=words, total=len(objects)), strict=True):
                try:
                    target = read.result()
                except UserError as error:
                    skipped.add(error)
                    continue
                yield paths[0], target
        skipped.finish()

    def read_target(self, paths: Sequence[Path]) -> StoredReconstruction:
        """A target: a reconstruction, a picture, or several pictures of it.

        Raises:
            UserError: it cannot be used, or does not share the source's canonical space.
        """
        if is_mesh(paths[0]):
            target = read_reconstruction(paths[0])
        else:  # nobody looks at colours under keypoints
            colors = "model" if self.command == "keypoints" else "photo"
            target = self.from_pictures(paths, self.settings.outline, colors, self.settings.faces)
        self.check_same_space(paths[0], target)
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


def colored(mesh: trimesh.Trimesh, colors: UInt8[np.ndarray, "vertices 3"]) -> trimesh.Trimesh:
    """The mesh in other vertex colours."""
    return trimesh.Trimesh(mesh.vertices, mesh.faces, vertex_colors=colors, process=False)


def rgb(mesh: trimesh.Trimesh) -> UInt8[np.ndarray, "vertices 3"]:
    """The mesh's vertex colours; grey where it has none."""
    colors = vertex_colors(mesh)
    return np.tile(GREY, (len(mesh.vertices), 1)) if colors is None else colors


def share_without(counterpart: Bool[np.ndarray, " points"]) -> tuple[str, ...]:
    """A note of how much has no counterpart, where that is some."""
    share = 100 * float((~counterpart).mean())
    return (f"{share:.0f}% of its vertices have no counterpart on the source",) if share >= 0.5 else ()
