"""How much of the truth silhouettes know: the visual hull of each object's masks, measured like a reconstruction.

    python benchmarks/hull.py DATA [--split val] [--views 24 12 4 2 1]

prints Chamfer x10, F and normal consistency of the hulls for so many pictures an object. It is what the carving and filling
terms of `compact` could reach at best, on pictures that the model has learned by heart.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from tars3d.data.bank import load_bank
from tars3d.data.collection import load_collection
from tars3d.evaluate.metrics import Protocol, score_reconstruction, summarise
from tars3d.geometry.isosurface import extract_mesh
from tars3d.geometry.visual_hull import hull_level
from tars3d.presets import compact


def main() -> None:
    """Measure the hulls and print a row for each number of pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--split", default="val")
    parser.add_argument("--views", type=int, nargs="+", default=[24, 12, 4, 2, 1])
    parser.add_argument("--resolution", type=int, default=64)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    collection, model = load_collection(arguments.data), compact().model
    records = collection.split(arguments.split)
    objects = sorted({record.instance for record in records})
    print(f"{len(objects)} objects of {arguments.split}")
    print(f"{'pictures':>8s} {'CD x10':>7s} {'F':>6s} {'NC':>6s}")
    for views in arguments.views:
        scores = []
        for name in objects:
            own = [record for record in records if record.instance == name]
            chosen = [own[i] for i in np.linspace(0, len(own), min(views, len(own)), endpoint=False).astype(int)]
            bank = load_bank(chosen, size=model.picture_size, framing=model.framing, padding=model.padding)
            signed = torch.where(bank.mask, -1.0, 1.0) * bank.distance.float()

            def level(points: np.ndarray, bank=bank, signed=signed) -> np.ndarray:
                return hull_level(torch.from_numpy(points).float(), signed, bank.cameras).numpy()

            mesh = extract_mesh(level, (-model.bound, model.bound), arguments.resolution, dense=True).mesh
            truth = collection.ground_truth(name)
            scores.append(score_reconstruction(mesh, *truth, seed=0, protocol=Protocol(20_000, emd_points=0)))
        found = summarise(scores)
        chamfer, normals = found["chamfer_x10"]["overall"], found["normal_consistency"]
        print(f"{views:8d} {chamfer:7.3f} {found['fscore']:6.1f} {normals:6.3f}", flush=True)


if __name__ == "__main__":
    main()
