"""The picture of docs/photo.md: each picture, the mesh laid over it, and the mesh in its photo texture from four sides.

tars3d reconstruct A.png B.jpg --texture photo --resolution 64 --out photos
python benchmarks/photo_sheet.py A.png B.jpg --meshes photos --out docs/images/photo.jpg
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from tars3d.atomic import atomic_path
from tars3d.data.framing import apply_crop, full_crop
from tars3d.data.pictures import read_picture
from tars3d.sheets import contact_sheet
from tars3d.transfer.painted import read_painted

SIZE = 200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path, nargs="+")
    parser.add_argument("--meshes", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    rows = []
    for path in options.pictures:
        picture = read_picture(path)
        shown = apply_crop(picture.rgb, picture.mask, full_crop(*picture.mask.shape), SIZE)[0]
        overlay = Image.open(options.meshes / f"{path.stem}.overlay.png")
        overlay.thumbnail((SIZE, SIZE))
        painted = read_painted(options.meshes / f"{path.stem}.glb")
        views = [painted.view(azimuth, 15, SIZE, extent=0.8) for azimuth in (-40, 40, 130, 220)]
        rows.append([shown, np.asarray(overlay), *views])
    with atomic_path(options.out) as temporary:
        Image.fromarray(contact_sheet(rows, tile=SIZE)).save(temporary, "JPEG", quality=88)


if __name__ == "__main__":
    main()
