"""How many pictures a second are prepared for training, and how many training takes: at each size, by preset.

    python benchmarks/throughput.py DATA [--sizes 64 128 224] [--presets compact compact-single-view] [--pictures 192] [--json FILE]
    python benchmarks/throughput.py DATA --quiet ...
    python benchmarks/throughput.py DATA --shards SHARDS --steps 180

Supply: decoding, cropping and the distance transform, one by one and together, as `data.stream` does them ("worker"); colours are
jittered inside the training step, so that column is for comparison. Consumption: a training process on one thread, its pictures in
memory, at the stage of the preset that takes most pictures a second; two of them take twice that.

Without `--quiet`, times are CPU seconds of one thread, which other work on the machine does not change much, and what two workers
supply is twice that of one: an estimate. With it, times are wall clock, and two decoding threads are really run side by side: for a
machine with two cores on which nothing else runs. With `--shards`, the packed form of DATA: CPU seconds of all threads in the hull
stage, its pictures in memory and as a stream that decodes meanwhile.
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from tars3d.atomic import atomic_path
from tars3d.config import Preset
from tars3d.data.augment import jitter_colors
from tars3d.data.bank import PictureBank, load_bank
from tars3d.data.collection import load_collection
from tars3d.data.frames import Framing, frame_picture
from tars3d.data.framing import apply_crop, bbox_crop
from tars3d.data.hull import hull_samples
from tars3d.data.image_record import ImageRecord
from tars3d.data.pictures import PictureBytes, read_picture
from tars3d.geometry.distance_transform import distance_transform
from tars3d.methods import build_method
from tars3d.presets import PRESETS, compact
from tars3d.training.open_data import open_data
from tars3d.training.stages import KINDS

PADDING = 1.15
JITTER = (0.2, 0.2, 0.2, 0.5)
"""Of the paper's presets, the strongest."""


@dataclass(frozen=True)
class Supply:
    """Pictures a second at a size."""

    size: int
    decode: float
    crop: float
    distance: float
    jitter: float
    worker: float
    """All but the jitter."""
    worker_without_distances: float
    """As stages without rays need it."""
    two_workers: float
    two_workers_without_distances: float


@dataclass(frozen=True)
class Consumption:
    """What a stage takes, on one thread."""

    size: int
    preset: str
    stage: str
    distances: bool
    """Whether it needs distances to the silhouette."""
    pictures_a_step: int
    """That are encoded: as many leave the window of a stream at each step."""
    seconds_a_step: float

    @property
    def rate(self) -> float:
        """Pictures a second."""
        return self.pictures_a_step / self.seconds_a_step


class Clock:
    """Wall clock on a quiet machine, else CPU time of the calling thread."""

    def __init__(self, quiet: bool):
        self.quiet, self.now = quiet, time.perf_counter if quiet else time.thread_time

    def rate(self, work: Callable[[], object], pictures: int, repeats: int = 3) -> float:
        """Pictures per second, the best of some repeats."""
        best = float("inf")
        for _ in range(repeats):
            started = self.now()
            work()
            best = min(best, self.now() - started)
        return pictures / best


def supply(records: list[ImageRecord], size: int, clock: Clock) -> Supply:
    """Time the parts one by one, then all of them."""
    files = [
        (PictureBytes(r.name, r.file.read_bytes()), r.mask and PictureBytes(r.name, r.mask.read_bytes()))
        for r in records
    ]
    count, how = len(records), Framing(size, "bbox", PADDING)
    pictures = [read_picture(*file) for file in files]
    frames = [frame_picture(p, r.intrinsics, 0, how) for p, r in zip(pictures, records, strict=True)]
    batch = torch.stack([torch.from_numpy(frame.rgb) for frame in frames]).permute(0, 3, 1, 2).float() / 127.5 - 1

    def jitter() -> None:
        generator = torch.Generator().manual_seed(0)
        for part in batch.split(16):
            jitter_colors(part, JITTER, generator)

    def all_of(row: int, distance: bool) -> None:
        frame_picture(read_picture(*files[row]), records[row].intrinsics, row, how, distance=distance)

    def worker(distance: bool) -> float:
        return clock.rate(lambda: [all_of(row, distance) for row in range(count)], count)

    def two_workers(distance: bool, one: float) -> float:
        if not clock.quiet:
            return 2 * one
        with ThreadPoolExecutor(2) as pool:
            return clock.rate(lambda: list(pool.map(lambda row: all_of(row, distance), range(count))), count)

    one, without = worker(True), worker(False)
    return Supply(
        size,
        clock.rate(lambda: [read_picture(*file) for file in files], count),
        clock.rate(lambda: [apply_crop(p.rgb, p.mask, bbox_crop(p.mask, PADDING), size) for p in pictures], count),
        clock.rate(lambda: [distance_transform(frame.mask) for frame in frames], count),
        clock.rate(jitter, count),
        one,
        without,
        two_workers(True, one),
        two_workers(False, without),
    )


def at_size(preset: Preset, size: int) -> Preset:
    """The preset on pictures of another size; what the encoder sees of them grows along where it sees them whole."""
    model = preset.model
    whole = model.encoder_input == model.picture_size
    return replace(
        preset,
        model=replace(
            model,
            picture_size=size,
            encoder_input=size if whole else min(size, model.encoder_input),
            encoder_hub_id=None,
        ),
    )


def consume(records: list[ImageRecord], name: str, size: int, steps: int, clock: Clock) -> list[Consumption]:
    """Time the stages of a preset that see pictures."""
    preset = at_size(PRESETS[name](), size)
    model = preset.model
    bank = load_bank(records, size=size, framing=model.framing, padding=model.padding)
    stages = [(number, stage) for number, stage in enumerate(preset.training.stages) if stage.kind == "reconstruct"]
    hulls = hull_samples(bank) if any(stage.hull_points for _, stage in stages) else None
    method = build_method(model)
    found = []
    for number, stage in stages:
        runner = KINDS[stage.kind](method, stage, preset.training, bank, number, hulls)
        seconds = [_step(runner, step, clock) for step in range(steps + 1)][1:]
        found.append(
            Consumption(size, name, stage.name, stage.rays > 0, stage.batch, sorted(seconds)[len(seconds) // 2])
        )
    return found


def _step(runner, step: int, clock: Clock) -> float:
    started = clock.now()
    for parameter in runner.parameters():
        parameter.grad = None
    runner.losses(step).total.backward()
    return clock.now() - started


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


def as_rows(
    supplies: list[Supply], consumed: list[Consumption], quiet: bool
) -> tuple[list[list[str]], list[list[str]]]:
    """Both tables: supply by size, then the hungriest stage of each preset beside what is supplied to it."""
    first = [[f"{s.size} px", *(f"{value:,.0f}" for value in list(asdict(s).values())[1:])] for s in supplies]
    by_size, second = {s.size: s for s in supplies}, []
    for size, preset in dict.fromkeys((c.size, c.preset) for c in consumed):
        # Both kinds of stages are fed at their own rate: what counts is the least headroom.
        own = [c for c in consumed if (c.size, c.preset) == (size, preset)]
        headroom = {c.stage: _supplied(by_size[size], c.distances) / (2 * c.rate) for c in own}
        worst = min(own, key=lambda c: headroom[c.stage])
        mark = "" if quiet else "~"
        second.append(
            [f"{size} px", preset, worst.stage, str(worst.pictures_a_step), f"{1000 * worst.seconds_a_step:,.0f}", f"{worst.rate:,.0f}",
             f"{mark}{2 * worst.rate:,.0f}", f"{mark}{_supplied(by_size[size], worst.distances):,.0f}", f"{mark}{headroom[worst.stage]:.1f}"]
        )  # fmt: skip
    return first, second


def _supplied(supply: Supply, distances: bool) -> float:
    return supply.two_workers if distances else supply.two_workers_without_distances


def main() -> None:
    """Print the tables, and write them as JSON where that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 128, 224])
    parser.add_argument("--presets", nargs="*", default=["compact", "compact-single-view"], choices=list(PRESETS))
    parser.add_argument("--pictures", type=int, default=192)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--quiet", action="store_true", help="nothing else runs on this machine: measure wall clock")
    parser.add_argument("--json", type=Path, help="where to write all figures")
    parser.add_argument("--shards", type=Path, help="the packed form of DATA: compare both, and do nothing else")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.shards:
        rows = side_by_side(arguments.data, arguments.shards, arguments.steps)
        show(["hull stage", "pictures", "CPU ms a step", "times in memory"], rows)
        return
    clock = Clock(arguments.quiet)
    records = list(load_collection(arguments.data).split("train"))[: arguments.pictures]
    heights = [read_picture(r.file, r.mask).mask.shape[0] for r in records[:8]]
    unit = "wall clock" if arguments.quiet else "CPU"
    print(f"{len(records)} pictures about {max(heights)} pixels high; pictures a second of {unit}")
    supplies = [supply(records, size, clock) for size in arguments.sizes]
    header = ["framed to", "decode", "crop", "distance", "jitter", "worker", "worker*", "two", "two*"]
    show(header, as_rows(supplies, [], arguments.quiet)[0])
    print("* without the distance transform, which stages without rays do not need\n", flush=True)
    consumed = [
        row
        for size in arguments.sizes
        for name in arguments.presets
        for row in consume(records, name, size, arguments.steps, clock)
    ]
    header = [
        "framed to",
        "preset",
        "hungriest stage",
        "pictures a step",
        "ms",
        "one takes",
        "two take",
        "two workers give",
        "times",
    ]
    show(header, as_rows(supplies, consumed, arguments.quiet)[1])
    if not arguments.quiet:
        print("~ twice that of one: an estimate")
    if arguments.json:
        machine = {
            "system": platform.platform(),
            "cores": os.cpu_count(),
            "load": os.getloadavg(),
            "torch": torch.__version__,
        }
        content = {
            "machine": machine, "clock": unit, "data": str(arguments.data), "pictures": len(records),
            "supply": [asdict(row) for row in supplies],
            "consumption": [asdict(row) | {"rate": row.rate} for row in consumed],
        }  # fmt: skip
        with atomic_path(arguments.json) as temporary:
            temporary.write_text(json.dumps(content, indent=1))


if __name__ == "__main__":
    main()
