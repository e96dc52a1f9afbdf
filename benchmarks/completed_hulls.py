"""The picture of docs/birds.md: the category's hull, then pictures of a collection with one of each object: the mask, and its hull as the
category completes it, from four sides and from above.

    python benchmarks/completed_hulls.py data/birds --pictures 0 40 80 120 --out docs/images/bird-hulls.png
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import trimesh
from PIL import Image
from torch import Tensor

from tars3d.data.bank import load_bank
from tars3d.data.category_hull import category_hull
from tars3d.data.collection import load_collection
from tars3d.geometry.camera import look_at_origin
from tars3d.geometry.isosurface import extract_mesh
from tars3d.geometry.views import orbit_views, render_view
from tars3d.presets import COMPACT_MODEL as MODEL
from tars3d.sheets import contact_sheet, write_picture

SIZE = 150


def views(level: Callable[[Tensor], Tensor], resolution: int) -> list[np.ndarray]:
    """Four sides and the top of a field's surface."""

    def values(points: np.ndarray) -> np.ndarray:
        return level(torch.from_numpy(points)).numpy()

    mesh: trimesh.Trimesh = extract_mesh(values, (-0.6, 0.6), resolution, dense=True).mesh
    above = look_at_origin(90.0, 89.9, 2.5)
    intrinsics = np.array([[0.95 * SIZE, 0, SIZE / 2], [0, 0.95 * SIZE, SIZE / 2], [0, 0, 1]])
    return [*orbit_views(mesh, count=4, size=SIZE, extent=0.7), render_view(mesh, intrinsics, above, False, SIZE, SIZE)]


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--pictures", type=int, nargs="+", default=[0, 40, 80, 120], help="of the train split")
    parser.add_argument("--resolution", type=int, default=64)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    records = load_collection(options.data).split("train")
    bank = load_bank(records, size=MODEL.picture_size, framing=MODEL.framing, padding=MODEL.padding)
    category = category_hull(bank)
    blank = np.full((SIZE, SIZE, 3), 255, np.uint8)
    rows = [[blank, *views(category.level, options.resolution)]]
    for number in options.pictures:
        picture = torch.tensor([number])
        signed = torch.where(bank.mask[picture], -1.0, 1.0) * bank.distance[picture].float()
        cameras = bank.cameras[picture]
        guess = category.guess(signed, cameras)

        def completed(points: Tensor, signed=signed, cameras=cameras, guess=guess) -> Tensor:
            return category.completed(points, signed, cameras, guess)

        shown = np.where(bank.mask[number].numpy()[..., None], 120, 255).astype(np.uint8).repeat(3, axis=2)
        mask = np.asarray(Image.fromarray(shown).resize((SIZE, SIZE)))
        rows.append([mask, *views(completed, options.resolution)])
    write_picture(options.out, contact_sheet(rows, tile=SIZE), colors=64)


if __name__ == "__main__":
    main()
