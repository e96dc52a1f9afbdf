"""What each departure of the `compact` preset is worth: short runs of its first stages that differ in one group of settings.

    python benchmarks/ablate.py DATA... --steps 1000 [--only NAME...]
    python benchmarks/ablate.py DATA... --steps 2000 --start chair    # what a change does to a finished model

prints a table of Chamfer x10, F, normal consistency and the mean squared error of colours (from -1 to 1, at points of the
visual hulls) on the collections' val split (train where there is none). Each
variant is one run with one seed: differences under about 0.02 in Chamfer say nothing. With `--start` a finished model goes on in
`deformed hull` at half that stage's learning rate: a change that helps a short run from nothing may spoil a long one, and this tells.
"""

import argparse
import dataclasses
import itertools
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from tars3d.config import Preset
from tars3d.data.bank import load_bank
from tars3d.data.collection import load_collection
from tars3d.data.hull import hull_samples
from tars3d.evaluate.metrics import Protocol, score_reconstruction, summarise
from tars3d.methods.surface import surface_of
from tars3d.methods.tars import TARS
from tars3d.presets import compact
from tars3d.training.allocator import keep_freed_memory
from tars3d.training.open_data import ground_truth_of
from tars3d.training.run_folder import RunFolder
from tars3d.training.trainer import train
from tars3d.training.warm_start import started_from

# The published terms on rays, at the weights of the published stage 1 of chairs.
RAYS = {"render": 1.0, "silhouette": 1.0, "intersection": 3.0, "free_space": 0.1, "carving": 0.0, "filling": 0.0}

# name: changes of the model, of the stage, of its loss weights, of the training
VARIANTS: dict[str, tuple[dict, dict, dict, dict]] = {
    "compact": ({}, {}, {}, {}),
    "learning rate 1e-3": ({}, {"learning_rate": 1e-3}, {}, {}),
    "3 octaves": ({"octaves": 3, "octave_decay": 1.0}, {}, {}, {}),
    "5 octaves as published": ({"octaves": 5, "octave_decay": 1.0}, {"anneal": 0.0}, {}, {}),
    "no carving": ({}, {}, {"carving": 0.0}, {}),
    "no filling": ({}, {}, {"filling": 0.0}, {}),
    "filling weighs as carving": ({}, {}, {"filling": 10.0}, {}),
    "thin parts filled more": ({}, {}, {"filling": 10.0, "thin_filling": 70.0}, {}),
    "eikonal x10": ({}, {}, {"eikonal": 2.0}, {}),
    "curvature": ({}, {}, {"curvature": 0.0005}, {}),
    "ReLU hypernetworks": ({"hyper_activation": "relu"}, {}, {}, {}),
    "no colour, no camera": ({}, {}, {"color": 0.0, "camera": 0.0}, {}),
    "colour weighs 1": ({}, {}, {"color": 1.0}, {}),
    "learning rate 4e-3": ({}, {"learning_rate": 4e-3}, {}, {}),
    "published hypernetwork start": ({"near_constant": False}, {}, {}, {}),
    "exact derivatives": ({}, {}, {}, {"derivatives": "exact"}),
    "rays alone": ({}, {"rays": 128, "batch": 8, "hull_points": 0, "points": 128}, RAYS, {}),
    "rays and hull": ({}, {"rays": 128, "batch": 8}, {**RAYS, "carving": 10.0, "filling": 40.0}, {}),
}

# name: changes of the loss weights with which a finished model goes on in canonical space
CONTINUED: dict[str, dict] = {
    "compact": {},
    "filling 4 to 1 everywhere": {"filling": 40.0, "thin_filling": 0.0},
    "no template normals": {"template_normal": 0.0},
    "template normals weigh 2": {"template_normal": 2.0},
    "deformation weighs 0.1": {"deformation": 0.1},
}


def continued(name: str, steps: int, start: str) -> Preset:
    """The preset of a variant of a finished model: `steps` steps of `deformed hull`."""
    base = started_from(compact(), start)
    stage = next(stage for stage in base.training.stages if stage.name == "deformed hull")
    losses = dataclasses.replace(stage.losses, **CONTINUED[name])
    stage = dataclasses.replace(stage, steps=steps, learning_rate=stage.learning_rate / 2, losses=losses)
    return Preset(base.model, dataclasses.replace(base.training, stages=(stage,)))


def variant(name: str, steps: int) -> Preset:
    """The preset of a variant: sphere and `steps` steps of the hull stage."""
    model, stage, losses, training = VARIANTS[name]
    base = compact()
    sphere, hull = base.training.stages[:2]
    hull = dataclasses.replace(hull, steps=steps, losses=dataclasses.replace(hull.losses, **losses), **stage)
    changed = dataclasses.replace(base.training, stages=(sphere, hull), **training)
    return Preset(dataclasses.replace(base.model, **model), changed)


def main() -> None:
    """Run the variants one after the other and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", type=Path)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--start", help="a trained model of the preset's method: shipped name, run or file")
    parser.add_argument("--only", nargs="*", choices=sorted({*VARIANTS, *CONTINUED}))
    parser.add_argument("--pictures", type=int, default=1, help="of each measured object")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    names = arguments.only or list(CONTINUED if arguments.start else VARIANTS)
    if strange := [name for name in names if name not in (CONTINUED if arguments.start else VARIANTS)]:
        parser.error(f"--only {strange[0]}: is a variant {'without' if arguments.start else 'with'} --start")
    keep_freed_memory()
    torch.set_num_threads(arguments.threads)
    collections = [load_collection(folder) for folder in arguments.data]
    split = "val" if any(collection.splits.get("val") for collection in collections) else "train"
    model = compact().model
    framing = {"size": model.picture_size, "framing": model.framing, "padding": model.padding}
    bank = load_bank([r for c in collections for r in c.split("train")], **framing)
    watched = [r for c in collections for r in c.split(split)]
    held, truth = load_bank(watched, **framing), ground_truth_of(collections, watched)
    print(f"{len(bank)} pictures of {len(bank.instances)} objects; measured on {split}, {len(held.instances)} objects")
    hulls, seen = hull_samples(bank), hull_samples(held)
    print(f"{'variant':32s} {'CD x10':>7s} {'F':>6s} {'NC':>6s} {'colour':>7s} {'s/step':>7s}")
    for name in names:
        if arguments.start:
            preset = continued(name, arguments.steps, arguments.start)
        else:
            preset = variant(name, arguments.steps)
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            run, cpu = RunFolder(folder), torch.device("cpu")
            method = train(preset, bank, run, device=cpu, watch=lambda *_: None, hulls=hulls, start=arguments.start)
            seconds = (time.perf_counter() - start) / sum(stage.steps for stage in preset.training.stages)
        assert isinstance(method, TARS)
        method.eval()
        scores, errors = [], []
        for number, picture in itertools.product(range(len(held.instances)), range(arguments.pictures)):
            views = np.flatnonzero(held.instance.numpy() == number)
            index = torch.tensor([int(views[(5 * number + 7 * picture) % len(views)])])
            points, normals = truth(number) or (None, None)
            if points is None:
                continue
            with torch.no_grad():
                codes = method.encode(held.images(index))
                shape = method.shape(codes, deformed=bool(arguments.start))
                color = 2 * shape.color(seen.seen[number][None].float())[0] - 1
            errors.append((color - (seen.rgb[number].float() / 127.5 - 1)).square().mean().item())
            mesh = surface_of(shape, bound=preset.model.bound, resolution=64, device=torch.device("cpu")).mesh
            scores.append(score_reconstruction(mesh, points, normals, seed=0, protocol=Protocol(10_000, emd_points=0)))
        found = summarise(scores)
        print(
            f"{name:32s} {found['chamfer_x10']['overall']:7.3f} {found['fscore']:6.1f} "
            f"{found['normal_consistency']:6.3f} {np.mean(errors):7.3f} {seconds:7.3f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
