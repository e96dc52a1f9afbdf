"""The command line. Each command is a function: its arguments, then a call of the room that does the work. Where these are many, they are fields
of a dataclass beside that room, which tyro reads.

Heavy imports happen inside the functions, so that `tars3d --help` answers at once.
"""

import contextlib
import difflib
import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Annotated, Literal

import tyro

from tars3d.arguments import Device
from tars3d.cli_bench import BENCH_COMMANDS
from tars3d.cli_collections import COLLECTION_COMMANDS
from tars3d.cli_data import IMPORT_COMMANDS
from tars3d.cli_transfer import TRANSFER_COMMANDS
from tars3d.errors import UserError, says_out_of_memory
from tars3d.evaluate.options import EvaluateOptions
from tars3d.reconstruct_files import ReconstructOptions, reconstruct_files
from tars3d.training.options import TrainOptions

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
    images: Positional[tuple[Path, ...]], options: Annotated[ReconstructOptions, tyro.conf.arg(name="")]
) -> None:
    """Turn pictures into meshes: NAME.glb (Y up, vertex colours) and, if the model has a canonical space, NAME.canonical.npz beside it.

    Where the picture's camera is found, also NAME.camera.json and NAME.overlay.png, the mesh drawn over the picture. With --together, the mesh
    of all pictures is named after the first.

    Args:
        images: RGBA pictures, or RGB on a plain background.
    """
    from tars3d.progress import say

    for path, notes in reconstruct_files(images, options):
        say(f"{path}" + "".join(f"\n  note: {note}" for note in notes))


def train(
    data: Positional[tuple[str, ...]], out: Path, options: Annotated[TrainOptions, tyro.conf.arg(name="")]
) -> None:
    """Learn a category from collections of pictures, masks and cameras: the whole curriculum, resumable anywhere.

    Args:
        data: image collections, or packed ones (`data pack`; folders or URLs such as s3://bucket/chairs); several are mixed.
        out: run folder for state, model, logs and report.
    """
    from tars3d.training.run import saying_how_to_go_on, train_run

    with saying_how_to_go_on(out):
        model = train_run(data, out, options)
    print(f"{model}\n{out / 'report.html'}")


def evaluate(data: Positional[Path], options: Annotated[EvaluateOptions, tyro.conf.arg(name="")]) -> None:
    """Measure a model on a collection with ground truth: the paper's metrics as a table, metrics.json and pictures.

    Where no object has ground truth, the silhouette from the input view is compared with the mask, and nothing else: from the annotated
    camera, and from the one that the model finds in the picture.

    Args:
        data: image collection, with ground truth if there is any.
    """
    from tars3d.evaluate.evaluation import evaluate_collection

    evaluate_collection(data, options)


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

usage: tars3d COMMAND ...

  demo                        sample pictures to meshes, and a page to look at
  reconstruct IMAGE...        pictures to meshes
  transfer texture|labels|keypoints SOURCE TARGET...
                              from one object to others, through canonical space
  train DATA... --out RUN     learn a category from pictures, masks and cameras
  evaluate DATA --model M     the paper's metrics
  data import-photos PHOTOS   own photos and their viewpoints as a collection
  data import-transforms DIR  photos with cameras of COLMAP or a NeRF tool
  data render|check           draw a collection of 3D objects, or check any one
  data mix MESHES --out DIR   new meshes of chairs, each of parts of two
  data import-shapenet|import-pascal3d|import-cub|import-pix3d|import-keypoints
                              published data sets, or masks and keypoints
  data cameras DIR            cameras from keypoints
  data pack DIR --shards OUT  a large collection as shards that training streams
  convert FILE --out DIR      official TARS and SDF-SRN checkpoints to models
  bench speed                 time the published system beside this one
  bench correspondence        how well labels and keypoints move between objects
  bench table1|table2|table3|table4|figure8 --data DATA... [--budget MINUTES]
                              the paper's tables, measured on given collections

tars3d COMMAND --help shows a command's options, with units and defaults;
tars3d --version shows the version."""


def main(arguments: list[str] | None = None) -> None:
    """Entry point: exit code 0 only on success; what the user can mend is one line on stderr."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        with _interruptible():
            _run(arguments)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(130)
    except (MemoryError, OSError, RuntimeError) as error:
        said = str(error)
        if isinstance(error, BrokenPipeError) and _is_unread():  # who reads has seen enough, as `head` has
            sys.exit(141)
        if not isinstance(error, OSError):
            if not says_out_of_memory(f"{type(error).__name__}: {error}"):
                raise
            said = "out of memory; choose a smaller --resolution or --preset where the command has one, or a device with more memory"
        print(f"error: {said}", file=sys.stderr)
        sys.exit(1)


def _run(arguments: list[str]) -> None:
    """What the words after `tars3d` ask for."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(HELP, flush=True)
        sys.exit(0 if arguments else 2)
    if arguments[0] == "--version":
        from tars3d import __version__

        print(__version__, flush=True)
        return
    commands, program = COMMANDS, "tars3d"
    if arguments[0] in GROUPS:
        commands, program, arguments = GROUPS[arguments[0]], f"tars3d {arguments[0]}", arguments[1:]
    name, *rest = arguments or ["--help"]
    name = name if name.startswith("-") else name.replace("_", "-")
    if name in commands:
        tyro.cli(commands[name], prog=f"{program} {name}", args=rest)
    elif name in ("-h", "--help"):
        with contextlib.suppress(SystemExit):
            tyro.extras.subcommand_cli_from_dict(commands, prog=program, args=["--help"], sort_subcommands=False)
        sys.exit(0 if arguments else 2)
    else:
        known = [*commands, *(GROUPS if commands is COMMANDS else ())]
        likely = "".join(f"did you mean {near}? " for near in difflib.get_close_matches(name, known, 1))
        print(f"error: {program} has no command {name}; {likely}{program} --help lists them", file=sys.stderr)
        sys.exit(2)


def _is_unread() -> bool:
    """Whether the reader of stdout has gone; what is left to print is dropped then."""
    stdout = 1
    asked = select.poll()
    asked.register(stdout, 0)
    gone = any(event & select.POLLERR for _, event in asked.poll(0))
    if gone:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stdout)
    return gone


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C stops a command while it imports as well: libraries that look for optional modules catch KeyboardInterrupt, too."""

    def stop(number: int, frame: FrameType | None) -> None:
        while frame is not None:
            if frame.f_code.co_filename.startswith("<frozen importlib"):
                print("stopped", file=sys.stderr, flush=True)
                os._exit(130)
            frame = frame.f_back
        raise KeyboardInterrupt

    is_main = threading.current_thread() is threading.main_thread()
    # A shell's background job ignores Ctrl-C, and stays so.
    if not is_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


if __name__ == "__main__":
    main()
