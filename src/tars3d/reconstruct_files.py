"""What `tars3d reconstruct` does with files: reads pictures, calls the rooms that work, writes whole results. `cli` calls it, and imports it at
once for its options, so what is heavy is imported where it is used."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tars3d.arguments import (
    FEWEST_FACES,
    TEXTURED_FACES,
    Background,
    CameraMode,
    ColorMode,
    Device,
    OutlineMode,
    check_at_least,
    check_choice,
    check_folder,
    check_outline,
    check_overwriting,
    check_refine,
    check_resolution,
    check_seed,
)
from tars3d.errors import UserError

if TYPE_CHECKING:
    from rich.progress import Progress

    from tars3d.data.pictures import Picture
    from tars3d.reconstruct import Reconstruction, Reconstructor


@dataclass(frozen=True)
class ReconstructOptions:
    """What pictures are made into, and how."""

    together: bool = False
    """the pictures show one object, from several sides: one mesh, named after the first of them, bent to all their outlines."""
    mask: Path | None = None
    """of a single RGB picture, or a folder with NAME.png for each; the object is what is above 127 (in a mask of two values: the higher)."""
    background: Background = "white"
    """of RGB pictures without mask: white (or any plain colour) is found automatically, auto removes any background with rembg (extra `background`), none refuses them."""
    model: str = "chair"
    """shipped name, run directory, .safetensors file or hub id."""
    resolution: int = 128
    """cells of the search grid along each axis."""
    faces: int | None = None
    """of each mesh at most, which is simplified until it has no more; default: as many as the grid gives (50,000 to 130,000 at 128), with an image texture 10,000."""
    format: Literal["glb", "obj", "ply"] = "glb"
    """of the meshes; PLY holds the canonical coordinates as vertex attributes."""
    out: Path = Path(".")
    """folder for the results."""
    dense: bool = False
    """evaluate every grid point instead of coarse to fine."""
    colors: ColorMode = "photo"
    """of the vertices: photo takes the photo's where its camera is to be trusted and sees them, or the mirrored side of a symmetric object, and the model's elsewhere.
    model takes the model's everywhere."""
    texture: Literal["vertex", "baked", "photo"] = "vertex"
    """vertex colours, or an image with UVs in the GLB (needs the extra `texture`): the colour field baked, or the photo projected onto what it shows."""
    texture_size: int = 1024
    """side of that image, texels."""
    camera: CameraMode = "auto"
    """auto fits the camera that the model predicts and tries others all around where silhouettes then overlap by less than 0.5; search always tries them; none leaves it.
    For --texture photo and --refine, auto tries others as well where the model predicts none. The camera also tells how far an object goes on that the picture cuts off."""
    outline: OutlineMode = "auto"
    """auto bends the mesh until its outline is that of the picture, as the camera found sees it.
    always also tries cameras all around where the model predicts none; none leaves it as predicted."""
    refine: int = 0
    """steps in which, before that, the shape's code is fitted to the picture's silhouette; 0 leaves it as predicted."""
    seed: int = 0
    """of the points and rays of these fits."""
    device: Device = "auto"
    """where the model runs."""

    def mask_of(self, image: Path) -> Path | None:
        """The file of a picture's mask; None where masks were not given."""
        return self.mask / f"{image.stem}.png" if self.mask is not None and self.mask.is_dir() else self.mask

    def check(self, pictures: int) -> None:
        """Refuse options that make no sense, or do not go together or with the number of pictures.

        Raises:
            UserError: names the option.
        """
        from tars3d.texture import check_texture

        check_resolution(self.resolution)
        check_at_least(FEWEST_FACES, faces=self.faces)
        check_seed(self.seed)
        check_folder(self.out)
        check_outline(self.outline, self.camera)
        check_refine(self.refine, self.camera, pictures=pictures if self.together else 1)
        check_texture(self.texture, self.texture_size)
        if self.texture != "vertex" and self.format != "glb":
            raise UserError(f"--texture {self.texture}: is not written into {self.format}; choose --format glb")
        check_choice(ColorMode, colors=self.colors)
        if self.texture != "vertex" and self.colors != "photo":
            raise UserError(
                f"--colors {self.colors}: is about vertex colours, --texture {self.texture} writes none; leave one of them out"
            )
        if self.texture == "photo" and self.camera == "none":
            raise UserError("--texture photo: needs the picture's camera; leave out --camera none")


def reconstruct_files(images: Sequence[Path], options: ReconstructOptions) -> Iterator[tuple[Path, list[str]]]:
    """Reconstruct pictures side by side, or together; yields each mesh file and its notes, in the order of the pictures.

    Raises:
        UserError: results would overwrite each other or a picture, a mask is given for several, or a picture cannot be used: of several objects, it is
            named when it is met, the others are done, and the error comes at the end.
    """
    from tars3d.progress import Skipped, progress_bar

    images = _checked(images, options)
    from tars3d.data.pictures import as_picture  # slow, and not needed to refuse what cannot be
    from tars3d.methods.inference import InferenceModel
    from tars3d.reconstruct import load
    from tars3d.side_by_side import side_by_side

    out, texture, faces = options.out, options.texture, options.faces
    reconstructor = load(options.model, device=options.device)
    if texture != "vertex" and faces is None and isinstance(reconstructor.model, InferenceModel):
        faces = TEXTURED_FACES
    camera = "search" if texture == "photo" and not reconstructor.predicts_camera else options.camera

    def written(shown: Sequence[Path], bar: "Progress") -> tuple[Path, list[str]]:
        image = shown[0]
        pictures = [as_picture(path, options.mask_of(path), background=options.background) for path in shown]
        steps = bar.add_task(f"refining {image.stem}", total=options.refine, visible=options.refine > 0)
        try:
            result = reconstructor.reconstruct_pictures(
                pictures, resolution=options.resolution, dense=options.dense, faces=faces, camera=camera, outline=options.outline, refine=options.refine,
                colors=options.colors if texture == "vertex" else "model", seed=options.seed, advance=lambda step: bar.update(steps, completed=step),
            )  # fmt: skip
        finally:
            bar.remove_task(steps)
        if not len(result.mesh.faces):
            raise UserError(
                f"{image}: the model sees no surface in it; is it a {reconstructor.category}, is the mask right, and was the model trained to the end?"
            )
        path = out / f"{image.stem}.{options.format}"
        notes = list(result.notes)
        if texture == "baked":
            _bake_colors(path, result, reconstructor, options.texture_size)
        elif texture == "photo":
            notes.append(_bake_photo(path, pictures, result, reconstructor, options.texture_size))
        else:
            _write_mesh(path, result, reconstructor)
        _write_cameras(path, dict(zip(shown, pictures, strict=True)), result)
        return path, notes

    objects = [images] if options.together else [[image] for image in images]
    skipped = Skipped(len(objects))
    with progress_bar() as bar:
        work = partial(written, bar=bar)
        results = side_by_side(work, objects, reconstructor.device, resolution=options.resolution)
        for done in bar.track(results, description="reconstructing", total=len(objects)):
            try:
                yield done.result()
            except UserError as error:
                skipped.add(error)
    skipped.finish()


def _checked(images: Sequence[Path], options: ReconstructOptions) -> Sequence[Path]:
    """The pictures to reconstruct: of several, those that this package did not draw. Every refusal that can come before the model is loaded.

    Raises:
        UserError: as in `reconstruct_files`, or as in `ReconstructOptions.check`.
    """
    from tars3d.progress import remark

    mask, out = options.mask, options.out
    if not images:
        raise UserError("reconstruct: no picture given; name at least one, e.g. tars3d reconstruct chair.png")
    drawn = [image for image in images if _is_overlay(image)] if len(images) > 1 else []
    if drawn:  # of an earlier run, as `*.png` finds them
        remark(f"left out, as tars3d drew it: {', '.join(map(str, drawn))}")
        images = [image for image in images if image not in drawn]
    if not images:
        raise UserError(f"{drawn[0]}: is an overlay that tars3d drew, as are all others; name the pictures themselves")
    if mask is not None and len(images) > 1 and not mask.is_dir():
        cure = "give them alpha channels, or --background auto" if options.together else "reconstruct them one by one"
        raise UserError(
            f"--mask {mask}: one mask for {len(images)} pictures; {cure}, or name a folder with NAME.png for each"
        )
    for stem, count in Counter(image.stem for image in images).items():
        if count > 1:
            shared = "camera" if options.together else "mesh"
            cure = "" if options.together else " or use two --out"
            raise UserError(f"{stem}: two pictures of this name would write the same {shared}; rename one{cure}")
    if not any(image.exists() for image in images):  # before the options, whose check takes seconds of imports
        raise UserError(f"{images[0]}: no such file; check the path")
    options.check(len(images))
    endings = (f".{options.format}", ".canonical.npz", ".camera.json", ".overlay.png")
    check_overwriting(
        [*images, *filter(None, map(options.mask_of, images))],
        {image: [out / f"{image.stem}{ending}" for ending in endings] for image in images},
    )
    if options.texture != "vertex":
        from tars3d.export import check_baked

        for image in images:
            check_baked(out / f"{image.stem}.glb")
    return images


def _is_overlay(image: Path) -> bool:
    """Whether a picture is the drawing beside a NAME.camera.json of this package."""
    name = image.name.removesuffix(".overlay.png")
    return name != image.name and _mesh_of(image.with_name(f"{name}.camera.json")) is not None


def _write_mesh(path: Path, result: "Reconstruction", reconstructor: "Reconstructor") -> None:
    """The mesh with its vertex colours."""
    from tars3d.export import export_mesh

    export_mesh(result.mesh, reconstructor.map_of(result), path, space=reconstructor.space)


def _write_cameras(path: Path, pictures: Mapping[Path, "Picture"], result: "Reconstruction") -> None:
    """NAME.camera.json and NAME.overlay.png of each picture beside the mesh; without cameras, those of an earlier mesh of that file go."""
    import json

    from tars3d.atomic import atomic_path
    from tars3d.photo.camera import overlay
    from tars3d.sheets import write_picture

    for (image, picture), camera in zip_longest(pictures.items(), result.cameras):
        numbers, drawing = (path.with_name(image.stem + ending) for ending in (".camera.json", ".overlay.png"))
        if camera is not None:
            with atomic_path(numbers) as temporary:
                temporary.write_text(json.dumps({"mesh": path.name, **camera.to_json()}, indent=1))
            write_picture(drawing, overlay(picture, result.mesh, camera))
        elif _mesh_of(numbers) == path.name:
            numbers.unlink()
            drawing.unlink(missing_ok=True)


def _mesh_of(camera: Path) -> str | None:
    """The mesh that a NAME.camera.json was written for; None where the file is missing, or not of that form."""
    import json

    try:
        return json.loads(camera.read_text())["mesh"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _bake_photo(
    path: Path, pictures: Sequence["Picture"], result: "Reconstruction", reconstructor: "Reconstructor", size: int
) -> str:
    """Write the mesh, its pictures projected onto it; says what of the surface wears what."""
    from tars3d.photo.colors import photo_colors
    from tars3d.texture import in_pieces, write_baked

    colors = photo_colors(pictures, result, reconstructor.symmetric, reconstructor.device)
    write_baked(path, result.mesh, reconstructor.map_of(result), reconstructor.space, in_pieces(colors), size)
    shares = colors.shares
    mirrored = f"{shares.mirrored:.0f}% from its mirrored side, " if colors.mirrors else ""
    source = "photo" if len(pictures) == 1 else "photos"
    return f"texture: {shares.photo:.0f}% from the {source}, {mirrored}{shares.field:.0f}% from the colour field"


def _bake_colors(path: Path, result: "Reconstruction", reconstructor: "Reconstructor", size: int) -> None:
    """Write the mesh, its colour field read at every texel of an image texture instead of at the vertices."""
    import numpy as np

    from tars3d.methods.surface import at_points
    from tars3d.texture import in_pieces, write_baked

    def colors(face: np.ndarray, weights: np.ndarray) -> np.ndarray:
        points = np.einsum("nk,nkc->nc", weights, np.asarray(result.mesh.triangles)[face])
        values = at_points(result.shape.color, points, reconstructor.device).clip(0, 1)
        return np.round(255 * values).astype(np.uint8)

    write_baked(path, result.mesh, reconstructor.map_of(result), reconstructor.space, in_pieces(colors), size)
