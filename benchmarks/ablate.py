"""What each departure of the `compact` preset is worth: short stage-1 runs that differ in one group of settings.

    python benchmarks/ablate.py DATA... --steps 700 [--only NAME...]

prints a table of Chamfer x10, F and normal consistency on the collections' val split (train where there is none). Each
variant is one run with one seed: differences under about 0.02 in Chamfer say nothing.
"""

import argparse
import dataclasses
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from tars3d.config import Preset
from tars3d.data.bank import load_bank
from tars3d.data.collection import load_collection
from tars3d.evaluate.metrics import score_reconstruction, summarise
from tars3d.methods.surface import surface_of
from tars3d.presets import compact
from tars3d.training.allocator import keep_freed_memory
from tars3d.training.monitor import ground_truth_of
from tars3d.training.run_folder import RunFolder
from tars3d.training.trainer import train

# name: changes of the model, of the stage, of its loss weights, of the training
VARIANTS: dict[str, tuple[dict, dict, dict, dict]] = {
    "compact": ({}, {}, {}, {}),
    "3 octaves": ({"octaves": 3, "octave_decay": 1.0}, {}, {}, {}),
    "5 octaves, halved each": ({"octaves": 5, "octave_decay": 0.5}, {"anneal": 0.0}, {}, {}),
    "5 octaves as published": ({"octaves": 5, "octave_decay": 1.0}, {"anneal": 0.0}, {}, {}),
    "no carving": ({}, {}, {"carving": 0.0}, {}),
    "no filling": ({}, {}, {"filling": 0.0}, {}),
    "no symmetry": ({}, {}, {"symmetry": 0.0}, {}),
    "no curvature": ({}, {}, {"curvature": 0.0}, {}),
    "one view a code": ({}, {"views": 1, "rays": 192}, {}, {}),
    "published hypernetwork start": ({"near_constant": False}, {}, {}, {}),
    "exact derivatives": ({}, {}, {"curvature": 0.0}, {"derivatives": "exact"}),
    "render weight 1": ({}, {}, {"render": 1.0}, {}),
}


def variant(name: str, steps: int) -> Preset:
    """The preset of a variant: sphere and `steps` steps of stage 1."""
    model, stage, losses, training = VARIANTS[name]
    base = compact()
    sphere, first = base.training.stages[:2]
    first = dataclasses.replace(first, steps=steps, losses=dataclasses.replace(first.losses, **losses), **stage)
    changed = dataclasses.replace(base.training, stages=(sphere, first), **training)
    return Preset(dataclasses.replace(base.model, **model), changed)


def main() -> None:
    """Run the variants one after the other and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", type=Path)
    parser.add_argument("--steps", type=int, default=700)
    parser.add_argument("--only", nargs="*", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(arguments.threads)
    collections = [load_collection(folder) for folder in arguments.data]
    truth = ground_truth_of(collections)
    split = "val" if any(collection.splits.get("val") for collection in collections) else "train"
    model = compact().model
    framing = {"size": model.picture_size, "framing": model.framing, "padding": model.padding}
    bank = load_bank([r for c in collections for r in c.split("train")], **framing)
    held = load_bank([r for c in collections for r in c.split(split)], **framing)
    print(f"{len(bank)} pictures of {len(bank.instances)} objects; measured on {split}, {len(held.instances)} objects")
    print(f"{'variant':32s} {'CD x10':>7s} {'F':>6s} {'NC':>6s} {'s/step':>7s}")
    for name in arguments.only:
        preset = variant(name, arguments.steps)
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            method = train(preset, bank, RunFolder(folder), device=torch.device("cpu"), watch=lambda *_: None)
            seconds = (time.perf_counter() - start) / (arguments.steps + preset.training.stages[0].steps)
        method.eval()
        scores = []
        for number in range(len(held.instances)):
            views = np.flatnonzero(held.instance.numpy() == number)
            index = torch.tensor([int(views[(5 * number) % len(views)])])
            points, normals = truth(held.instances[number]) or (None, None)
            if points is None:
                continue
            with torch.no_grad():
                shape = method.object_space_shape(method.encode(held.images(index)))
            mesh = surface_of(shape, bound=preset.model.bound, resolution=64, device=torch.device("cpu")).mesh
            scores.append(score_reconstruction(mesh, points, normals, seed=0, samples=10_000, emd_points=0))
        found = summarise(scores)
        print(
            f"{name:32s} {found['chamfer_x10']['overall']:7.3f} {found['fscore']:6.1f} "
            f"{found['normal_consistency']:6.3f} {seconds:7.3f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
