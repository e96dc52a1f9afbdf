"""What `make gpu` does on a machine with a CUDA device, within a budget: GPU tests, the speed benchmark, then training.

    python benchmarks/gpu.py [--minutes 25] [--models chair car airplane] [--data NAME=DIR,DIR...] [--runs runs]

The shipped models share the time that is left. Each goes on in its run folder, RUNS/NAME-gpu; the first time it starts there from the shipped
model (`tars3d train --start NAME`), on the collections of --data, or else on procedural objects that are rendered first.
Run it again and everything goes on again; a run that is finished is passed over.
"""

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch

MODELS = ("chair", "car", "airplane")
RESERVE = 2.0  # minutes for start, hulls, last save and report of a training
OBJECTS = 300  # procedural objects, where no collection is given


def call(*arguments: str, minutes: float) -> bool:
    """Run a command; False where it failed or took longer than it may."""
    print("$", *arguments, flush=True)
    with subprocess.Popen([sys.executable, "-m", *arguments], start_new_session=True) as process:
        try:
            return process.wait(60 * minutes) == 0
        except subprocess.TimeoutExpired:
            print(f"{' '.join(arguments[:3])}: stopped after {minutes:.0f} minutes", file=sys.stderr)
            return False
        finally:  # whatever it has started ends with it, or the next one would share cores and device with it
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def collections(name: str, given: list[str]) -> list[str]:
    """The folders of `NAME=DIR,DIR` for a model, or none."""
    for entry in given:
        model, _, folders = entry.partition("=")
        if model == name:
            return folders.split(",")
    return []


def train(name: str, run: Path, data: list[str], minutes: float) -> bool:
    """Train the model `name` for so many minutes, rendering pictures first where there are none."""
    deadline = time.monotonic() + 60 * minutes

    def left() -> float:
        return (deadline - time.monotonic()) / 60

    resumed = (run / "state.safetensors").exists()
    if not resumed and not data:
        folder = Path("data") / f"gpu-{name}"
        size = ["--count", str(OBJECTS), "--views", "12", "--size", "128", "--elevation", "0", "40", "--val", "6"]
        if not call("tars3d.cli", "data", "render", f"procedural:{name}", "--out", str(folder), *size, minutes=left()):
            return False  # what is rendered is kept; the next call goes on
        data = [str(folder)]
    if left() < 2 * RESERVE:
        print(f"{name}: no time is left to train; run this again, or give more --minutes", file=sys.stderr)
        return False
    command = [
        "tars3d.cli",
        "train",
        *data,
        "--out",
        str(run),
        "--device",
        "cuda",
        "--minutes",
        f"{left() - RESERVE:.2f}",
    ]
    return call(*command, *(["--resume"] if resumed else ["--start", name]), minutes=left())


def main() -> int:
    """Exit code 0 only if everything that ran succeeded."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=25.0, help="for everything together")
    parser.add_argument("--models", nargs="*", choices=MODELS, default=list(MODELS))
    parser.add_argument("--data", nargs="*", default=[], metavar="NAME=DIR,DIR")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--json", type=Path, default=Path("speed-cuda.json"))
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        print("error: no CUDA device here; `make test` runs everything that needs none", file=sys.stderr)
        return 1
    deadline = time.monotonic() + 60 * arguments.minutes
    good = call("pytest", "-p", "no:xdist", "-m", "gpu", "-s", "tests", minutes=max(1.0, 0.2 * arguments.minutes))
    bench = ["tars3d.cli", "bench", "speed", "--device", "cuda", "--json", str(arguments.json)]
    good &= call(*bench, "--chart", str(arguments.json.with_suffix(".svg")), minutes=max(1.0, 0.3 * arguments.minutes))
    for number, name in enumerate(arguments.models):
        share = (deadline - time.monotonic()) / 60 / (len(arguments.models) - number)
        good &= train(name, arguments.runs / f"{name}-gpu", collections(name, arguments.data), share)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
