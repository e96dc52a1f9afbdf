"""What several commands are told: the words to choose from, and checks before any work of the device, the threads, the grid, the steps of
refining, counts, and where results go. Light to import, as the command line does it at once.
"""

import math
import os
from collections.abc import Iterable, Mapping
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from tars3d.errors import UserError

if TYPE_CHECKING:
    import torch

MAX_RESOLUTION = 1024
FEWEST_FACES = 100
"""That a mesh may be simplified to."""
TEXTURED_FACES = 10_000
"""Of a mesh with an image texture, unless told otherwise: to unwrap ten times as many takes a hundred times as long, and its detail is in the texture."""
MAX_REFINE_STEPS = 1000
MAX_SEED = 2**32 - 1

Device = Literal["auto", "cpu", "cuda"]
CameraMode = Literal["auto", "search", "none"]
OutlineMode = Literal["auto", "always", "none"]
"""Whether a mesh is bent to its picture's outline (`photo.outline`): where there is a camera, always (one is searched for), or not."""
ColorMode = Literal["photo", "model"]
"""Where vertices have their colours from: the pictures, as far as they show them, or the model alone."""
Symmetric = Literal["auto", "yes", "no"]
"""Whether objects of a category are alike left and right: as presets and names of categories say, yes, or no."""
Background = Literal["none", "white", "auto"]
"""How an object without mask and alpha is told from its background: not at all; as what stands out from a plain background, white or of
any other colour (`data.plain_background`); or by rembg, from any background (`data.background`)."""
Projection = Literal["perspective", "orthographic"]
"""Of an imported camera."""
Units = Literal["object", "crop"]
"""What is 1 long: the object's longest side, or half the side of the published square crop (as in the paper)."""
Front = Literal["auto", "-z", "+z", "-x", "+x"]
"""Which way imported models face in their own frame."""
Aim = Literal["mask", "picture"]
"""In the middle of which an imported photo shows the object's middle."""
Placement = Literal["masks", "keypoints"]
"""What tells where a camera from keypoints has its object in the picture."""


def choose_device(device: str) -> "torch.device":
    """`auto` takes CUDA where there is one.

    Raises:
        UserError: cuda was asked for and there is none, or it is none of the three.
    """
    import torch

    if device not in get_args(Device):
        raise UserError(f"--device {device}: choose auto, cpu or cuda")
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device == "cuda" and not torch.cuda.is_available():
        lacking = "PyTorch is built without CUDA" if torch.version.cuda is None else "there is no CUDA device"
        raise UserError(f"--device cuda: {lacking} here; use --device cpu")
    return torch.device(device)


def check_threads(threads: int | None) -> int:
    """The CPU threads to take: as many as asked for, one per core that may be used where nothing was said.

    Raises:
        UserError: fewer than one.
    """
    check_at_least(1, threads=threads)
    return threads or usable_cores()


def check_at_least(least: int, **values: float | None) -> None:
    """Refuse options, given by their names, that are below the least that makes sense; None was not given."""
    for name, value in values.items():
        if value is not None and not value >= least:
            cure = f"at least {least}" if least else "0 or more"
            raise UserError(f"--{name.replace('_', '-')} {value}: give {cure}")


def check_seed(seed: int) -> None:
    """Refuse seeds that some random generator does not take."""
    if not _is_whole(seed):
        raise UserError(f"--seed {seed}: give a whole number")
    check_at_least(0, seed=seed)
    if seed > MAX_SEED:
        raise UserError(f"--seed {seed}: give {MAX_SEED} at most")


def _is_whole(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def check_positive(**values: float | None) -> None:
    """Refuse options, given by their names, that are not positive and finite; None was not given."""
    for name, value in values.items():
        if value is not None and not 0 < value < math.inf:
            raise UserError(f"--{name.replace('_', '-')} {value}: give a positive number")


def check_overwriting(read: Iterable[Path], results: Mapping[Path, Iterable[Path]]) -> None:
    """Refuse to write over what is read, which a second run would read instead.

    Args:
        results: what is written of each input.
    """
    kept = {path.resolve(): path for path in read}
    for source, written in results.items():
        for path in written:
            if path.resolve() in kept:
                raise UserError(
                    f"{source}: its results would overwrite {kept[path.resolve()]}, which is read; leave it out, or choose another --out"
                )


def check_choice(choices: Any, **values: str) -> None:
    """Refuse options, given by their names, that are none of the words of a `Literal`: Python callers may give any."""
    for name, value in values.items():
        if value not in get_args(choices):
            raise UserError(f"--{name} {value}: choose one of {', '.join(get_args(choices))}")


def check_folder(out: Path) -> None:
    """Refuse a folder for results that is a file, before any work."""
    taken = next((path for path in (out, *out.parents) if path.exists()), None)
    if taken is not None and not taken.is_dir():
        raise UserError(f"--out {out}: {taken} is a file; choose a folder")


def check_refine(steps: int, camera: CameraMode, *, pictures: int = 1) -> None:
    """Refuse numbers of refining steps that make no sense, and to fit a code to several pictures of an object."""
    if not _is_whole(steps) or not 0 <= steps <= MAX_REFINE_STEPS:
        raise UserError(f"--refine {steps}: choose a whole number of steps from 0 to {MAX_REFINE_STEPS}")
    if steps and camera == "none":
        raise UserError("--refine: needs the picture's camera; leave out --camera none")
    if steps and pictures > 1:
        raise UserError("--refine: fits the code to one picture; leave it out where several show one object")


def check_outline(outline: OutlineMode, camera: CameraMode) -> None:
    """Refuse to bend a mesh to an outline that no camera sees."""
    check_choice(OutlineMode, outline=outline)
    if outline == "always" and camera == "none":
        raise UserError("--outline always: needs the picture's camera; leave out --camera none")


def check_resolution(resolution: int) -> None:
    """Refuse grids that make no sense or no longer fit into memory."""
    if not _is_whole(resolution) or not 8 <= resolution <= MAX_RESOLUTION:
        raise UserError(f"--resolution {resolution}: choose a whole number from 8 to {MAX_RESOLUTION}")
    needed, free = 12 * resolution**3, free_memory()  # values, mask and marching cubes' own copies, bytes
    if free is not None and needed > free:
        raise UserError(
            f"--resolution {resolution}: needs {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free; choose a smaller one"
        )


def free_memory() -> int | None:
    """Bytes that a process could still take, files that the system only keeps at hand not counted as used; None where that is not known."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError, IndexError):
        return None


def usable_cores() -> int:
    """Cores that this process may run on."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        return os.cpu_count() or 1
