"""A model with the camera head of another one, which was trained on from it with its encoder left as it was.

    tars3d train DATA... --out RUN --start chair --steps "deformed hull=0" "stage 2=0" color=0 camera=8000
    python benchmarks/new_camera_head.py src/tars3d/models/chair.safetensors RUN/model.safetensors --out chair.safetensors

Everything else stays bit for bit what it was, so shapes and canonical spaces do, too. A head whose first layer has full rank can be given a lower
one: `--rank 192 --data DATA...` keeps those directions of what the layer says that vary most over the pictures of the train splits. The shipped
models were made so (docs/models/).
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import layer_norm

from tars3d.data.bank import load_bank
from tars3d.data.collection import load_collection
from tars3d.errors import UserError
from tars3d.methods.inference import InferenceModel
from tars3d.reconstruct import load
from tars3d.training.warm_start import camera_form
from tars3d.weights import load_model, save_model, unprefixed

HEAD = "camera_head."
PICTURES = 4096
"""Of each collection, at most, that say what varies."""


@torch.no_grad()
def looked_at(model: Path, data: Sequence[Path]) -> Tensor:
    """What the head sees of pictures of the train splits, [pictures, features]."""
    reconstructor = load(model, device="cpu")
    network, config = reconstructor.model, reconstructor.model.config
    assert isinstance(network, InferenceModel)
    seen = []
    for folder in data:
        records = load_collection(folder).split("train")
        some = records[:: max(1, len(records) // PICTURES)]
        bank = load_bank(some, size=config.picture_size, framing=config.framing, padding=config.padding)
        for images in bank.image_chunks(64):
            seen.append(network.camera_head.look(network.encoder.read(network.resized(images))))
    return torch.cat(seen)


def of_rank(head: dict[str, Tensor], seen: Tensor, rank: int) -> dict[str, Tensor]:
    """A head whose first layer is two, without what varies least in its answers; says how much of the variance is left."""
    norm, first = unprefixed(head, f"{HEAD}mlp.0."), unprefixed(head, f"{HEAD}mlp.1.")
    said = layer_norm(seen, seen.shape[1:], norm["weight"], norm["bias"]) @ first["weight"].T
    mean = said.mean(dim=0)
    _, spread, directions = torch.linalg.svd(said - mean, full_matrices=False)
    kept = directions[:rank]
    print(f"rank {rank}: {100 * spread[:rank].square().sum() / spread.square().sum():.2f}% of the variance is left")
    rest = {name: value for name, value in head.items() if not name.startswith(f"{HEAD}mlp.1.")}
    return rest | {
        f"{HEAD}mlp.1.0.weight": kept @ first["weight"],
        f"{HEAD}mlp.1.1.weight": kept.T.contiguous(),
        f"{HEAD}mlp.1.1.bias": first["bias"] + mean - kept.T @ (kept @ mean),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument(
        "trained", type=Path, help="trained on from it by `tars3d train --start`, the camera's stage alone"
    )
    parser.add_argument("--rank", type=int, help="of the head's first layer; default: as it was trained")
    parser.add_argument("--data", type=Path, nargs="+", default=[], help="collections that say what varies")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    if (arguments.rank is None) != (not arguments.data):
        parser.error("--rank and --data: give both or none")
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
    head = {name: value.float() for name, value in trained.items() if name.startswith(HEAD)}
    config = replace(config, **camera_form(other))
    if arguments.rank is not None:
        if config.camera_rank:
            parser.error(f"{arguments.trained}: its head has rank {config.camera_rank} already; leave --rank out")
        head = of_rank(head, looked_at(arguments.trained, arguments.data), arguments.rank)
        config = replace(config, camera_rank=arguments.rank)
    save_model(arguments.out, rest | head, config, description=description | {"camera_steps": told.get("steps")})
    print(arguments.out)


if __name__ == "__main__":
    main()
