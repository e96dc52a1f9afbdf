"""The mean of a model and of one that was trained on from it: about as good as each of them on what it was trained for.

    python benchmarks/mean_model.py START.safetensors TRAINED.safetensors --share 0.8 --out chair.safetensors

Weights that were trained on from others often lie in one valley with them, and what is between has less error than both ends (Wortsman et al., CVPR 2022).
Look whether it is so: measure the three. The shipped models are such means (docs/models/).
"""

import argparse
from pathlib import Path

from tars3d.errors import UserError
from tars3d.weights import load_model, save_model


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("start", type=Path)
    parser.add_argument("trained", type=Path, help="trained on from it by `tars3d train --start`")
    parser.add_argument("--share", type=float, default=0.8, help="of the trained one, from 0 to 1")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    if not 0 <= arguments.share <= 1:
        parser.error(f"--share {arguments.share}: give a number from 0 to 1")
    try:
        start, first, before = load_model(arguments.start)
        trained, config, description = load_model(arguments.trained)
    except UserError as error:
        parser.error(str(error))
    if first != config or start.keys() != trained.keys() or before.get("category") != description.get("category"):
        parser.error(
            f"{arguments.trained}: has other networks than {arguments.start}, or another category; give a model that started from it"
        )
    mean = {
        name: start[name].lerp(value, arguments.share) if value.is_floating_point() else value
        for name, value in trained.items()
    }
    save_model(arguments.out, mean, config, description=description | {"share_of_training": arguments.share})
    print(arguments.out)


if __name__ == "__main__":
    main()
