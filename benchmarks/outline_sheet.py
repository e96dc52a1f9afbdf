"""Pictures of a split beside their meshes as predicted and bent to the outline.

python benchmarks/outline_sheet.py data/pix3d --out docs/images/outline.jpg
"""

import argparse
from pathlib import Path

from PIL import Image

from tars3d.atomic import atomic_path
from tars3d.data.collection import load_collection
from tars3d.data.pictures import read_picture
from tars3d.evaluate.evaluation import chosen_views, evenly
from tars3d.geometry.views import orbit_views
from tars3d.progress import progress_bar
from tars3d.reconstruct import load
from tars3d.sheets import contact_sheet

TILE = 160


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="chair")
    parser.add_argument("--split", default="test")
    parser.add_argument("--limit", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    model, rows = load(options.model), []
    records = evenly(chosen_views(load_collection(options.data), options.split, 1, options.seed), options.limit)
    with progress_bar() as bar:
        for record in bar.track(records, description="pictures"):
            picture = read_picture(record.file, record.mask)
            found = [model.reconstruct_pictures([picture], outline=outline) for outline in ("none", "always")]
            views = [view for one in found for view in orbit_views(one.mesh, count=4, size=2 * TILE)[:2]]
            rows.append([found[0].framed, *views])
    with atomic_path(options.out) as temporary:
        Image.fromarray(contact_sheet(rows, tile=TILE)).save(temporary, "JPEG", quality=88)


if __name__ == "__main__":
    main()
