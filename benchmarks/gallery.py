"""The gallery of docs/correspondence.md: checkers and stripes painted on one object and carried to others.

    python benchmarks/gallery.py SOURCE TARGET... [--model M] --out docs/images/correspondence.png

SOURCE and TARGET are pictures. A column is an object, the first one is the source; the rows are the picture, checkers,
stripes, and canonical colours.
"""

import argparse
from pathlib import Path

import numpy as np

from tars3d import correspond, load
from tars3d.correspondence import canonical_colors
from tars3d.geometry.views import orbit_camera, render_view
from tars3d.progress import progress_bar
from tars3d.rules import SMOOTH
from tars3d.sheets import contact_sheet, write_picture

BRIGHT, DARK = np.array([240, 226, 190]), np.array([190, 45, 40])
GREY = np.array([150, 150, 150])


def checkers(points: np.ndarray) -> np.ndarray:
    """Cubes of two colours, side 1/9 of the object."""
    even = np.floor(points * 9 + 0.5).sum(axis=1) % 2 == 0
    return np.where(even[:, None], BRIGHT, DARK)


def stripes(points: np.ndarray) -> np.ndarray:
    """Bands of three colours, turned by 45 degrees about the line of sight, so that no part is along them."""
    band = np.floor((points[:, 1] + points[:, 0] + 0.5 * points[:, 2]) * 9).astype(int) % 3
    return np.array([[40, 80, 160], [240, 226, 190], [230, 150, 30]])[band]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("targets", type=Path, nargs="+")
    parser.add_argument("--model", default="chair")
    parser.add_argument("--resolution", type=int, default=128)
    parser.add_argument("--feature-weight", type=float, default=SMOOTH.feature_weight)
    parser.add_argument("--normal-weight", type=float, default=SMOOTH.normal_weight)
    parser.add_argument("--height-weight", type=float, default=SMOOTH.height_weight)
    parser.add_argument("--max-distance", type=float, default=SMOOTH.max_distance)
    parser.add_argument("--azimuth", type=float, default=30.0, help="degrees")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()

    model = load(options.model)
    pictures = [options.source, *options.targets]
    columns: list[list[np.ndarray]] = []
    camera = orbit_camera(options.azimuth, 20.0, 320, extent=0.86)
    source = model.reconstruct(options.source, resolution=options.resolution)
    with progress_bar() as bar:
        for path in bar.track(pictures, description="carrying"):
            target = model.reconstruct(path, resolution=options.resolution)
            found = correspond(
                source, target, feature_weight=options.feature_weight, normal_weight=options.normal_weight,
                height_weight=options.height_weight, max_distance=options.max_distance,
            )  # fmt: skip
            rows = [target.framed]
            for paint in (checkers, stripes):
                painted = np.where(found.counterpart[:, None], paint(found.points), GREY)
                rows.append(render(target.mesh, camera, painted / 255))
            rows.append(render(target.mesh, camera, canonical_colors(target.canonical) / 255))
            columns.append(rows)
    tiles = [list(row) for row in zip(*columns, strict=True)]
    sheet = contact_sheet(tiles, tile=150, header=["painted here", *["carried to"] * len(options.targets)])
    print(write_picture(options.out, sheet, colors=256))  # no difference that eyes find


def render(mesh, camera: tuple[np.ndarray, np.ndarray], colors: np.ndarray) -> np.ndarray:
    """The mesh from the side of the gallery."""
    return render_view(mesh, *camera, True, 320, 320, vertex_colors=colors)


if __name__ == "__main__":
    main()
