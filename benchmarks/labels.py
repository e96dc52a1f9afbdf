"""The picture of labels in docs/correspondence.md: true labels of a few rendered objects, carried to other pictures together.

    python benchmarks/labels.py COLLECTION TARGET... --sources 17 6 14 [--model M] --out docs/images/labels.png

COLLECTION is one that `tars3d bench correspondence --data` keeps; `--sources` counts its pictures from 0. Sources and targets are rows: the picture, and the
labelled reconstruction from three sides.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
from scipy.spatial import KDTree

from tars3d import load
from tars3d.data.collection import ImageCollection, load_collection
from tars3d.data.pictures import as_picture
from tars3d.export import export_mesh, read_mesh
from tars3d.geometry.views import orbit_views
from tars3d.reconstruct import Reconstructor
from tars3d.sheets import contact_sheet, write_picture
from tars3d.transfer import TransferSettings
from tars3d.transfer.labels import transfer_labels
from tars3d.transfer.session import PALETTE, colored


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("collection", type=Path)
    parser.add_argument("targets", type=Path, nargs="+")
    parser.add_argument("--sources", type=int, nargs="+", required=True)
    parser.add_argument("--model", default="chair")
    parser.add_argument("--resolution", type=int, default=96)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()

    collection = load_collection(options.collection)
    count = len(collection.images)
    if strange := [number for number in options.sources if not 0 <= number < count]:
        parser.error(f"--sources {strange[0]}: {options.collection} has {count} pictures, counted from 0")
    model = load(options.model)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        labelled = []
        for number in options.sources:
            row, files = labelled_source(model, collection, number, options.resolution, folder)
            rows.append(row)
            labelled.append(files)
        (source, listing), *more = labelled
        settings = TransferSettings(model=options.model, resolution=options.resolution, out=folder)
        pairs = [f"{mesh}={parts}" for mesh, parts in more]
        for path, result in zip(
            options.targets, transfer_labels(source, listing, options.targets, settings, more=pairs), strict=True
        ):
            framed = model.framed(as_picture(path)).rgb
            rows.append([framed, *orbit_views(read_mesh(result.files[0]), count=4, size=320)[:3]])
    captions = [[f"labelled object {i + 1}", "", "", ""] for i in range(len(labelled))]
    captions += [["carried to", "", "", ""] for _ in options.targets]
    print(write_picture(options.out, contact_sheet(rows, captions, tile=150), colors=256))


def labelled_source(
    model: Reconstructor, collection: ImageCollection, number: int, resolution: int, folder: Path
) -> tuple[list[np.ndarray], tuple[Path, Path]]:
    """A row of the picture, and the mesh and labels as a user would write them: each vertex has the part of the nearest true point."""
    record = collection.images[number]
    found = model.reconstruct(record.file, resolution=resolution, camera="none")
    truth = collection.ground_truth_labels(record.instance)
    if truth is None:
        raise SystemExit(
            f"{record.file}: its object has no part labels; name one that tars3d bench correspondence --data keeps"
        )
    labels, names = truth
    labels = labels[KDTree(collection.ground_truth(record.instance)[0]).query(found.mesh.vertices)[1]]
    mesh, listing = folder / f"source{number}.glb", folder / f"source{number}.json"
    export_mesh(found.mesh, found.canonical, mesh, "glb", space=model.space)
    parts = {names[part]: np.flatnonzero(labels == part).tolist() for part in range(len(names))}
    listing.write_text(json.dumps({"vertices": parts}))
    views = orbit_views(colored(found.mesh, PALETTE[labels]), count=4, size=320)
    return [found.framed, *views[:3]], (mesh, listing)


if __name__ == "__main__":
    main()
