"""How well Pix3D's annotated viewpoints, in this project's camera convention, explain real chair masks.

    python benchmarks/pix3d_overlap.py PIX3D_CHAIRS [--count N] [--sheet docs/images/pix3d-overlap.png] [--json FILE]

PIX3D_CHAIRS holds masks/NNNN.png, masks.csv (mask, model, azimuth_deg, elevation_deg, crop_x, crop_y, crop_side, image_w, image_h)
and meshes/NAME.ply. Azimuth and elevation are taken as annotated (`geometry.camera.look_at_origin`); roll, distance (with it the
strength of perspective), focal length and centre are fitted to each mask, from the annotation's square crop. The figures are the
overlap (intersection over union) of mask and silhouette. Data: Pix3D (Sun et al., CVPR 2018, CC BY 4.0).
"""

import argparse
import csv
import json
from pathlib import Path

import numpy as np
import trimesh
from PIL import Image
from scipy.optimize import minimize

from tars3d.atomic import atomic_path
from tars3d.geometry.camera import look_at_origin, pinhole
from tars3d.geometry.masks import mask_box
from tars3d.geometry.rasterize import project, silhouette
from tars3d.sheets import contact_sheet, write_picture

SIZE = 112
"""Side to which masks are reduced for the fit; the reported overlap is at their full size."""


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / max((a | b).sum(), 1))


def camera(parameters: np.ndarray, azimuth: float, elevation: float, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Intrinsics and extrinsics from log distance, roll (degrees), log size in the picture, and centre (in picture sides)."""
    log_distance, roll, log_size, u, v = parameters
    distance = float(np.exp(log_distance))
    extrinsics = look_at_origin(azimuth, elevation, distance, float(roll))
    focal = float(np.exp(log_size)) * distance * size
    return pinhole(focal, (u * size, v * size)), extrinsics


def boxed(
    parameters: np.ndarray, azimuth: float, elevation: float, mask: np.ndarray, mesh: trimesh.Trimesh
) -> np.ndarray:
    """The same camera, moved and scaled so that the boxes of projection and mask coincide."""
    size = len(mask)
    low, high = mask_box(mask) / size
    moved = parameters.copy()
    for _ in range(2):
        pixels = project(mesh.vertices, *camera(moved, azimuth, elevation, size), True)[0] / size
        extent = pixels.max(axis=0) - pixels.min(axis=0)
        moved[2] += np.log(np.sqrt(((high - low) / extent).prod()))
        pixels = project(mesh.vertices, *camera(moved, azimuth, elevation, size), True)[0] / size
        moved[3:] += ((low + high) - (pixels.max(axis=0) + pixels.min(axis=0))) / 2
    return moved


def fit(mask: np.ndarray, mesh: trimesh.Trimesh, azimuth: float, elevation: float) -> np.ndarray:
    """The parameters with the best overlap, from three strengths of perspective."""
    small = np.asarray(Image.fromarray(mask).resize((SIZE, SIZE), Image.Resampling.BOX))

    def loss(parameters: np.ndarray) -> float:
        drawn = silhouette(mesh, *camera(parameters, azimuth, elevation, SIZE), True, SIZE, SIZE)
        return -overlap(drawn, small)

    starts = [
        boxed(np.array([np.log(d), 0.0, 0.0, 0.5, 0.5]), azimuth, elevation, small, mesh) for d in (1.3, 2.0, 4.0)
    ]
    start = min(starts, key=loss)
    simplex = np.stack([start, *(start + step for step in np.diag([0.2, 4.0, 0.03, 0.02, 0.02]))])
    found = minimize(
        loss, start, method="Nelder-Mead", options={"initial_simplex": simplex, "maxfev": 120, "xatol": 1e-3}
    )
    return found.x if found.fun < loss(start) else start


def read(folder: Path, count: int | None) -> list[dict[str, str]]:
    """The rows with a viewpoint; `count` evenly chosen ones."""
    with (folder / "masks.csv").open(encoding="utf-8", newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["azimuth_deg"]]
    return rows if count is None else [rows[k] for k in np.linspace(0, len(rows) - 1, count).round().astype(int)]


def measure(
    folder: Path, row: dict[str, str], meshes: dict[str, trimesh.Trimesh]
) -> tuple[float, np.ndarray, np.ndarray, dict[str, float]]:
    """Overlap at full size, the mask, the silhouette drawn at the annotated viewpoint, and what was fitted or annotated of the camera."""
    mask = np.asarray(Image.open(folder / "masks" / row["mask"]).convert("L")) > 127
    if row["model"] not in meshes:
        mesh = trimesh.load(folder / "meshes" / f"{row['model']}.ply", process=False, force="mesh")
        assert isinstance(mesh, trimesh.Trimesh)
        mesh.apply_translation(-mesh.bounds.mean(axis=0))
        mesh.apply_scale(1 / mesh.extents.max())
        meshes[row["model"]] = mesh
    mesh, angles = meshes[row["model"]], (float(row["azimuth_deg"]), float(row["elevation_deg"]))
    fitted = fit(mask, mesh, *angles)
    drawn = silhouette(mesh, *camera(fitted, *angles, len(mask)), True, *mask.shape)
    about = {"distance": float(np.exp(fitted[0])), "roll": float(fitted[1]), "elevation": angles[1]}
    return overlap(drawn, mask), mask, drawn, about


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--count", type=int, help="how many masks, evenly chosen; default all with a viewpoint")
    parser.add_argument("--sheet", type=Path, help="PNG of overlays, from the best to the worst")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    meshes: dict[str, trimesh.Trimesh] = {}
    rows = read(arguments.data, arguments.count)
    found = []
    for number, row in enumerate(rows):
        found.append(measure(arguments.data, row, meshes))
        if number % 50 == 49:
            print(f"{number + 1} of {len(rows)}: median {np.median([f[0] for f in found]):.3f}", flush=True)
    values = np.array([f[0] for f in found])
    table = {"masks": len(values), "models": len({row["model"] for row in rows}), "median": float(np.median(values))}
    table |= {f"percentile {q}": float(np.percentile(values, q)) for q in (5, 25, 75, 95)}
    table["share above 0.9"] = float((values > 0.9).mean())
    good = [about for value, *_, about in found if value > 0.9]
    for name in good[0] if good else ():  # distance in lengths of the object's longest side; degrees
        for q in (5, 25, 50, 75, 95):
            table[f"{name}, percentile {q}"] = float(np.percentile([about[name] for about in good], q))
    for name, value in table.items():
        print(f"{name:>24}  {value:.3f}" if isinstance(value, float) else f"{name:>24}  {value}")
    if arguments.json:
        with atomic_path(arguments.json) as path:
            path.write_text(json.dumps(table, indent=1))
    if arguments.sheet:
        order = np.argsort(-values)
        chosen = order[np.linspace(0, len(order) - 1, min(40, len(order))).round().astype(int)]
        tiles, words = [], []
        for k in chosen:
            _, mask, drawn, _ = found[k]
            tile = np.full((*mask.shape, 3), 255, np.uint8)
            tile[mask & drawn], tile[mask & ~drawn], tile[drawn & ~mask] = (150, 150, 150), (220, 30, 30), (30, 70, 255)
            tiles.append(tile)
            words.append(f"{values[k]:.3f} {rows[k]['model']}")
        write_picture(arguments.sheet, contact_sheet([tiles], [words], columns=8, tile=128), colors=64)


if __name__ == "__main__":
    main()
