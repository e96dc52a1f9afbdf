"""Hull samples of a run, drawn once with a progress bar and kept in its folder: a resumed run starts at once.

Called by `run` before training starts.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields

from safetensors.torch import save_file
from torch import Tensor

from tars3d.atomic import atomic_path
from tars3d.config import TrainingConfig
from tars3d.data.bank import PictureBank
from tars3d.data.category_hull import category_hull
from tars3d.data.hull import HULL_FORMAT, HullSamples, hull_samples
from tars3d.errors import UserError
from tars3d.progress import progress_bar
from tars3d.training.run_folder import RunFolder
from tars3d.weights import read_safetensors


def draw_hulls(
    bank: PictureBank, training: TrainingConfig, track: Callable[[Sequence[Tensor]], Iterable[Tensor]] = iter
) -> HullSamples:
    """The hull samples that a training asks for; `track` shows progress over the objects."""
    category = category_hull(bank) if training.category_hull else None
    return hull_samples(bank, category=category, seed=training.seed, track=track)


def stored_hulls(run: RunFolder, bank: PictureBank, training: TrainingConfig) -> HullSamples:
    """The run's hull samples: read from its folder, or drawn and written there (some 100 kB an object)."""
    wanted = {
        "format": HULL_FORMAT,
        "data": bank.fingerprint(),
        "seed": str(training.seed),
    }
    if training.category_hull:
        wanted["completed"] = "category"
    found = _read(run, wanted)
    if found is None:
        with progress_bar() as bar:
            found = draw_hulls(bank, training, lambda order: bar.track(order, description="visual hulls"))
        tensors = {field.name: getattr(found, field.name).cpu().contiguous() for field in fields(found)}
        with atomic_path(run.hulls) as temporary:
            save_file(tensors, temporary, metadata=wanted)
    return found.to(bank.device)


def _read(run: RunFolder, wanted: dict[str, str]) -> HullSamples | None:
    """What the folder holds, if it belongs to these pictures and this seed; anything else is drawn again."""
    if not run.hulls.exists():
        return None
    try:
        tensors, header = read_safetensors(run.hulls)
        if run.state.exists() and header.get("format") == "tars3d-hulls-3":  # a run ends as it began
            header = {**header, "format": HULL_FORMAT}
        return HullSamples(**tensors) if header == wanted else None
    except (UserError, TypeError):
        return None
