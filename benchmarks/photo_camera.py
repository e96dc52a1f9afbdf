"""Held-out pictures with known cameras: how far the found cameras are off, and what the outline and `--refine` do to the shape.

    python benchmarks/photo_camera.py data/pix3d --steps 0 15 50 --limit 15
    python benchmarks/photo_camera.py data/pix3d --head --split val           # the camera head alone, on every picture of the split

Prints two tables, one row a chair with --rows. Cameras: turn to the true one, degrees, of a start 10 degrees off and of the fit
from it, of the search without a start, and of the model's own prediction where it makes one. Shapes: under the true camera and
under the found one, mask IoU, Chamfer distance x10 and F@0.1 after each number of steps, and how many objects got better and worse;
"kept": as the command does it, unrefined where silhouettes overlap no more afterwards; "bent to the outline": not refined, seen by the camera that
moved along. The first of --steps must be 0.
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import trimesh

from tars3d.data.bank import load_bank
from tars3d.data.collection import ImageCollection, load_collection
from tars3d.data.framing import crop_intrinsics
from tars3d.data.image_record import ImageRecord
from tars3d.data.pictures import read_picture
from tars3d.evaluate.evaluation import chosen_views, evenly
from tars3d.evaluate.metrics import Protocol, score_reconstruction
from tars3d.geometry.silhouette_fit import CenteredCamera, turn_between
from tars3d.methods.inference import InferenceModel
from tars3d.photo.camera import camera_batch, find_camera, silhouette_iou
from tars3d.photo.refine import RefineSettings, refinement
from tars3d.progress import progress_bar
from tars3d.reconstruct import Reconstructor, load


def ten_degrees_off(camera: CenteredCamera, rng: np.random.Generator) -> CenteredCamera:
    axis = rng.normal(size=3)
    axis *= np.radians(10) / np.linalg.norm(axis)
    return camera.moved(np.r_[axis, 0.05 * rng.normal(), 3 * rng.normal(size=2), 0.05 * rng.normal()])


class Held:
    """One picture, framed, with its true camera and surface."""

    def __init__(self, model: Reconstructor, record: ImageRecord, truth: tuple, resolution: int):
        picture = read_picture(record.file, record.mask)
        config = model.model.config
        self.name, self.truth, self.model, self.resolution = record.name, truth, model, resolution
        self.picture = model.framed(picture)
        self.framed, self.mask = self.picture.rgb, self.picture.mask
        self.code = model.codes(self.framed[None])
        intrinsics = np.asarray(crop_intrinsics(record.intrinsics, self.picture.crop, config.picture_size))
        self.camera = CenteredCamera.of_pinhole(intrinsics, record.extrinsics, record.model == "perspective")
        self.predicted = model.predicted_camera(self.framed)

    def mesh(self, code: torch.Tensor) -> trimesh.Trimesh:
        with torch.no_grad():
            shape = self.model.model.shape(code)
        return self.model.mesh(shape, self.framed, resolution=self.resolution).mesh

    def bent(self, camera: CenteredCamera) -> tuple[trimesh.Trimesh, CenteredCamera]:
        """The mesh bent to the outline, and its camera."""
        with torch.no_grad():
            found = self.model.bent(self.model.model.shape(self.code), [camera], [self.picture])
        return self.model.mesh(found.shape, self.framed, resolution=self.resolution).mesh, found.cameras[0]

    def find(self, mesh: trimesh.Trimesh, start: CenteredCamera | None, search: bool = False) -> CenteredCamera:
        return find_camera(mesh, self.picture, start, search=search).framed

    def turn(self, camera: CenteredCamera) -> float:
        return turn_between(camera.rotation, self.camera.rotation)

    def scores(self, mesh: trimesh.Trimesh, camera: CenteredCamera) -> tuple[float, float, float]:
        """Mask IoU %, Chamfer x10, F@0.1 %."""
        score = score_reconstruction(mesh, *self.truth, seed=0, protocol=Protocol(20_000, emd_points=0))
        fscore = 2 * score.precision * score.recall / max(score.precision + score.recall, 1e-9)
        return 100 * silhouette_iou(mesh, camera, self.mask), score.chamfer_x10, 100 * fscore


def turns_of_the_head(model: Reconstructor, collection: ImageCollection, split: str) -> np.ndarray:
    """Degrees between the camera that the model predicts and the true one, of every picture of a split."""
    config = model.model.config
    bank = load_bank(collection.split(split), size=config.picture_size, framing=config.framing, padding=config.padding)
    with torch.no_grad():
        found = torch.cat(
            [model.model.predict_camera(images.to(model.device)).extrinsics.cpu() for images in bank.image_chunks(64)]
        )
    pairs = zip(found.numpy(), bank.cameras.extrinsics.numpy(), strict=True)
    return np.array([turn_between(predicted[:, :3], true[:, :3]) for predicted, true in pairs])


TURNS = "| turn, degrees | median | mean | under 20 | over 90 |\n|---|---:|---:|---:|---:|"


def summary(name: str, turns: Sequence[float] | np.ndarray) -> str:
    """A row of the table of turns."""
    values = np.array(turns)
    shares = f"{np.mean(values < 20):.0%} | {np.mean(values > 90):.0%}"
    return f"| {name} | {np.median(values):.1f} | {np.mean(values):.1f} | {shares} |"


def scored(camera: str, steps: int, figures: np.ndarray, before: np.ndarray) -> str:
    """A row of the table of shapes: [pictures, mask IoU, Chamfer and F], and Chamfer distances before."""
    iou, chamfer, fscore = figures.mean(axis=0)
    gain = before - figures[:, 1]
    counts = f"{(gain > 0.005).sum()} / {(gain < -0.005).sum()}" if gain.any() else ""
    return f"| {camera} | {steps} | {iou:.1f} | {chamfer:.3f} | {fscore:.1f} | {counts} |"


def kept_where_better(table: np.ndarray) -> np.ndarray:
    """As `reconstruct --refine` does: the first column stays where silhouettes overlap no more than in it."""
    better = table[:, :, :1] > table[:, :1, :1]
    return np.where(better, table, table[:, :1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="chair")
    parser.add_argument("--split", default="test")
    parser.add_argument("--steps", type=int, nargs="+", default=[0, 15, 50])
    parser.add_argument("--limit", type=int, default=15)
    parser.add_argument("--resolution", type=int, default=64)
    parser.add_argument("--prior", type=float, default=RefineSettings().prior)
    parser.add_argument("--head", action="store_true", help="the camera head alone, on every picture of the split")
    parser.add_argument("--rows", action="store_true", help="print each picture's figures, too")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.steps[0] != 0 or len(options.steps) < 2:
        parser.error("--steps: give 0 and then at least one number of steps")
    collection = load_collection(options.data)
    model = load(options.model)
    if options.head:
        if not model.predicts_camera:
            parser.error(f"--head: {options.model} predicts no camera")
        turns_found = turns_of_the_head(model, collection, options.split)
        print(f"{len(turns_found)} pictures of the {options.split} split of {options.data}, model {options.model}")
        print(f"{TURNS}\n{summary('predicted', turns_found)}")
        return
    records = chosen_views(collection, options.split, 1, options.seed)
    records = evenly(records, options.limit)
    rng = np.random.default_rng(options.seed)
    settings = replace(RefineSettings(), prior=options.prior)
    turns: dict[str, list[float]] = {}
    shapes: dict[str, list[list[tuple[float, float, float]]]] = {"true": [], "found": []}
    outlines: dict[str, list[tuple[float, float, float]]] = {name: [] for name in shapes}
    seconds: list[float] = []
    with progress_bar() as bar:
        for record in bar.track(records, description="pictures"):
            held = Held(model, record, collection.ground_truth(record.instance), options.resolution)
            mesh = held.mesh(held.code)
            off = ten_degrees_off(held.camera, rng)
            found = {
                "10 degrees off": off,
                "fitted from there": held.find(mesh, off),
                "searched": held.find(mesh, None),
            }
            best = found["searched"]
            if held.predicted is not None:
                best = held.find(mesh, held.predicted)
                found |= {"predicted": held.predicted, "predicted, fitted": best}
            for name, camera in found.items():
                turns.setdefault(name, []).append(held.turn(camera))
            assert isinstance(model.model, InferenceModel)
            for name, camera in (("true", held.camera), ("found", best)):
                row = [held.scores(mesh, camera)]
                walk = refinement(
                    model.model, held.code, camera_batch(camera, model.device), held.mask, settings=settings
                )
                start = time.process_time()
                for step in range(1, max(options.steps) + 1):
                    code = next(walk)
                    if step in options.steps:
                        seconds.append((time.process_time() - start) / step)
                        refined = held.mesh(code)
                        row.append(held.scores(refined, camera))
                        start = time.process_time() - seconds[-1] * step
                shapes[name].append(row)
                bent, moved = held.bent(camera)
                outlines[name].append(held.scores(bent, moved))
                if camera is best:
                    turns.setdefault("with the outline", []).append(held.turn(moved))
            if options.rows:
                angles = ", ".join(f"{name} {values[-1]:.1f}" for name, values in turns.items())
                figures = "; ".join(
                    name + " " + " > ".join(f"{i:.1f}/{c:.3f}/{f:.1f}" for i, c, f in rows[-1])
                    for name, rows in shapes.items()
                )
                print(f"{held.name}: {angles}; {figures}", flush=True)
    print(f"{len(records)} pictures of the {options.split} split of {options.data}, model {options.model}")
    print(TURNS)
    for name, values in turns.items():
        print(summary(name, values))
    print(f"\na step takes {np.median(seconds):.3f} s of one core")
    print(
        "| camera | steps | mask IoU % ↑ | Chamfer x10 ↓ | F@0.1 ↑ | better / worse |\n|---|---:|---:|---:|---:|---:|"
    )
    tables = {name: np.array(rows) for name, rows in shapes.items()}  # pictures, steps, figures
    tables["found, kept"] = kept_where_better(tables["found"])
    for name, table in tables.items():
        for number, step in enumerate(options.steps):
            if name != "found, kept" or step:
                print(scored(name, step, table[:, number], table[:, 0, 1]))
    for name, rows in outlines.items():
        print(scored(f"{name}, bent to the outline", 0, np.array(rows), tables[name][:, 0, 1]))


if __name__ == "__main__":
    main()
