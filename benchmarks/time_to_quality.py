"""Time to a good model: when `compact` passes what the published system, written down plainly, reaches in twenty minutes.

    python benchmarks/time_to_quality.py DATA [--minutes 20] [--out runs/time-to-quality] [--threads N]

Both learn from the train split of the same collection on the same machine, one after the other: first the plain transcription
(`tars3d.bench.plain`; networks of `paper-shapenet`, stage 1, batch 4, 256 rays and 1,000 points a picture), then the preset `compact`.
Each is measured at marks of its own training time, by the Chamfer distance x10 of held-out pictures of the val split; the time of the
measurements does not count, nor does reading pictures, nor, for the plain side, its start from a sphere. Networks of both start from
random weights. `compact` stops at the first mark where it is better than the plain side ever was. Killed, it goes on when called again.
"""

import argparse
import contextlib
import dataclasses
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tars3d.atomic import atomic_path
from tars3d.bench import plain
from tars3d.config import Preset, Stage
from tars3d.convert import published_name
from tars3d.data.bank import PictureBank, load_bank
from tars3d.data.collection import load_collection
from tars3d.errors import UserError
from tars3d.evaluate.metrics import score_reconstruction
from tars3d.methods.base import Method
from tars3d.methods.surface import surface_of
from tars3d.methods.tars import TARS
from tars3d.objectives import weighted_sum
from tars3d.presets import compact, scaled
from tars3d.progress import console, progress_bar
from tars3d.published_presets import paper_shapenet
from tars3d.training.allocator import keep_freed_memory
from tars3d.training.monitor import PROTOCOL, SAMPLES, is_deformed
from tars3d.training.open_data import ground_truth_of
from tars3d.training.run_folder import Place, RunFolder
from tars3d.training.stages import ReconstructStage, SphereStage
from tars3d.training.trainer import Progress, train

CPU = torch.device("cpu")
FRACTIONS = (
    1 / 80,
    1 / 40,
    3 / 80,
    1 / 20,
    3 / 40,
    1 / 10,
    3 / 20,
    1 / 5,
    3 / 10,
    2 / 5,
    1 / 2,
    3 / 5,
    7 / 10,
    4 / 5,
    9 / 10,
    1.0,
)
"""Marks, in parts of the whole time: 15 s, 30 s, 45 s, 1 min, ... of twenty minutes."""
SPHERE = Stage(name="sphere", kind="sphere", batch=4, points=1000, point_range=1.0, radius=0.5)
SMALL = {"batch": 4, "rays": 256, "points": 1000}


class Passed(Exception):
    """`compact` was better than the plain side ever was."""


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """What both sides are measured on.

    Attributes:
        bank: the val split's pictures, as a side's networks see them.
        pictures: those that are measured.
    """

    bank: PictureBank
    pictures: list[int]
    truth: Callable[[int], Any]
    bound: float
    resolution: int

    @torch.no_grad()
    def chamfer_x10(self, method: TARS, *, deformed: bool) -> float:
        """Mean over the pictures; an empty surface counts as a point at the origin."""
        training = method.training
        method.eval()
        found = []
        for number in self.pictures:
            shape = method.shape(method.encode(self.bank.images(torch.tensor([number]))), deformed=deformed)
            mesh = surface_of(shape, bound=self.bound, resolution=self.resolution, device=CPU).mesh
            points, normals = self.truth(int(self.bank.instance[number]))
            score = score_reconstruction(mesh, points[:SAMPLES], normals[:SAMPLES], seed=0, protocol=PROTOCOL)
            found.append(score.chamfer_x10)
        method.train(training)
        return float(np.mean(found))


class Marks:
    """Measures a side at its marks and keeps what it found in a file."""

    def __init__(self, file: Path, minutes: float, stop_below: float | None = None):
        self.file, self.stop_below = file, stop_below
        self.due = [60 * minutes * part for part in FRACTIONS]
        self.rows: list[dict[str, float]] = json.loads(file.read_text()) if file.exists() else []

    @property
    def away(self) -> float:
        """Seconds spent on measuring so far."""
        return sum(row["measuring"] for row in self.rows)

    def forget_from(self, step: int) -> None:
        """Leave what was measured at a step or later: an interrupted run comes there again."""
        self.rows = [row for row in self.rows if row["step"] < step]

    @property
    def finished(self) -> bool:
        """All marks are measured, or the one that ends the race."""
        return len(self.rows) == len(self.due) or (
            self.stop_below is not None and bool(self.rows) and self.rows[-1]["chamfer_x10"] < self.stop_below
        )

    def is_due(self, seconds: float) -> bool:
        """Whether a mark is reached after so many seconds of training."""
        return not self.finished and seconds >= self.due[len(self.rows)]

    def measure(self, seconds: float, step: int, value_of: Callable[[], float]) -> None:
        """Write down the value at the mark that is due."""
        start = time.monotonic()
        value = value_of()
        row = {"seconds": seconds, "step": step, "chamfer_x10": value, "measuring": time.monotonic() - start}
        while len(self.rows) < len(self.due) and self.due[len(self.rows)] <= seconds:
            self.rows.append(row)  # a long step can pass several marks
            row = {**row, "measuring": 0.0}
        with atomic_path(self.file) as temporary:
            temporary.write_text(json.dumps(self.rows, indent=1))


def train_plainly(bank: PictureBank, held: HeldOut, marks: Marks, run: RunFolder, seed: int, sphere_steps: int) -> None:
    """Train the plain transcription to its last mark."""
    if marks.finished:
        return
    torch.manual_seed(seed)
    preset = paper_shapenet()
    method = TARS(dataclasses.replace(preset.model, encoder_hub_id=None))
    saved = run.read_state()
    if saved is None:
        _start_from_sphere(method, preset, bank, sphere_steps)
    state = plain.networks_of(plain.state_of(method), 1)
    place = Place()
    if saved is not None:
        for name, value in state.items():
            value.detach().copy_(saved[0][f"network.{name}"])
        place = saved[1]
    trained = {name: value for name, value in state.items() if value.requires_grad}
    optimizer = torch.optim.Adam(list(trained.values()), lr=1e-4)
    for name, value in trained.items():
        if saved is not None and f"adam.{name}.step" in saved[0]:
            kinds = ("step", "exp_avg", "exp_avg_sq")
            optimizer.state[value] = {kind: saved[0][f"adam.{name}.{kind}"] for kind in kinds}

    runner = ReconstructStage(
        method, dataclasses.replace(preset.training.stages[1], **SMALL), preset.training, bank, seed
    )
    step, seconds = place.step, place.seconds

    def save() -> None:
        tensors = {f"network.{name}": value for name, value in state.items()}
        for name, value in trained.items():
            tensors |= {f"adam.{name}.{kind}": entry for kind, entry in optimizer.state.get(value, {}).items()}
        run.write_state(tensors, Place(step=step, seconds=seconds))

    if saved is None:
        save()
    with progress_bar() as bar:
        task = bar.add_task("plain, seconds", total=marks.due[-1], completed=int(seconds))
        while not marks.finished:
            start = time.monotonic()
            optimizer.zero_grad()
            weighted_sum(plain.drawn_losses(runner, state, 1, step), runner.stage.losses).backward()
            optimizer.step()
            step, seconds = step + 1, seconds + time.monotonic() - start
            bar.update(task, completed=seconds)
            if not marks.is_due(seconds):
                continue
            own = method.state_dict()
            names = {name: published_name(name, "tars") for name in own if name != "octave_weights"}
            method.load_state_dict(
                {name: state[there].detach() for name, there in names.items() if there in state}, strict=False
            )
            save()
            marks.measure(seconds, step, lambda: held.chamfer_x10(method, deformed=False))


def _start_from_sphere(method: TARS, preset: Preset, bank: PictureBank, steps: int) -> None:
    """Stage 0, which every run shares; its time is given to the plain side."""
    runner = SphereStage(method, SPHERE, preset.training, bank, 0)
    optimizer = torch.optim.Adam(list(runner.parameters()), lr=SPHERE.learning_rate, fused=True)
    with progress_bar() as bar:
        for step in bar.track(range(steps), description="plain, sphere"):
            optimizer.zero_grad(set_to_none=True)
            runner.losses(step).total.backward()
            optimizer.step()


def train_ours(bank: PictureBank, held: HeldOut, marks: Marks, run: RunFolder, preset: Preset) -> None:
    """Train `compact` until it has passed, or to its last mark."""
    if marks.finished:
        return
    with progress_bar() as bar, contextlib.suppress(Passed):
        task = bar.add_task("compact, seconds", total=marks.due[-1])
        first = True

        def watch(method: Method, progress: Progress) -> None:
            nonlocal first
            assert isinstance(method, TARS)
            if first:  # `progress.seconds` holds only what was measured before the state that was saved
                marks.forget_from(progress.total_steps)
                first = False
            seconds = progress.seconds - marks.away
            bar.update(task, completed=seconds)
            if marks.is_due(seconds):
                deformed = is_deformed(progress.stage)
                marks.measure(seconds, progress.total_steps, lambda: held.chamfer_x10(method, deformed=deformed))
            if marks.finished:
                raise Passed

        train(preset, bank, run, device=CPU, watch=watch, watch_every=20)


def table(plain_rows: list[dict], our_rows: list[dict], minutes: float) -> Iterator[str]:
    """The lines that are printed."""
    yield f"{'mark':>8s} {'plain step':>10s} {'CD x10':>7s} {'compact step':>12s} {'CD x10':>7s}"
    for number, part in enumerate(FRACTIONS):
        cells = [f"{60 * minutes * part:7.0f}s"]
        for rows, width in ((plain_rows, 10), (our_rows, 12)):
            row = rows[number] if number < len(rows) else None
            cells += ["".rjust(width), "".rjust(7)] if row is None else [
                str(row["step"]).rjust(width), f"{row['chamfer_x10']:7.3f}"
            ]  # fmt: skip
        yield " ".join(cells)


def main() -> int:
    """Exit code 0 where the race was run to its end, whoever won."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--minutes", type=float, default=20.0, help="of training, for each side at most")
    parser.add_argument("--out", type=Path, default=Path("runs/time-to-quality"))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--scale", type=float, default=1.0, help="of compact's steps; its schedule is made for 1")
    parser.add_argument(
        "--sphere-steps", type=int, default=2000, help="of the plain side's start, which does not count"
    )
    parser.add_argument("--views", type=int, default=3, help="pictures of each held-out object that are measured")
    parser.add_argument("--resolution", type=int, default=48)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    try:
        found = race(arguments)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print("\n".join(table(found["plain"], found["compact"], arguments.minutes)))
    if found["passed_after_seconds"] is None:
        print(f"compact did not pass {found['plain_best']:.3f} in {arguments.minutes:g} minutes")
    else:
        print(
            f"compact passed the plain side's best, {found['plain_best']:.3f}, after {found['passed_after_seconds']:.0f} s: "
            f"{60 * arguments.minutes / found['passed_after_seconds']:.0f} times sooner than {arguments.minutes:g} minutes"
        )
    return 0


def race(arguments: argparse.Namespace) -> dict[str, Any]:
    """Both sides, and the JSON file OUT/time-to-quality.json."""
    collection = load_collection(arguments.data)
    records = {split: collection.split(split) for split in ("train", "val")}
    truth = ground_truth_of([collection], records["val"])
    for split, some in records.items():
        if not some:
            raise UserError(f"{arguments.data}: its {split} split is empty; mend splits.json")
    ours = scaled(compact(), arguments.scale)
    ours = dataclasses.replace(ours, training=dataclasses.replace(ours.training, seed=arguments.seed))

    def side(
        name: str, preset: Preset, stop_below: float | None = None
    ) -> tuple[PictureBank, HeldOut, Marks, RunFolder]:
        model = preset.model
        framing = {"size": model.picture_size, "framing": model.framing, "padding": model.padding}
        with console.status(f"{name}: reading pictures"):
            bank, held = (load_bank(records[split], **framing) for split in ("train", "val"))
        chosen = [
            int(views[(7 * turn + len(views) * view // arguments.views) % len(views)])
            for turn in range(len(held.instances))
            for views in [np.flatnonzero(held.instance.numpy() == turn)]
            for view in range(min(arguments.views, len(views)))
        ]
        watched = HeldOut(held, chosen, truth, compact().model.bound, arguments.resolution)
        marks = Marks(arguments.out / f"{name}.json", arguments.minutes, stop_below)
        return bank, watched, marks, RunFolder(arguments.out / name)

    first = side("plain", paper_shapenet())
    train_plainly(*first, arguments.seed, arguments.sphere_steps)
    plain_rows = first[2].rows
    best = min(row["chamfer_x10"] for row in plain_rows)
    keep_freed_memory()  # the plain side runs as Python leaves it
    second = side("compact", ours, best)
    train_ours(*second, ours)
    our_rows = second[2].rows
    passed = next((row["seconds"] for row in our_rows if row["chamfer_x10"] < best), None)
    found = {
        "minutes": arguments.minutes, "threads": arguments.threads, "scale": arguments.scale, "seed": arguments.seed,
        "plain": plain_rows, "compact": our_rows, "plain_best": best, "passed_after_seconds": passed,
    }  # fmt: skip
    with atomic_path(arguments.out / "time-to-quality.json") as temporary:
        temporary.write_text(json.dumps(found, indent=1))
    return found


if __name__ == "__main__":
    sys.exit(main())
