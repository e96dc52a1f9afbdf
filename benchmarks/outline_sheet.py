"""Pictures of a split beside their meshes as predicted and bent to the outline, or several pictures of an object beside the mesh of the first
of them and that of all together.

python benchmarks/outline_sheet.py data/pix3d --out docs/images/outline.jpg
python benchmarks/outline_sheet.py data/pix3d_photos --views 3 --limit 8 --out docs/images/together.jpg
"""

import argparse
from pathlib import Path

from PIL import Image

from tars3d.atomic import atomic_path
from tars3d.data.collection import load_collection
from tars3d.data.image_record import by_object
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
    parser.add_argument("--views", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    model, rows = load(options.model), []
    records = chosen_views(load_collection(options.data), options.split, options.views, options.seed)
    objects = evenly(list(by_object(records).values()), options.limit)
    with progress_bar() as bar:
        for shown in bar.track(objects, description="objects"):
            pictures = [read_picture(record.file, record.mask) for record in shown]
            if options.views > 1:
                found = [model.reconstruct_pictures(some) for some in (pictures[:1], pictures)]
            else:
                found = [
                    model.reconstruct_pictures(pictures, outline="none", colors="model"),
                    model.reconstruct_pictures(pictures, outline="always"),
                ]
            views = [view for one in found for view in orbit_views(one.mesh, count=4, size=2 * TILE)[:2]]
            rows.append([*(model.framed(picture).rgb for picture in pictures), *views])
    with atomic_path(options.out) as temporary:
        Image.fromarray(contact_sheet(rows, tile=TILE)).save(temporary, "JPEG", quality=88)


if __name__ == "__main__":
    main()
