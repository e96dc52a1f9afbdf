"""Official TARS and SDF-SRN checkpoints to this project's model file. `cli.convert` calls it.

Their layout: docs/paper-vs-code.md, C10. The published networks are the ones here under other names, so a checkpoint
is translated name by name; every tensor must find its place, and only tensors and plain values are ever unpickled.
"""

import functools
import os
import pickle
import re
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tars3d.config import ModelConfig
from tars3d.errors import UserError
from tars3d.methods import method_class
from tars3d.methods.inference import export_tensors
from tars3d.methods.tars import TARS
from tars3d.presets import preset
from tars3d.weights import save_model

SYSTEMS = {"model": "tars", "graph": "sdf-srn"}
"""Which system keeps its weights under which name of the checkpoint."""
PUBLISHED_FOR = {
    "tars": ("paper-shapenet", "paper-pascal3d", "paper-cub", "paper-pix3d"),
    "sdf-srn": ("paper-shapenet", "paper-pascal3d"),
}
LISTED = 20  # names of each kind that an error spells out


def _stage_of_resnet(match: re.Match) -> str:
    stage, block, layer, kind, rest = match.groups()
    name = "conv" if kind == "convolution" else "bn"
    return f"encoder.layer{int(stage) + 1}.{block}.{name}{int(layer) + 1}.{rest}"


RENAMES = (
    (r"encoder\.backbone\.embedder\.embedder\.convolution\.(.*)", r"encoder.conv1.\1"),
    (r"encoder\.backbone\.embedder\.embedder\.normalization\.(.*)", r"encoder.bn1.\1"),
    (
        r"encoder\.backbone\.encoder\.stages\.(\d)\.layers\.(\d)\.layer\.(\d)\.(convolution|normalization)\.(.*)",
        _stage_of_resnet,
    ),
    (
        r"encoder\.backbone\.encoder\.stages\.(\d)\.layers\.(\d)\.shortcut\.(convolution|normalization)\.(.*)",
        lambda m: f"encoder.layer{int(m[1]) + 1}.{m[2]}.downsample.{int(m[3] == 'normalization')}.{m[4]}",
    ),
    (r"encoder\.code\.(.*)", r"encoder.fc.\1"),
    (r"generator\.trunk\.(\d)\.mlp\.(.*)", r"sdf_generator.hyper_impl.\1.\2"),
    (r"generator\.heads\.(level|rgb)\.mlp\.(.*)", r"sdf_generator.hyper_\1.0.\2"),
    (r"generator\.unconditioned\.(.*)", r"sdf_generator.point_feat_predictor.\1"),
    (r"deform_net\.trunk\.(\d)\.mlp\.(.*)", r"deformnet.hyper_impl.\1.\2"),
    (r"deform_net\.heads\.deformation\.mlp\.(.*)", r"deformnet.hyper_pts_deformations.0.\1"),
    (r"deform_net\.heads\.features\.mlp\.(.*)", r"deformnet.hyper_pts_feat.0.\1"),
    (r"deform_net\.heads\.rgb\.mlp\.(.*)", r"deformnet.hyper_rgb.0.\1"),
    (r"marcher\.lstm\.(.*)", r"renderer.ray_lstm.\1"),
    (r"marcher\.step\.(.*)", r"renderer.lstm_pred.\1"),
    (r"canonical_code", r"meannet_latent"),
)
"""Our name of a weight to the published one."""


def published_name(name: str, system: str) -> str:
    """The name that the published code gives to a weight of `TARS` or `SDFSRN`."""
    for pattern, replacement in RENAMES:
        if re.fullmatch(pattern, name):
            published = re.sub(pattern, replacement, name)
            return published.removeprefix("sdf_") if system == "sdf-srn" else published
    raise KeyError(name)


@dataclass(frozen=True)
class Layout:
    """The tensors that an official checkpoint consists of, for one system, data set and stage.

    Attributes:
        preset: the settings that the networks belong to.
        config: the networks.
        deformed: stage 2's form.
        names: published name to ours.
        shapes: by published name.
        floating: names of the floating-point tensors; the others count batches.
    """

    preset: str
    config: ModelConfig
    deformed: bool
    names: dict[str, str]
    shapes: dict[str, torch.Size]
    floating: frozenset[str]

    def problems(self, state: dict[str, Any]) -> dict[str, list[str]]:
        """What keeps a state from being this layout: kind of problem to the tensors that have it."""
        wrong = []
        for name in self.shapes.keys() & state.keys():
            value = state[name]
            if not isinstance(value, Tensor) or value.layout != torch.strided:
                wrong.append(f"{name} (no dense tensor)")
            elif value.shape != self.shapes[name]:
                wrong.append(f"{name} {list(value.shape)} instead of {list(self.shapes[name])}")
            elif value.is_floating_point() != (name in self.floating):
                wrong.append(f"{name} ({value.dtype})")
        found = {
            "missing": [name for name in self.shapes if name not in state],
            "unknown": [name for name in state if name not in self.shapes],
            "wrong": sorted(wrong),
        }
        return {kind: names for kind, names in found.items() if names}


@functools.cache
def layout(system: str, preset_name: str, *, deformed: bool) -> Layout:
    """The layout of a system's checkpoints for one data set and stage."""
    config = preset(preset_name, system).model
    with torch.device("meta"):
        state = method_class(config.method)(config).state_dict()
    absent = ("octave_weights",) if deformed else ("octave_weights", "deform_net.", "canonical_code")
    ours = {published_name(name, system): name for name in state if not name.startswith(absent)}
    return Layout(
        preset_name,
        config,
        deformed,
        ours,
        {name: state[our].shape for name, our in ours.items()},
        frozenset(name for name, our in ours.items() if state[our].is_floating_point()),
    )


@dataclass(frozen=True)
class Official:
    """An official checkpoint, opened.

    Attributes:
        method: the published networks, ray marcher included, in evaluation mode. After stage 1 the parts of stage 2 are
            there, but untrained.
        layout: what it was recognised as.
        place: `epoch` and `iter` of the checkpoint, where it says them.
        notes: what the user should know.
    """

    method: TARS
    layout: Layout
    place: dict[str, int]
    notes: list[str]


def open_official(path: str | os.PathLike, preset_name: str | None = None) -> Official:
    """Open an official checkpoint, which must be of a published data set's size and complete.

    Args:
        preset_name: what it is; None finds out from names and shapes.

    Raises:
        UserError: it cannot be read without running code, is another file, or has missing, unknown or misshapen tensors
            or NaN in it.
    """
    path = Path(path)
    found = _read(path)
    key = next((key for key in SYSTEMS if isinstance(found, dict) and isinstance(found.get(key), dict)), None)
    if key is None:
        raise UserError(
            f"{path}: no weights under `model` (TARS) or `graph` (SDF-SRN) in it; give an official checkpoint"
        )
    system, state = SYSTEMS[key], {str(name): value for name, value in found[key].items()}
    recognised, notes = recognise(state, system, str(path), preset_name)
    for name, value in state.items():
        if name in recognised.floating and not torch.isfinite(value).all():
            raise UserError(f"{path}: {name} holds NaN or infinity; the training diverged, use an earlier checkpoint")
    method = method_class(recognised.config.method)(recognised.config)
    method.load_state_dict({recognised.names[name]: value for name, value in state.items()}, strict=False)
    place = {name: found[name] for name in ("epoch", "iter") if isinstance(found.get(name), int)}
    return Official(method.eval().requires_grad_(False), recognised, place, notes)


def recognise(
    state: dict[str, Any], system: str, source: str, preset_name: str | None = None
) -> tuple[Layout, list[str]]:
    """The layout that names and shapes of a state are of, and what the user should know about the choice.

    Raises:
        UserError: none fits; lists what the nearest one misses, does not know, and has in other shapes.
    """
    if state and all(name.startswith(("sdf_generator.", "generator.", "deformnet.")) for name in state):
        raise UserError(
            f"{source}: a pretraining checkpoint without an encoder, which can reconstruct no picture; give one of stage 1 or 2"
        )
    presets = PUBLISHED_FOR[system]
    if preset_name is not None and preset_name not in presets:
        raise UserError(f"--preset {preset_name}: none of the published sizes of {system}: {', '.join(presets)}")
    deformed = any(name.startswith(("deformnet.", "meannet_latent")) for name in state) and system == "tars"
    candidates = [layout(system, name, deformed=deformed) for name in presets if preset_name in (None, name)]
    problems = [candidate.problems(state) for candidate in candidates]
    counts = [sum(map(len, kinds.values())) for kinds in problems]
    best = counts.index(min(counts))
    if counts[best]:
        listed = "; ".join(f"{kind}: {_listed(names)}" for kind, names in problems[best].items())
        raise UserError(
            f"{source}: not an official {system} checkpoint (nearest: {candidates[best].preset}, "
            f"stage {1 + deformed}); {listed}; fetch it again, changed networks cannot be converted"
        )
    same = [candidate.preset for candidate, count in zip(candidates, counts, strict=True) if not count]
    notes = []
    if len(same) > 1:
        notes.append(f"the networks of {' and '.join(same)} are the same here: taken as {same[0]}, --preset overrides")
    return candidates[best], notes


def convert_checkpoint(
    path: str | os.PathLike, out: str | os.PathLike, *, preset_name: str | None = None, category: str = "object"
) -> tuple[Path, list[str]]:
    """Write OUT/model.safetensors, in full precision, from an official checkpoint.

    Args:
        category: goes into the file's description.

    Returns:
        The file, and what the user should know.

    Raises:
        UserError: see `open_official`; or there is a model in `out` already.
    """
    target = Path(out) / "model.safetensors"
    if target.exists():
        raise UserError(f"{target}: exists already; choose another --out")
    official = open_official(path, preset_name)
    method, found = official.method, official.layout
    code = method.canonical_code if found.deformed else torch.zeros(found.config.code_width)
    notes = list(official.notes)
    if not found.deformed:
        notes.append(
            "the checkpoint holds no mean code: as a mean shape (`evaluate --baseline mean-shape`) it means nothing"
        )
    save_model(
        target,
        export_tensors(method, deformed=found.deformed, mean_code=code),
        found.config,
        half=False,
        description={
            "category": category,
            "preset": found.preset,
            "stage": f"stage {1 + found.deformed}",
            "source": Path(path).name,
            **official.place,
        },
    )
    return target, notes


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more


def _read(path: Path) -> Any:
    """What a checkpoint holds, unpickled as data only."""
    if path.is_dir():
        raise UserError(f"{path}: a folder; give the .ckpt file in it")
    if not path.exists():
        raise UserError(f"{path}: no such file; give an official checkpoint (.ckpt)")
    try:
        with open(path, "rb") as file:
            start = file.read(1)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}); check its permissions") from error
    if not start:
        raise UserError(f"{path}: an empty file; fetch it again")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle protocols; what matters becomes an error
            # mapped: two thirds of the file are the optimiser's, and stay on disk
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:  # what torch.load raises at a damaged file is not documented
        if isinstance(error, pickle.UnpicklingError) and ("GLOBAL" in str(error) or start == b"\x80"):
            raise UserError(
                f"{path}: holds Python objects besides tensors and is not opened (it could run code); "
                "fetch it from the authors again"
            ) from error
        raise UserError(f"{path}: no PyTorch checkpoint, or cut short; fetch it again") from error
