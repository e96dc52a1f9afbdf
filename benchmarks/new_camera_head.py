"""A model with the camera head of another one, which was trained on from it with its encoder left as it was.

    tars3d train DATA... --out RUN --start chair --steps "deformed hull=0" "stage 2=0" color=0 camera=8000
    python benchmarks/new_camera_head.py src/tars3d/models/chair.safetensors RUN/model.safetensors --out chair.safetensors

Everything else stays bit for bit what it was, so shapes and canonical spaces do, too. The shipped models were made so (docs/models/).
"""

import argparse
from dataclasses import replace
from pathlib import Path

import torch

from tars3d.errors import UserError
from tars3d.training.warm_start import CAMERA_FORM
from tars3d.weights import load_model, save_model

HEAD = "camera_head."


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument(
        "trained", type=Path, help="trained on from it by `tars3d train --start`, the camera's stage alone"
    )
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    try:
        tensors, config, description = load_model(arguments.model)
        trained, other, told = load_model(arguments.trained)
    except UserError as error:
        parser.error(str(error))
    encoder = [name for name in tensors if name.startswith("encoder.")]
    if not all(name in trained and torch.equal(tensors[name], trained[name]) for name in encoder):
        parser.error(
            f"{arguments.trained}: its encoder is not that of {arguments.model}; train from it, the camera's stage alone"
        )
    rest = {name: value for name, value in tensors.items() if not name.startswith(HEAD)}
    head = {name: value for name, value in trained.items() if name.startswith(HEAD)}
    config = replace(config, **{name: getattr(other, name) for name in CAMERA_FORM})
    save_model(arguments.out, rest | head, config, description=description | {"camera_steps": told.get("steps")})
    print(arguments.out)


if __name__ == "__main__":
    main()
