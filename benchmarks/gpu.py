"""What `make gpu` does on a machine with a CUDA device, within a budget: GPU tests, the speed benchmark, then training.

    python benchmarks/gpu.py [--minutes 25] [--models chair car airplane] [--data NAME=DIR,DIR...] [--runs runs] [--skip tests bench] [--out DIR]

Any Python that has what tars3d needs will do (`make gpu INSTALLED=python3`): the sources beside this file need not be installed.

The shipped models are trained all at once, each in its run folder, RUNS/NAME-gpu, where train.log says how it goes. The first time a run starts
from the shipped model, with as many steps as end within the minutes (`tars3d train --start NAME --fit`), on the collections of --data, or else on
procedural objects that are rendered first, which needs mitsuba. Run it again and what was stopped goes on.

A run folder is too large to be carried between machines of small limits; --out gets what is not: of each model NAME.safetensors, history, report and
log when its training ends, and the benchmark's figures. `tars3d train DATA --start DIR/NAME.safetensors` goes on from that elsewhere.
"""

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
MODELS = ("chair", "car", "airplane")
RESERVE = 0.75  # minutes for the last save and the report of a training
LEAST = 1.5  # minutes in which a training is worth its start
FULL_BENCH = 20.0  # minutes in all from which the benchmark is the whole one
OBJECTS = 300  # procedural objects, where no collection is given
KEPT = {"model.safetensors": ".safetensors", "history.jsonl": ".jsonl", "report.html": ".html", "train.log": ".log"}


class Commands:
    """Commands in processes of their own, which end with this one: `stop` is made to handle its signals."""

    def __init__(self):
        self.stopped = False
        self._running: set[int] = set()

    def stop(self, *_: object) -> None:
        """End what runs, and start nothing more."""
        self.stopped = True
        for process in list(self._running):
            _kill(process)

    def call(self, *arguments: str, minutes: float, log: Path | None = None) -> bool:
        """Run a module of Python; False where it failed or took longer than it may. Its output goes to the end of `log`, if there is one."""
        if self.stopped:
            return False
        print("$", *arguments, f">> {log}" if log else "", flush=True)
        path = os.pathsep.join([str(ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH")])])
        command, environment = [sys.executable, "-m", *arguments], {**os.environ, "PYTHONPATH": path}
        with open(log, "ab") if log else contextlib.nullcontext() as out:
            errors = subprocess.STDOUT if out else None
            process = subprocess.Popen(command, env=environment, stdout=out, stderr=errors, start_new_session=True)
            self._running.add(process.pid)
            try:
                return not self.stopped and process.wait(60 * minutes) == 0
            except subprocess.TimeoutExpired:
                print(f"{' '.join(arguments[:3])}: stopped after {minutes:.1f} minutes", file=sys.stderr)
                return False
            finally:  # whatever it has started ends with it, or the next one would share cores and device with it
                self._running.discard(process.pid)
                _kill(process.pid)
                process.wait()


def _kill(process: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process, signal.SIGKILL)


def collection(text: str) -> tuple[str, list[str]]:
    """NAME=DIR,DIR: a model and the folders that it is trained on."""
    name, _, folders = text.partition("=")
    found = [folder for folder in folders.split(",") if folder]
    if name not in MODELS or not found:
        raise argparse.ArgumentTypeError(f"{text}: give NAME=DIR,DIR with one of {', '.join(MODELS)}")
    for folder in found:
        if "://" not in folder and not Path(folder).is_dir():
            raise argparse.ArgumentTypeError(f"{folder}: no such folder; check the path")
    return name, found


def refusals(runs: dict[str, Path], data: dict[str, list[str]]) -> Iterator[str]:
    """Why this cannot work here."""
    if not torch.cuda.is_available():
        if torch.version.cuda is None:
            yield f"PyTorch {torch.__version__} is built without CUDA; install a build with it, or name a Python that has one: make gpu INSTALLED=python3"
        else:
            yield "no CUDA device here; `make test` runs everything that needs none"
    for name, run in runs.items():
        if name not in data and not begun(run) and find_spec("mitsuba") is None:
            yield (
                f"{name}: has no pictures to train on, and mitsuba, which renders some, is not installed; give --data {name}=DIR, "
                "pip install -c constraints.txt -e '.[render]', or leave it out of --models"
            )


def begun(run: Path) -> bool:
    """Whether there is a run to go on with."""
    return (run / "state.safetensors").exists()


def train(
    commands: Commands, name: str, run: Path, data: list[str], *, threads: int, left: Callable[[], float]
) -> bool:
    """Train the model `name` for the minutes that are left, rendering pictures first where there are none."""
    run.mkdir(parents=True, exist_ok=True)
    log, resumed = run / "train.log", begun(run)
    if not resumed and not data:
        folder = str(Path("data") / f"gpu-{name}")
        size = ["--count", str(OBJECTS), "--views", "12", "--size", "128", "--photos", "--val", "6"]
        render = ["tars3d.cli", "data", "render", f"procedural:{name}", "--out", folder, "--workers", str(threads)]
        if not commands.call(*render, *size, minutes=left(), log=log):
            return False  # what is rendered is kept; the next call goes on
        data = [folder]
    if left() < LEAST:
        print(f"{name}: no time is left to train; run this again, or give more --minutes", file=sys.stderr)
        return False
    where = ["--out", str(run), "--device", "cuda", "--threads", str(threads)]
    how = ["--resume"] if resumed else ["--start", name, "--fit"]
    command = ["tars3d.cli", "train", *data, *where, *how, "--minutes", f"{left() - RESERVE:.2f}"]
    return commands.call(*command, minutes=left(), log=log)


def keep(source: Path, target: Path) -> None:
    """Copy a file, if there is one, whole or not at all."""
    if source.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.partial")
        shutil.copyfile(source, partial)
        partial.replace(target)


def tail(log: Path, lines: int = 12) -> str:
    """The end of a log."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:]) if log.exists() else ""


def main() -> int:
    """Exit code 0 only if everything that ran succeeded."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=25.0, help="for everything together")
    parser.add_argument("--models", nargs="*", choices=MODELS, default=list(MODELS), help="which; no name for none")
    parser.add_argument("--data", nargs="*", type=collection, default=[], metavar="NAME=DIR,DIR")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--json", type=Path, default=Path("speed-cuda.json"), help="the benchmark's figures")
    parser.add_argument("--skip", nargs="*", choices=("tests", "bench"), default=[])
    parser.add_argument("--out", type=Path, help="folder for what is small enough to be carried away")
    arguments = parser.parse_args()
    runs = {name: arguments.runs / f"{name}-gpu" for name in arguments.models}
    data = dict(arguments.data)
    if reasons := list(refusals(runs, data)):
        print("\n".join(f"error: {reason}" for reason in reasons), file=sys.stderr)
        return 1
    commands = Commands()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, commands.stop)
    deadline = time.monotonic() + 60 * arguments.minutes

    def left() -> float:
        return (deadline - time.monotonic()) / 60

    good = True
    if "tests" not in arguments.skip:
        tests = ["pytest", "-p", "no:xdist", "-m", "gpu", "-s", str(ROOT / "tests" / "test_gpu.py")]
        good &= commands.call(*tests, minutes=max(1.0, 0.2 * arguments.minutes))
    if "bench" not in arguments.skip:
        figures, chart = arguments.json, arguments.json.with_suffix(".svg")
        bench = ["tars3d.cli", "bench", "speed", "--device", "cuda", "--json", str(figures), "--chart", str(chart)]
        quick = ["--quick"] if arguments.minutes < FULL_BENCH else []
        good &= commands.call(*bench, *quick, minutes=max(1.0, 0.3 * arguments.minutes))
        for file in (figures, chart) if arguments.out else ():
            keep(file, arguments.out / file.name)
    # One training waits for its one thread of Python most of the time, and leaves the device to the others.
    threads = max(1, len(os.sched_getaffinity(0)) // max(1, len(runs)))

    def trained(name: str) -> bool:
        ended = train(commands, name, runs[name], data.get(name, []), threads=threads, left=left)
        print(f"{name}: {'ended well' if ended else 'did not end well'}\n{tail(runs[name] / 'train.log')}", flush=True)
        for file, suffix in KEPT.items() if arguments.out else ():
            keep(runs[name] / file, arguments.out / f"{name}{suffix}")
        return ended

    with ThreadPoolExecutor(max(1, len(runs))) as pool:
        good &= all(list(pool.map(trained, runs)))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
