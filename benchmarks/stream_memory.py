"""Resident memory while training reads packed pictures as a stream, and what the same pictures take in memory.

    python benchmarks/stream_memory.py --pictures 100000 [--in-memory] [--folder DIR]

writes a synthetic collection (discs of one colour, 20 pictures an object) to DIR, packs it, and trains a tiny model for one epoch in a
process of its own, which prints its resident memory on the way. Hull points are random: their bytes count here, not their meaning.
`--in-memory` loads the folder as `tars3d train FOLDER` does, instead.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

VIEWS, SIZE = 20, 48


def resident() -> float:
    """Of this process, MB (2^20 bytes)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20


def write_collection(root: Path, pictures: int) -> None:
    """Discs of drawn colours, sizes and places."""
    import numpy as np
    from PIL import Image, ImageDraw

    from tars3d.data.collection import write_index
    from tars3d.data.image_record import ImageRecord
    from tars3d.geometry.camera import look_at_origin

    (root / "images").mkdir(parents=True)
    random = np.random.default_rng(0)
    intrinsics = np.array([[1.5 * SIZE, 0, SIZE / 2], [0, 1.5 * SIZE, SIZE / 2], [0, 0, 1.0]])
    cameras = [look_at_origin(18.0 * view, 20.0, 2.7) for view in range(VIEWS)]
    entries = {}
    for number in range(pictures):
        image = Image.new("RGBA", (SIZE, SIZE))
        x, y, r = random.uniform([20, 20, 8], [28, 28, 16])
        ImageDraw.Draw(image).ellipse((x - r, y - r, x + r, y + r), fill=(*random.integers(0, 255, 3).tolist(), 255))
        file = root / "images" / f"{number:06d}.png"
        image.save(file, compress_level=1)
        record = ImageRecord(
            file.stem, file, None, f"o{number // VIEWS}", "perspective", intrinsics, cameras[number % VIEWS]
        )
        entries[file.stem] = record.to_json(root)
    names = [f"o{number}" for number in range(-(-pictures // VIEWS))]
    write_index(root, "disc", entries, {"train": names[1:], "val": names[:1], "test": []})


def pack(folder: Path, shards: Path) -> None:
    """As `tars3d data pack`, with random hull points."""
    import torch

    from tars3d.data import pack as packing
    from tars3d.data.frames import Framing
    from tars3d.data.hull import hull_samples

    def random_hulls(bank, samples, seed):
        one = hull_samples(bank_of_one(bank), samples=samples, seed=seed)
        every = {name: value.expand(bank.objects, *value.shape[1:]) for name, value in vars(one).items()}
        return type(one)(**every)

    def bank_of_one(bank):
        first = torch.arange(VIEWS)
        return replace(
            bank,
            rgb=bank.rgb[first],
            mask=bank.mask[first],
            distance=bank.distance[first],
            cameras=bank.cameras[first],
            instance=bank.instance[first],
            instances=bank.instances[:1],
            names=bank.names[:VIEWS],
        )

    packing.hull_samples = random_hulls
    packing.pack_collection(folder, shards, Framing(64, "bbox", 1.15), samples=1024)


def stream(shards: Path) -> None:
    """Train a tiny model for one epoch, and print resident memory."""
    import torch

    from tars3d.config import ModelConfig, Preset, TrainingConfig
    from tars3d.data.stream import PictureStream
    from tars3d.presets import compact
    from tars3d.training import trainer
    from tars3d.training.allocator import keep_freed_memory
    from tars3d.training.open_data import open_data
    from tars3d.training.run_folder import RunFolder

    keep_freed_memory()
    torch.set_num_threads(1)
    small = {"encoder_widths": (8, 8, 16, 16), "encoder_depths": (1, 1, 1, 1), "encoder_hub_id": None}
    model = ModelConfig(
        picture_size=64, encoder_input=32, framing="bbox", padding=1.15, code_width=8, width=8, hidden=8,
        generator_depth=1, deform_depth=1, octaves=2, near_constant=True, **small,
    )  # fmt: skip
    hull = next(stage for stage in compact().training.stages if stage.name == "hull")
    stage = replace(hull, losses=replace(hull.losses, camera=0.0), batch=64, points=8, hull_points=16)
    training = replace(compact().training, stages=(stage,), validate_every=0)
    data = open_data([shards], Preset(model, training), torch.device("cpu"))
    assert isinstance(data.pictures, PictureStream)
    steps = len(data.pictures) // stage.batch
    training = TrainingConfig(**{**vars(training), "stages": (replace(stage, steps=steps),)})
    print(f"{len(data.pictures):,} pictures in {len(data.pictures.shards)} shards, {data.pictures.windows} windows")
    print(
        f"{'pictures seen':>14s} {'resident MB':>12s} {'seconds':>8s}\n{0:14,d} {resident():12.0f} {0:8.0f}", flush=True
    )
    started = time.monotonic()
    every = max(1, steps // 16)

    def watch(method, progress) -> None:
        seen, seconds = progress.step * stage.batch, time.monotonic() - started
        print(f"{seen:14,d} {resident():12.0f} {seconds:8.0f}", flush=True)

    with tempfile.TemporaryDirectory() as run:
        trainer.train(
            Preset(model, training),
            data.pictures,
            RunFolder(run),
            device=torch.device("cpu"),
            watch=watch,
            watch_every=every,
        )
    print(f"most at any time: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")


def in_memory(folder: Path) -> None:
    """Load all pictures, and print resident memory."""
    from tars3d.data.bank import load_bank
    from tars3d.data.collection import load_collection

    collection = load_collection(folder)
    before = resident()
    bank = load_bank(collection.split("train"), size=64, framing="bbox", padding=1.15)
    print(f"{len(bank):,} pictures in memory: {resident():.0f} MB resident, {before:.0f} MB before them")


def main() -> None:
    """Write, pack and stream, each step in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=100_000)
    parser.add_argument("--folder", type=Path, default=None, help="where to work; default is a temporary folder")
    parser.add_argument("--in-memory", action="store_true")
    parser.add_argument("--only", choices=["write", "pack", "stream", "memory"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    root = arguments.folder or Path(tempfile.mkdtemp())
    folder, shards = root / "folder", root / "shards"
    if arguments.only == "write":
        write_collection(folder, arguments.pictures)
    elif arguments.only == "pack":
        pack(folder, shards)
    elif arguments.only == "stream":
        stream(shards)
    elif arguments.only == "memory":
        in_memory(folder)
    else:
        steps = ["write"] * (not folder.exists())
        steps += ["memory"] if arguments.in_memory else ["pack"] * (not shards.exists()) + ["stream"]
        for step in steps:
            options = ["--pictures", str(arguments.pictures), "--folder", str(root), "--only", step]
            subprocess.run([sys.executable, __file__, *options], check=True)


if __name__ == "__main__":
    main()
