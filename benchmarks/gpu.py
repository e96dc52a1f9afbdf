"""What `make gpu` does on a machine with a CUDA device, within a budget: GPU tests, the speed benchmark, then training.

    python benchmarks/gpu.py [--minutes 25] [--run runs/chair] [--data DATA...]

Training goes on with the run in --run where there is one (a shipped model's file holds no training state, its run folder
does); else it begins one, on --data or on procedural chairs that it renders first. Run it again and it goes on again.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

import torch

RESERVE = 2.0  # minutes for start, last save and report of the training


def call(*arguments: str, minutes: float) -> bool:
    """Run a command; False where it failed or took longer than it may."""
    print("$", *arguments, flush=True)
    try:
        return subprocess.run([sys.executable, "-m", *arguments], timeout=60 * minutes, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        print(f"stopped after {minutes:.0f} minutes", file=sys.stderr)
        return False


def main() -> int:
    """Exit code 0 only if everything that ran succeeded."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=25.0, help="for everything together")
    parser.add_argument("--run", type=Path, default=Path("runs/chair"))
    parser.add_argument("--data", nargs="*", type=Path, default=[])
    parser.add_argument("--json", type=Path, default=Path("speed-cuda.json"))
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        print("error: no CUDA device here; `make test` runs everything that needs none", file=sys.stderr)
        return 1
    started = time.monotonic()

    def left() -> float:
        return arguments.minutes - (time.monotonic() - started) / 60

    good = call("pytest", "-p", "no:xdist", "-m", "gpu", "-s", "tests", minutes=max(1.0, 0.2 * arguments.minutes))
    bench = ["tars3d.cli", "bench", "speed", "--device", "cuda", "--json", str(arguments.json)]
    good &= call(*bench, "--chart", str(arguments.json.with_suffix(".svg")), minutes=max(1.0, 0.4 * arguments.minutes))
    resumed, data = (arguments.run / "state.safetensors").exists(), arguments.data
    if not resumed and not data:
        data = [Path("data/procedural-chair")]
        if not data[0].exists():
            render = ["tars3d.cli", "data", "render", "procedural:chair", "--out", str(data[0]), "--count", "300"]
            good &= call(*render, minutes=max(1.0, left() - RESERVE))
    if left() > RESERVE + 0.5:
        train = ["tars3d.cli", "train", *map(str, data), "--out", str(arguments.run), "--device", "cuda"]
        train += ["--minutes", f"{left() - RESERVE:.2f}", *(["--resume"] if resumed else [])]
        good &= call(*train, minutes=left())
    else:
        print("no time is left to train; give more --minutes", file=sys.stderr)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
