"""How many pictures a second can be prepared for training, and how many a step of `compact` takes.

    python benchmarks/throughput.py DATA [--sizes 64 128 224] [--pictures 192]
    python benchmarks/throughput.py DATA --shards SHARDS --steps 180

Each part is timed in CPU seconds of one thread, which other work on the machine does not change much; "two workers" is the wall clock of
two decoding threads, as `data.stream` has them, and needs a quiet machine with two cores. What steps consume is their CPU time,
too, on one thread, with all pictures in memory. With `--shards`, the packed form of DATA: CPU seconds of all threads in the hull stage, its pictures
in memory and as a stream that decodes meanwhile.
"""

import argparse
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from tars3d.data.augment import jitter_colors
from tars3d.data.bank import PictureBank, load_bank
from tars3d.data.collection import ImageRecord, load_collection
from tars3d.data.frames import Framing, frame_picture
from tars3d.data.framing import apply_crop, bbox_crop
from tars3d.data.hull import hull_samples
from tars3d.data.pictures import PictureBytes, read_picture
from tars3d.geometry.distance_transform import distance_transform
from tars3d.methods import build_method
from tars3d.presets import compact
from tars3d.training.open_data import open_data
from tars3d.training.stages import KINDS

PADDING = 1.15


def rate(work: Callable[[], object], pictures: int, repeats: int = 3) -> float:
    """Pictures per CPU second of this thread, the best of some repeats."""
    best = float("inf")
    for _ in range(repeats):
        started = time.thread_time()
        work()
        best = min(best, time.thread_time() - started)
    return pictures / best


def prepare(records: list[ImageRecord], size: int) -> list[str]:
    """A row of the table: the parts one by one, then all of them."""
    files = [
        (PictureBytes(r.name, r.file.read_bytes()), r.mask and PictureBytes(r.name, r.mask.read_bytes()))
        for r in records
    ]
    count, how = len(records), Framing(size, "bbox", PADDING)
    pictures = [read_picture(*file) for file in files]
    frames = [frame_picture(p, r.intrinsics, 0, how) for p, r in zip(pictures, records, strict=True)]
    batch = torch.stack([torch.from_numpy(frame.rgb) for frame in frames]).permute(0, 3, 1, 2).float() / 127.5 - 1
    strength = compact().training.color_jitter

    def jitter() -> None:
        generator = torch.Generator().manual_seed(0)
        for part in batch.split(16):
            jitter_colors(part, strength, generator)

    def all_of(row: int, distance: bool) -> None:
        frame_picture(read_picture(*files[row]), records[row].intrinsics, row, how, distance=distance)

    def two_workers(distance: bool) -> float:
        started = time.monotonic()
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda row: all_of(row, distance), range(count)))
        return count / (time.monotonic() - started)

    rates = [
        rate(lambda: [read_picture(*file) for file in files], count),
        rate(lambda: [apply_crop(p.rgb, p.mask, bbox_crop(p.mask, PADDING), size) for p in pictures], count),
        rate(lambda: [distance_transform(frame.mask) for frame in frames], count),
        rate(jitter, count),
        rate(lambda: [all_of(row, False) for row in range(count)], count),
        rate(lambda: [all_of(row, True) for row in range(count)], count),
        two_workers(False),
        two_workers(True),
    ]
    return [f"{size} px", *(f"{value:,.0f}" for value in rates)]


def consume(bank: PictureBank, steps: int) -> list[list[str]]:
    """What the stages of `compact` take: milliseconds of a step, pictures per CPU second."""
    preset = compact()
    method, hulls = build_method(preset.model), hull_samples(bank)
    rows = []
    for number, stage in enumerate(preset.training.stages):
        if stage.kind != "reconstruct":
            continue
        runner = KINDS[stage.kind](method, stage, preset.training, bank, number, hulls)
        optimizer = torch.optim.Adam(list(runner.parameters()), lr=0.0, fused=True)
        seconds = []
        for step in range(steps + 1):
            started = time.thread_time()
            optimizer.zero_grad(set_to_none=True)
            runner.losses(step).total.backward()
            optimizer.step()
            seconds.append(time.thread_time() - started)
        step_seconds = sorted(seconds[1:])[steps // 2]
        pictures = stage.batch * (stage.views if stage.rays else 1)
        rows.append([stage.name, str(pictures), f"{1000 * step_seconds:.0f}", f"{pictures / step_seconds:,.0f}"])
    return rows


def side_by_side(data: Path, shards: Path, steps: int) -> list[list[str]]:
    """The same stage from a folder and from shards: CPU milliseconds of a step, and how much slower the stream is."""
    preset = compact()
    stage = next(stage for stage in preset.training.stages if stage.name == "hull")
    alone, rows = 0.0, []
    for source in (data, shards):
        bank = open_data([source], preset, torch.device("cpu")).pictures
        hulls = hull_samples(bank) if isinstance(bank, PictureBank) else None
        method = build_method(preset.model)
        runner = KINDS[stage.kind](method, stage, preset.training, bank, 1, hulls)
        optimizer = torch.optim.Adam(list(runner.parameters()), lr=0.0, fused=True)
        started = 0.0
        for step in range(steps + 1):
            if step == 1:  # the first step of a run waits for its first window
                started = time.process_time()
            optimizer.zero_grad(set_to_none=True)
            runner.losses(step).total.backward()
            optimizer.step()
        seconds = (time.process_time() - started) / steps
        alone = alone or seconds
        windows = "in memory" if isinstance(bank, PictureBank) else f"stream, {bank.windows} windows"
        rows.append([windows, f"{len(bank):,}", f"{1000 * seconds:.0f}", f"{seconds / alone:.2f}"])
    return rows


def show(header: list[str], rows: list[list[str]]) -> None:
    """Print columns."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    for row in [header, *rows]:
        print("  ".join(value.rjust(width) for value, width in zip(row, widths, strict=True)), flush=True)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 128, 224])
    parser.add_argument("--pictures", type=int, default=192)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--shards", type=Path, help="the packed form of DATA: compare both, and do nothing else")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.shards:
        rows = side_by_side(arguments.data, arguments.shards, arguments.steps)
        show(["hull stage", "pictures", "CPU ms a step", "times in memory"], rows)
        return
    records = list(load_collection(arguments.data).split("train"))[: arguments.pictures]
    heights = [read_picture(r.file, r.mask).mask.shape[0] for r in records[:8]]
    print(f"{len(records)} pictures about {max(heights)} pixels high; pictures a second")
    header = ["framed to", "decode", "crop", "distance", "jitter", "worker*", "worker", "two*", "two workers"]
    show(header, [prepare(records, size) for size in arguments.sizes])
    print("* without the distance transform, which stages without rays do not need\n")
    model = compact().model
    bank = load_bank(records, size=model.picture_size, framing=model.framing, padding=model.padding)
    show(["stage of compact", "pictures a step", "CPU ms", "pictures a CPU second"], consume(bank, arguments.steps))


if __name__ == "__main__":
    main()
