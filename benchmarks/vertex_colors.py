"""How near a reconstruction's vertex colours come to other pictures of the object: the model's alone, and with those of its picture.

    python benchmarks/vertex_colors.py data/pix3d --limit 30

Of each object one picture is reconstructed (`tars3d evaluate` takes the same one); the mesh is then seen, without light, by the annotated
cameras of that picture and of others, and compared with them where silhouettes overlap. Prints the mean distance in CIELAB, and for how
many objects colours came nearer.
"""

import argparse
from pathlib import Path

import numpy as np
import trimesh
from skimage.color import rgb2lab

from tars3d.data.collection import load_collection
from tars3d.data.image_record import ImageRecord
from tars3d.data.pictures import read_picture
from tars3d.evaluate.evaluation import chosen_views, evenly
from tars3d.geometry.rasterize import silhouette
from tars3d.geometry.views import render_view
from tars3d.photo.colors import in_photo_colors
from tars3d.progress import progress_bar
from tars3d.reconstruct import load


def difference(mesh: trimesh.Trimesh, record: ImageRecord) -> float:
    """Mean distance of a mesh's colours to those of a picture, seen by its annotated camera, CIELAB."""
    picture = read_picture(record.file, record.mask)
    camera = (record.intrinsics, record.extrinsics, record.model == "perspective", *picture.mask.shape)
    drawn = render_view(mesh, *camera, light=False, supersample=1)
    both = picture.mask & silhouette(mesh, *camera)
    return float(np.linalg.norm(rgb2lab(drawn[both]) - rgb2lab(picture.rgb[both]), axis=-1).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="chair")
    parser.add_argument("--split", default="test")
    parser.add_argument("--limit", type=int, default=30, help="objects")
    parser.add_argument("--views", type=int, default=6, help="other pictures of each, spread evenly")
    parser.add_argument("--resolution", type=int, default=128)
    options = parser.parse_args()
    collection = load_collection(options.data)
    model = load(options.model)
    records = evenly(chosen_views(collection, options.split, 1, 0), options.limit)
    rows = []
    with progress_bar() as bar:
        for record in bar.track(records, description="pictures"):
            others = [
                one for one in collection.split(options.split) if one.instance == record.instance and one is not record
            ]
            others = evenly(others, options.views)
            picture = read_picture(record.file, record.mask)
            plain = model.reconstruct_pictures([picture], resolution=options.resolution, colors="model")
            worn = in_photo_colors([picture], plain, model.symmetric, model.device)
            if worn is plain:
                print(f"{record.name}: its camera is not to be trusted, so both are the model's")
            meshes = (plain.mesh, worn.mesh)
            rows.append(
                [[difference(mesh, record), np.mean([difference(mesh, one) for one in others])] for mesh in meshes]
            )
    table = np.array(rows)  # objects, kinds, own and others
    print(f"{len(table)} objects of {options.data}, {options.views} other pictures each; CIELAB units")
    for name, own, other in zip(("the model's", "the photo's"), *table.mean(axis=0).T, strict=True):
        print(f"{name:12s} own picture {own:5.1f}   other pictures {other:5.1f}")
    nearer = (table[:, 1] < table[:, 0]).sum(axis=0)
    print(f"nearer with the photo's: own picture {nearer[0]}, other pictures {nearer[1]} of {len(table)}")


if __name__ == "__main__":
    main()
