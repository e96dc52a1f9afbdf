"""Model files: safetensors with the configuration in the header, nothing pickled. Training state lives elsewhere.

`training` and `convert` write them, `reconstruct.load` and `training.warm_start` read them.
"""

import contextlib
import json
import os
import struct
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from tars3d import config as configs
from tars3d.atomic import atomic_path
from tars3d.errors import UserError, reason_of

FORMAT = "tars3d-model-1"


def save_model(
    path: str | os.PathLike,
    state: dict[str, Tensor],
    model: configs.ModelConfig,
    *,
    description: dict[str, Any],
    half: bool = True,
) -> None:
    """Write a model file, whole or not at all.

    Args:
        state: tensors by name.
        description: free JSON values, e.g. category, training data, licence, steps.
        half: floating-point tensors as float16, which halves the file.
    """
    tensors = {
        name: (value.half() if half and value.is_floating_point() else value).cpu().contiguous()
        for name, value in state.items()
    }
    header = {
        "format": FORMAT,
        "config": json.dumps(configs.to_dict(model)),
        "description": json.dumps(description),
    }
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata=header)


def read_safetensors(path: str | os.PathLike) -> tuple[dict[str, Tensor], dict[str, str]]:
    """All tensors and the header of a safetensors file.

    Raises:
        UserError: it is missing, pickled, truncated or something else.
    """
    with _opened(Path(path)) as file:
        return {name: file.get_tensor(name) for name in list(file.keys())}, file.metadata() or {}


def read_header(path: str | os.PathLike) -> dict[str, str]:
    """The header of a safetensors file, of which nothing else is read.

    Raises:
        UserError: see `read_safetensors`.
    """
    with _opened(Path(path)) as file:
        return file.metadata() or {}


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """A safetensors file; what goes wrong while it is open is its own damage."""
    if not path.is_file():
        raise UserError(
            f"{path}: no such file; give a run directory, a .safetensors file or the name of a shipped model"
        )
    with open(path, "rb") as file:
        start, brace = file.read(8), file.read(1)
    if brace != b"{" and (start[:2] == b"PK" or start[:1] == b"\x80"):
        raise UserError(f"{path}: a pickled checkpoint is not opened (it could run code); give a .safetensors file")
    size = path.stat().st_size
    if len(start) < 8 or struct.unpack("<Q", start)[0] > size:
        raise UserError(f"{path}: not a safetensors file, or cut short at {size} bytes; fetch or train it again")
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{path}: damaged or cut short ({error}); fetch or train it again") from error


def unprefixed(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Those of the tensors whose names begin with a prefix, without it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def first_misfit(error: RuntimeError) -> str:
    """The first of the tensors that PyTorch's `load_state_dict` could not use; it names them below a headline."""
    return str(error).splitlines()[1].strip()


def load_model(path: str | os.PathLike) -> tuple[dict[str, Tensor], configs.ModelConfig, dict[str, Any]]:
    """The float32 tensors, the configuration and the description of a model file.

    Raises:
        UserError: it is no model file of tars3d, or holds NaN.
    """
    tensors, header = read_safetensors(path)
    if header.get("format") != FORMAT:
        raise UserError(
            f"{path}: a safetensors file, but no tars3d model (header says {header.get('format')!r}); give model.safetensors of a run"
        )
    settings, description = _header_objects(header, path)
    model = configs.from_dict(configs.ModelConfig, settings, str(path))
    tensors = {name: value.float() if value.is_floating_point() else value for name, value in tensors.items()}
    for name, value in tensors.items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise UserError(f"{path}: {name} holds NaN or infinity; the training diverged, use an earlier checkpoint")
    return tensors, model, description


def read_description(path: str | os.PathLike) -> dict[str, Any]:
    """What a model file says of itself, without its tensors.

    Raises:
        UserError: see `read_safetensors`; also where its header is damaged.
    """
    return _header_objects(read_header(path), path)[1]


def _header_objects(header: dict[str, str], path: str | os.PathLike) -> list[dict[str, Any]]:
    """The configuration and the description that a model file's header holds.

    Raises:
        UserError: one is missing or damaged.
    """
    found = []
    for name in ("config", "description"):
        try:
            value = json.loads(header[name])
        except (KeyError, ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            raise UserError(f"{path}: its header holds no {name} that can be read; fetch or train it again")
        found.append(value)
    return found


def shipped_models() -> list[str]:
    """Names of the models inside the package."""
    folder = resources.files("tars3d") / "models"
    return sorted(Path(str(entry)).stem for entry in folder.iterdir() if str(entry).endswith(".safetensors"))


def from_hub(hub_id: str) -> Path:
    """model.safetensors of a model on the Hugging Face hub, fetched once.

    Raises:
        OSError, ValueError: it is not to be had, or that is no hub id.
    """
    from huggingface_hub import hf_hub_download

    return Path(hf_hub_download(hub_id, "model.safetensors"))


def locate_model(model: str | os.PathLike) -> Path:
    """The file that a model's name, folder, path or hub id stands for; a folder of a shipped model's name counts where it is a run."""
    name = os.fspath(model)
    path = Path(name)
    if (path / "model.safetensors").exists():
        return path / "model.safetensors"
    if path.is_file():
        return path
    if name in shipped_models():
        return Path(str(resources.files("tars3d") / "models" / f"{name}.safetensors"))
    if path.is_dir():
        raise UserError(
            f"{path}: no model.safetensors in it; give a run directory of `tars3d train` that saved a model"
        )
    if name.count("/") == 1 and path.suffix != ".safetensors" and not path.parent.is_dir():
        try:
            return from_hub(name)
        except (OSError, ValueError) as error:
            raise UserError(
                f"{name}: neither a folder here nor to be had from the hub ({reason_of(error)}); check name and connection"
            ) from error
    raise UserError(
        f"{name}: no such model; give a run directory, a .safetensors file, a hub id, or one of {', '.join(shipped_models())}"
    )
