"""The command line. Each command is a function: its arguments, then a call of the room that does the work.

Heavy imports happen inside the functions, so that `tars3d --help` answers at once.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import tyro

from tars3d.cli_bench import BENCH_COMMANDS
from tars3d.cli_collections import COLLECTION_COMMANDS
from tars3d.cli_data import IMPORT_COMMANDS, Background
from tars3d.cli_transfer import TRANSFER_COMMANDS
from tars3d.errors import UserError, says_out_of_memory

Device = Literal["auto", "cpu", "cuda"]
Positional = tyro.conf.Positional


def demo(
    out: Path = Path("demo"),
    model: str = "chair",
    resolution: int = 128,
    seed: int = 0,
    device: Device = "auto",
) -> None:
    """Turn the sample pictures of the package into meshes, and write a page to look at.

    Args:
        out: folder for the meshes and index.html.
        model: shipped name, run directory, .safetensors file or hub id.
        resolution: cells of the search grid along each axis.
        seed: of the points that the cameras are fitted with.
        device: where the model runs.
    """
    from tars3d.demo import run_demo

    page = run_demo(out, model=model, resolution=resolution, seed=seed, device=device)
    print(f"Open {page} in a browser.")


def reconstruct(
    images: Positional[tuple[Path, ...]],
    mask: Path | None = None,
    background: Background = "white",
    model: str = "chair",
    resolution: int = 128,
    format: Literal["glb", "obj", "ply"] = "glb",
    out: Path = Path("."),
    dense: bool = False,
    texture: Literal["vertex", "baked", "photo"] = "vertex",
    texture_size: int = 1024,
    camera: Literal["auto", "search", "none"] = "auto",
    refine: int = 0,
    seed: int = 0,
    device: Device = "auto",
) -> None:
    """Turn pictures into meshes: NAME.glb (Y up, vertex colours) and, if the model has a canonical space, NAME.canonical.npz beside it.

    Where the picture's camera is found, also NAME.camera.json and NAME.overlay.png, the mesh drawn over the picture.

    Args:
        images: RGBA pictures, or RGB on a plain ground.
        mask: of a single RGB picture; the object is what is above 127 (in a file of zeros and ones: the ones).
        background: of RGB pictures without mask: white (or any plain colour) is told by itself, auto removes any ground with
            rembg (extra `background`), none refuses them.
        model: shipped name, run directory, .safetensors file or hub id.
        resolution: cells of the search grid along each axis.
        format: of the meshes; PLY holds the canonical coordinates as vertex attributes.
        out: folder for the results.
        dense: evaluate every grid point instead of coarse to fine.
        texture: vertex colours, or an image with UVs in the GLB (needs the extra `texture`): the colour field baked, or the
            photo projected onto what it shows.
        texture_size: side of that image, texels.
        camera: auto fits the camera that the model predicts and tries others all around where silhouettes then overlap by less than 0.5 (or, for
            --texture photo and --refine, where the model predicts none); search always tries them; none leaves it. It
            also tells how far an object goes on that the picture cuts off.
        refine: steps in which the shape is fitted to the picture's silhouette; 0 leaves it as predicted.
        seed: of the points and rays of these fits.
        device: where the model runs.
    """
    from tars3d.reconstruct_files import reconstruct_files

    for path, notes in reconstruct_files(
        images, mask, model=model, resolution=resolution, format=format, out=out, dense=dense, device=device,
        texture=texture, texture_size=texture_size, camera=camera, refine=refine, seed=seed, background=background,
    ):  # fmt: skip
        print(f"{path}" + "".join(f"\n  note: {note}" for note in notes))


def train(
    data: Positional[tuple[str, ...]],
    out: Path,
    preset: str = "compact",
    method: Literal["tars", "sdf-srn", "dit", "dif", "softras", "cmr"] = "tars",
    point_features: int | None = None,
    template: Path | None = None,
    perceptual: Path | None = None,
    start: str | None = None,
    resume: bool = False,
    scale: float = 1.0,
    steps: tuple[str, ...] = (),
    minutes: float | None = None,
    fit: bool = False,
    pretrained: bool = True,
    learning_rate: float | None = None,
    cut: float | None = None,
    seed: int = 0,
    threads: int | None = None,
    device: Device = "auto",
) -> None:
    """Learn a category from collections of pictures, masks and cameras: the whole curriculum, resumable anywhere.

    Args:
        data: image collections, or packed ones (`data pack`; folders or URLs such as s3://bucket/chairs); several are mixed.
        out: run folder for state, model, logs and report.
        preset: compact, compact-single-view (one picture an object), compact-unpaired (the same, any shape, rays alone), paper-shapenet, paper-pascal3d, paper-cub or paper-pix3d.
        method: which system; sdf-srn has no canonical space, dit and dif are the paper's analogs of those methods,
            softras and cmr deform a sphere's mesh.
        point_features: dimensions added to the canonical space; default is the preset's, 0 is TARS without them.
        template: softras, cmr: a closed mesh around the origin, onto which the sphere is pushed before training.
        perceptual: cmr: LPIPS-AlexNet weights (.safetensors) for its texture loss; without, colours are compared.
        start: a model to start from (shipped name, run, .safetensors file or hub id), e.g. `chair` for chairs of your own; takes its
            networks, and only the stages that are still ahead of it.
        resume: go on with the run in --out; the other settings are taken from there.
        scale: multiplies the steps of every stage.
        steps: STAGE=STEPS, e.g. "deformed hull=20000": of single stages by name, whatever --scale says.
        minutes: save and stop after this long, opening the data included; --resume goes on.
        fit: as many steps of every stage as end within --minutes, by the time that the first ones take.
        pretrained: start the encoder from ImageNet weights where the preset names a hub id.
        learning_rate: replaces that of every stage.
        cut: share of the pictures, 0 to 1, of which the encoder sees a part only: for photos that cut their object off. Default is none.
        seed: of all random choices.
        threads: CPU threads; default is one per core.
        device: where it trains.
    """
    from tars3d.training.run import train_run

    model = train_run(
        data, out, preset_name=preset, method=method, resume=resume, scale=scale, steps=steps, minutes=minutes, fit=fit,
        pretrained=pretrained, learning_rate=learning_rate, cut=cut, seed=seed, threads=threads, device=device,
        point_features=point_features, template=template, perceptual=perceptual, start=start,
    )  # fmt: skip
    print(f"{model}\n{out / 'report.html'}")


def evaluate(
    data: Positional[Path],
    model: str = "chair",
    split: str = "test",
    views: int = 1,
    resolution: int = 128,
    samples: int = 100_000,
    emd_points: int = 1024,
    threshold: float = 0.1,
    align: bool = False,
    as_published: bool = False,
    refine: int = 0,
    refine_camera: Literal["found", "annotated"] = "found",
    baseline: Literal["none", "mean-shape", "nearest"] = "none",
    train_data: tuple[Path, ...] = (),
    limit: int | None = None,
    out: Path | None = None,
    seed: int = 0,
    device: Device = "auto",
) -> None:
    """Measure a model on a collection with ground truth: the paper's metrics as a table, metrics.json and pictures.

    Where no object has ground truth, the silhouette from the input view is compared with the mask, and nothing else: from the annotated
    camera, and from the one that the model finds in the picture.

    Args:
        data: image collection, with ground truth if there is any.
        model: shipped name, run directory, .safetensors file or hub id.
        split: of the collection.
        views: pictures of each object, chosen by the seed.
        resolution: cells of the search grid along each axis.
        samples: points on each predicted surface.
        emd_points: points of the Earth Mover's Distance; 0 leaves it out.
        threshold: distance within which a point counts for precision and recall, world units.
        align: rigid ICP before measuring, as for Pascal3D+ and Pix3D in the paper.
        as_published: measure each mesh a second time with the scaling error of the published evaluator, to compare with old figures.
        refine: steps in which each shape is fitted to the outline of its picture, see `tars3d reconstruct --refine`.
        refine_camera: seen by the camera that the model finds in the picture, or by the annotated one, which a photo alone does not have.
        baseline: instead of the model: its mean shape, or the nearest training object by picture features.
        train_data: collections whose train split `nearest` chooses from; default is DATA.
        limit: measure only this many pictures.
        out: folder for metrics.json and sheet.png.
        seed: of views and surface samples.
        device: where the model runs.
    """
    from tars3d.evaluate.evaluation import evaluate_collection

    evaluate_collection(
        data, model=model, split=split, views=views, resolution=resolution, samples=samples, emd_points=emd_points,
        align=align, baseline=baseline, train_data=train_data, limit=limit, out=out, seed=seed, device=device,
        threshold=threshold, published_scale=as_published, refine=refine,
        refine_camera=refine_camera,
    )  # fmt: skip


def convert(
    file: Positional[Path],
    out: Path,
    preset: Literal["auto", "paper-shapenet", "paper-pascal3d", "paper-cub", "paper-pix3d"] = "auto",
    category: str = "object",
    seed: int = 0,
) -> None:
    """Turn an official TARS or SDF-SRN checkpoint into a model of this project; nothing in the file is run.

    Args:
        file: the published .ckpt.
        out: folder for model.safetensors; `--model OUT` then takes it.
        preset: the data set it was trained on; auto tells from names and shapes of its weights.
        category: what it reconstructs, e.g. chair.
        seed: of random choices (there are none in conversion).
    """
    from tars3d.convert import convert_checkpoint

    path, notes = convert_checkpoint(file, out, preset_name=None if preset == "auto" else preset, category=category)
    print(f"{path}" + "".join(f"\n  note: {note}" for note in notes))


COMMANDS: dict[str, Callable] = {
    "demo": demo,
    "reconstruct": reconstruct,
    "train": train,
    "evaluate": evaluate,
    "convert": convert,
}
DATA_COMMANDS: dict[str, Callable] = {**COLLECTION_COMMANDS, **IMPORT_COMMANDS}
GROUPS = {"data": DATA_COMMANDS, "transfer": TRANSFER_COMMANDS, "bench": BENCH_COMMANDS}

HELP = """tars3d: one photo of an object to a 3D mesh with dense correspondences

  tars3d demo                          sample pictures to meshes, and a page to look at
  tars3d reconstruct IMAGE...          pictures to meshes
  tars3d train DATA... --out RUN       learn a category from pictures, masks and cameras
  tars3d evaluate DATA --model M       the paper's metrics
  tars3d convert FILE --out DIR        official TARS and SDF-SRN checkpoints to models
  tars3d data render|check             make or check image collections
  tars3d data import-photos PHOTOS     your own photos and their viewpoints as a collection
  tars3d data import-shapenet|import-pascal3d|import-cub|import-pix3d|import-keypoints
                                       published data sets, or masks and keypoints, as collections
  tars3d data cameras DIR              cameras from keypoints
  tars3d data pack DIR --shards OUT    a large collection as shards that training streams
  tars3d bench speed                   time the published system and this one side by side
  tars3d transfer texture|labels|keypoints SOURCE TARGET...
                                       from one object to others, through the category's canonical shape
  tars3d bench correspondence          how well labels and keypoints move between objects
  tars3d bench table1|table2|table3|table4|figure8 --data DATA... [--budget MINUTES]
                                       the paper's tables, trained and measured on given collections

tars3d COMMAND --help shows a command's options, with units and defaults."""


def main(arguments: list[str] | None = None) -> None:
    """Entry point: exit code 0 only on success; what the user can mend is one line on stderr."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(HELP)
        sys.exit(0 if arguments else 2)
    if arguments[0] == "--version":
        from tars3d import __version__

        print(__version__)
        return
    commands, program = COMMANDS, "tars3d"
    if arguments[0] in GROUPS:
        commands, program, arguments = GROUPS[arguments[0]], f"tars3d {arguments[0]}", arguments[1:]
    try:
        tyro.extras.subcommand_cli_from_dict(commands, prog=program, args=arguments, sort_subcommands=False)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(130)
    except (MemoryError, OSError, RuntimeError) as error:
        said = str(error)
        if not isinstance(error, OSError):
            if not says_out_of_memory(f"{type(error).__name__}: {error}"):
                raise
            said = "out of memory; choose a smaller --resolution or --preset where the command has one, or a device with more memory"
        print(f"error: {said}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
