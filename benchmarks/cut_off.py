"""Pictures that cut their object off, and what `reconstruct` makes of them: each is cut at one side, by shares of the object's extent there.

    python benchmarks/cut_off.py data/pix3d [--model chair] [--views 1] [--limit 30]

Prints Chamfer distance x10 of the meshes, means over the pictures: as reconstructed whole; cut, with the visible part framed by itself; cut, with the
extent that was found; and with the true one, which nobody knows. A share of 0 is a picture that ends where the object does. Then the time that an
extent takes to find.
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from tars3d.data.collection import load_collection
from tars3d.data.framing import FramedPicture, Side, bbox_crop, cut_sides
from tars3d.data.pictures import Picture, read_picture
from tars3d.evaluate.evaluation import chosen_views, evenly
from tars3d.evaluate.metrics import Protocol, score_reconstruction
from tars3d.geometry.masks import mask_box
from tars3d.progress import progress_bar
from tars3d.reconstruct import Reconstructor, load

CUTS: tuple[tuple[Side, float], ...] = (
    ("bottom", 0.0),
    ("bottom", 0.15),
    ("bottom", 0.3),
    ("top", 0.2),
    ("right", 0.0),
    ("right", 0.2),
    ("right", 0.35),
)
COLUMNS = ("whole picture", "visible part framed by itself", "extent found", "true extent")


def cut(picture: Picture, side: Side, share: float) -> Picture:
    """The part of a picture that lacks a share of its object at the bottom, the top or the right."""
    (left, top), (right, bottom) = mask_box(picture.mask).astype(int)
    high, wide = share * (bottom - top), share * (right - left)
    window = {
        "bottom": np.s_[: bottom - round(high)],
        "top": np.s_[top + round(high) :],
        "right": np.s_[:, : right - round(wide)],
    }[side]
    return replace(picture, rgb=picture.rgb[window], mask=picture.mask[window])


def chamfer(model: Reconstructor, view: FramedPicture, truth: tuple, resolution: int) -> float:
    """Of the mesh that the model makes of a framed picture, x10."""
    pixels = model.pixels(view)
    with torch.no_grad():
        mesh = model.mesh(model.shapes(pixels[None]), pixels, resolution=resolution).mesh
    return score_reconstruction(mesh, *truth, seed=0, protocol=Protocol(20_000, emd_points=0)).chamfer_x10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="chair")
    parser.add_argument("--split", default="test")
    parser.add_argument("--views", type=int, default=1, help="pictures of an object")
    parser.add_argument("--limit", type=int, default=30, help="pictures at most")
    parser.add_argument("--resolution", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    collection, model = load_collection(options.data), load(options.model)
    if not model.predicts_camera:
        parser.error(f"--model {options.model}: predicts no camera, so no extent can be found")
    config = model.model.config
    records = chosen_views(collection, options.split, options.views, options.seed)
    records = evenly(records, options.limit)
    figures: dict[tuple[Side, float], list[list[float]]] = {case: [] for case in CUTS}
    extended = dict.fromkeys(CUTS, 0)
    seconds: list[float] = []
    with progress_bar() as bar:
        for record in bar.track(records, description="pictures"):
            picture, truth = read_picture(record.file, record.mask), collection.ground_truth(record.instance)
            whole = chamfer(model, model.framed(picture), truth, options.resolution)
            for side, share in CUTS:
                part = cut(picture, side, share)
                visible = model.framed(part)
                sides = cut_sides(part.mask)
                start = time.process_time()
                extent = model.uncut(part, sides, seed=options.seed) if sides else None
                if len(sides) == 1:
                    seconds.append(time.process_time() - start)
                found = visible if extent is None else extent.framed
                crop = bbox_crop(part.mask, config.padding, {side: share / (1 - share)})
                true = FramedPicture.of(part.rgb, part.mask, crop, config.picture_size)
                row = [chamfer(model, view, truth, options.resolution) for view in (visible, found, true)]
                figures[side, share].append([whole, *row])
                extended[side, share] += extent is not None and any(extent.beyond.values())
    print(f"{len(records)} pictures of the {options.split} split of {options.data}, model {options.model}; CD x10")
    print(f"| cut at the | lost | {' | '.join(COLUMNS)} | extended |")
    print("|---|" + "---:|" * (len(COLUMNS) + 2))
    for (side, share), rows in figures.items():
        means = " | ".join(f"{value:.3f}" for value in np.mean(rows, axis=0))
        print(f"| {side} | {share:.0%} | {means} | {extended[side, share] / len(records):.0%} |")
    print(f"{np.median(seconds):.2f} s of one core to find the extent at one edge, median of {len(seconds)}")


if __name__ == "__main__":
    main()
