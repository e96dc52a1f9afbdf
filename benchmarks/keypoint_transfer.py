"""How well annotated keypoints move between reconstructions of single pictures, through the canonical shape and without it.

    python benchmarks/keypoint_transfer.py data/birds --model runs/birds

Every keypoint of a picture is lifted onto the picture's own mesh (the nearest vertex in the picture, the foremost of several),
carried to each other picture's mesh, and projected there with that picture's camera. The error is the distance to that
picture's own annotation, as a share of the longer side of its mask's box. `object space` takes the nearest vertex in the object's frame
instead of in canonical space: what alignment alone gives.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from scipy.spatial import KDTree

from tars3d.data.collection import load_collection
from tars3d.data.pictures import read_picture
from tars3d.geometry.rasterize import project
from tars3d.reconstruct import load

NEAR = 0.02
"""Box sides from the nearest vertex within which others compete for being the foremost."""


@dataclass(frozen=True, eq=False)
class Seen:
    """A reconstruction as seen by its own picture's camera; pixels in box sides."""

    vertices: np.ndarray
    canonical: np.ndarray
    pixels: np.ndarray
    depth: np.ndarray
    keypoints: dict[str, np.ndarray]

    def lift(self, point: np.ndarray) -> int:
        """The vertex that a keypoint lies on."""
        away = np.linalg.norm(self.pixels - point, axis=1)
        close = np.flatnonzero(away <= away.min() + NEAR)
        return int(close[self.depth[close].argmin()])


def main(
    data: Annotated[Path, tyro.conf.Positional],
    model: str,
    split: str = "test",
    resolution: int = 64,
) -> None:
    """Print median errors and the share within a tenth, by keypoint.

    Args:
        data: collection with keypoints and cameras.
        model: as for `tars3d evaluate`.
        split: of the collection.
        resolution: cells of the search grid along each axis.
    """
    reconstructor = load(model, device="cpu")
    objects = []
    for record in load_collection(data).split(split):
        picture = read_picture(record.file, record.mask)
        framed = reconstructor.frame(picture, record.crop)
        found = reconstructor.mesh(reconstructor.shapes(framed[None]), framed, resolution=resolution)
        pixels, depth = project(
            np.asarray(found.mesh.vertices), record.intrinsics, record.extrinsics, record.model == "perspective"
        )
        rows, columns = np.nonzero(picture.mask)
        box = float(max(np.ptp(rows), np.ptp(columns)) + 1)
        keypoints = {name: np.array([u, v]) / box for name, (u, v, seen) in (record.keypoints or {}).items() if seen}
        objects.append(Seen(np.asarray(found.mesh.vertices), found.canonical[:, :3], pixels / box, depth, keypoints))
    errors: dict[str, list[tuple[float, float]]] = {}
    trees = [(KDTree(one.canonical), KDTree(one.vertices)) for one in objects]
    for a, source in enumerate(objects):
        for name, point in source.keypoints.items():
            vertex = source.lift(point)
            for b, target in enumerate(objects):
                if a == b or name not in target.keypoints:
                    continue
                there = [
                    int(trees[b][0].query(source.canonical[vertex])[1]),
                    int(trees[b][1].query(source.vertices[vertex])[1]),
                ]
                pair = np.linalg.norm(target.pixels[there] - target.keypoints[name], axis=1)
                errors.setdefault(name, []).append((float(pair[0]), float(pair[1])))
    every = np.concatenate([np.array(values) for values in errors.values()])
    print(f"{'':14}  canonical: median, within 0.1   object space: median, within 0.1      pairs")
    for name, values in [*sorted(errors.items()), ("all", every)]:
        both = np.array(values)
        middle, share = np.median(both, axis=0), (both < 0.1).mean(axis=0)
        print(
            f"{name:14}  {middle[0]:17.3f}  {100 * share[0]:10.0f}%   {middle[1]:20.3f}  {100 * share[1]:10.0f}%  {len(both):9d}"
        )


if __name__ == "__main__":
    tyro.cli(main)
