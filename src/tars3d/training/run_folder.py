"""A run's folder: its lock, its settings, its state. A run killed anywhere goes on from the last state written.

RUN/settings.json      what runs: preset values, data, seed
RUN/state.safetensors  everything needed to go on exactly: weights, optimiser, place in the curriculum
RUN/model.safetensors  the model alone, as `reconstruct` loads it
RUN/hulls.safetensors  points around the objects' visual hulls, so that they are drawn once
RUN/logs/              TensorBoard
RUN/report.html        curves and pictures
"""

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from tars3d.atomic import atomic_path
from tars3d.config import Preset, Stage
from tars3d.errors import UserError
from tars3d.weights import read_header, read_safetensors


@dataclass(frozen=True)
class Place:
    """Where in a curriculum a training state belongs."""

    stage: int = 0
    """Number of the stage that is under way, or comes next."""
    step: int = 0
    """Steps of it that are done."""
    seconds: float = 0.0
    """Training time so far, earlier sessions included."""
    data: str = ""
    """Fingerprint of the training pictures."""


class RunFolder:
    """Paths and files of one run."""

    def __init__(self, root: str | os.PathLike):
        self.root = Path(root)
        self.settings = self.root / "settings.json"
        self.state = self.root / "state.safetensors"
        self.model = self.root / "model.safetensors"
        self.hulls = self.root / "hulls.safetensors"
        self.logs = self.root / "logs"
        self.report = self.root / "report.html"
        self.history = self.root / "history.jsonl"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder for this process; the lock goes with the process, however it ends.

        Raises:
            UserError: another process trains into it, or it cannot be made.
        """
        try:
            new = not self.root.exists()
            self.root.mkdir(parents=True, exist_ok=True)
            handle = open(self.root / ".lock", "a+")  # noqa: SIM115 (closed below, by `with`)
        except OSError as error:
            raise UserError(f"{self.root}: cannot be written ({error.strerror}); choose another --out") from error
        with handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise UserError(
                    f"{self.root}: in use by another process; wait for it, stop it, or choose another --out"
                ) from error
            except OSError as error:  # some network file systems have no locks
                raise UserError(
                    f"{self.root}: cannot be locked ({error.strerror}); choose an --out on a local disk"
                ) from error
            try:
                yield
            except UserError:
                self._leave_if_empty(new)
                raise

    def _leave_if_empty(self, new: bool) -> None:
        """Take away the lock, and the folder if this process made it, where they are all that is there."""
        if [path.name for path in self.root.iterdir()] == [".lock"]:
            (self.root / ".lock").unlink()
            if new:
                self.root.rmdir()

    @contextlib.contextmanager
    def beginning(self) -> Iterator[None]:
        """Around a run's first session: refused before its first measurement, it leaves none of its files behind."""
        try:
            yield
        except UserError:
            if not self.state.exists() and not self.read_history():
                for file in (self.settings, self.hulls, self.history):
                    file.unlink(missing_ok=True)
                shutil.rmtree(self.logs, ignore_errors=True)
            raise

    def write_settings(self, values: dict[str, Any]) -> None:
        """Save what runs, beside the weights."""
        with atomic_path(self.settings) as temporary:
            temporary.write_text(json.dumps(values, indent=1))

    def read_settings(self) -> dict[str, Any]:
        """The settings of an earlier session of this run.

        Raises:
            UserError: there is none, or it is damaged.
        """
        try:
            settings = json.loads(self.settings.read_text())
            if not isinstance(settings, dict) or not {"preset", "preset_name", "data"} <= settings.keys():
                raise ValueError("its preset or its data are missing")
            return settings
        except FileNotFoundError as error:
            raise UserError(f"{self.settings}: no such file; there is no run to resume in {self.root}") from error
        except (OSError, ValueError) as error:
            raise UserError(f"{self.settings}: cannot be read ({error}); start again in a new --out") from error

    def write_state(self, tensors: dict[str, Tensor], place: Place) -> None:
        """Save the training state: tensors by name, and where in the curriculum they belong."""
        with atomic_path(self.state) as temporary:
            save_file(
                {name: value.detach().cpu().contiguous() for name, value in tensors.items()},
                temporary,
                metadata={"format": "tars3d-state-1", "place": json.dumps(asdict(place))},
            )

    def read_state(self) -> tuple[dict[str, Tensor], Place] | None:
        """What `write_state` wrote last, or None before the first time."""
        if not self.state.exists():
            return None
        tensors, header = read_safetensors(self.state)
        return tensors, self._place_of(header)

    def read_place(self) -> Place | None:
        """The place of the state alone, without its tensors; None before the first time."""
        return self._place_of(read_header(self.state)) if self.state.exists() else None

    def _place_of(self, header: dict[str, str]) -> Place:
        if header.get("format") != "tars3d-state-1":
            raise UserError(f"{self.state}: not a training state of tars3d; start again in a new --out")
        return Place(**json.loads(header["place"]))

    def last_stage(self, preset: Preset) -> Stage:
        """The stage that the state is in, or ended with."""
        place = self.read_place() or Place()
        return preset.training.stages[max(0, place.stage - (place.step == 0))]

    def steps_taken(self, preset: Preset) -> int:
        """How many steps of the whole curriculum have been taken."""
        place = self.read_place() or Place()
        return sum(stage.steps for stage in preset.training.stages[: place.stage]) + place.step

    def append_history(self, row: dict[str, Any]) -> None:
        """Add a line of measurements; the report and later analysis read them."""
        with open(self.history, "a") as file:
            file.write(json.dumps(row) + "\n")

    def truncate_history(self, keep: Callable[[dict[str, Any]], bool]) -> None:
        """Drop lines that `keep(row)` refuses: after a kill, measurements newer than the state are taken again."""
        rows = [row for row in self.read_history() if keep(row)]
        with atomic_path(self.history) as temporary:
            temporary.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def read_history(self) -> list[dict[str, Any]]:
        """All measurements so far; a last line cut by a kill is left out.

        Raises:
            UserError: another line is damaged.
        """
        rows = []
        lines = self.history.read_text().splitlines() if self.history.exists() else []
        for number, line in enumerate(lines, 1):
            try:
                rows.append(json.loads(line))
            except ValueError as error:
                if number < len(lines):
                    raise UserError(f"{self.history}: line {number} is damaged ({error}); take it out") from error
        return rows
