"""`tars3d demo`: the package's own sample pictures to meshes, and one page that shows them. The first thing a newcomer runs."""

from pathlib import Path

from tars3d.arguments import check_resolution, check_seed
from tars3d.correspondence import canonical_colors
from tars3d.data.pictures import sample_pictures
from tars3d.errors import UserError
from tars3d.export import export_mesh
from tars3d.geometry.views import orbit_views
from tars3d.photo.reconstruction import Reconstruction
from tars3d.progress import progress_bar
from tars3d.reconstruct import load
from tars3d.report import GalleryRow, write_gallery
from tars3d.sheets import contact_sheet, write_picture
from tars3d.side_by_side import side_by_side

INTRO = (
    "Each picture was turned into a mesh by the model inside the package, in one pass. The second row of views shows the "
    "same mesh coloured by its canonical coordinates in one fixed colour range: equal colours mean equal places on the category."
)


def run_demo(out: Path, *, model: str, resolution: int, seed: int, device: str) -> Path:
    """Reconstruct the sample pictures into `out` and write `out`/index.html; returns that page.

    Raises:
        UserError: the package holds no samples, or the model cannot be loaded.
    """
    check_resolution(resolution)
    check_seed(seed)
    pictures = sample_pictures()
    if not pictures:
        raise UserError("tars3d/samples: the package holds no sample pictures; install it again")
    rows = []
    with progress_bar() as bar:
        task = bar.add_task("loading the model", total=len(pictures))
        reconstructor = load(model, device=device)
        bar.update(task, description="reconstructing")

        def shown(path: Path) -> GalleryRow:
            result = reconstructor.reconstruct(path, resolution=resolution, seed=seed)
            mesh_path = out / f"{path.stem}.glb"
            export_mesh(result.mesh, reconstructor.map_of(result), mesh_path, "glb", space=reconstructor.space)
            return gallery_row(path.stem, result, {"mesh (GLB)": mesh_path.name})

        for done in side_by_side(shown, pictures, reconstructor.device, resolution=resolution):
            rows.append(done.result())
            bar.advance(task)
    write_sheet(out / "sheet.png", rows)
    category = reconstructor.category
    return write_gallery(out / "index.html", f"tars3d: {category}s from single pictures", rows, INTRO)


def write_sheet(path: Path, rows: list[GalleryRow]) -> None:
    """All rows of the page as one picture: the input, two views in the object's colours, two in canonical ones."""
    tiles = [[row.input, *row.colour_views[:2], *row.canonical_views[:2]] for row in rows]
    write_picture(path, contact_sheet(tiles))


def gallery_row(name: str, result: Reconstruction, files: dict[str, str]) -> GalleryRow:
    """A reconstruction from four sides, in its own and in canonical colours."""
    colors = canonical_colors(result.canonical) / 255.0
    return GalleryRow(
        name=name,
        input=result.framed,
        colour_views=orbit_views(result.mesh, count=4, size=256),
        canonical_views=orbit_views(result.mesh, count=4, size=256, vertex_colors=colors),
        files=files,
        notes=result.notes,
    )
