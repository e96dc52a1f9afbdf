"""Seconds of a training step of the mesh systems: python benchmarks/mesh_step.py DATA [softras|cmr] [PRESET] [STEPS].

Prints CPU time beside wall-clock time, because the two differ where other work shares the core. One thread.
"""

import sys
import time
from pathlib import Path
from statistics import median

import torch

from tars3d.data.bank import load_bank
from tars3d.data.collection import load_collection
from tars3d.methods import build_method
from tars3d.presets import preset
from tars3d.training.mesh_stages import MESH_KINDS


def main(data: str, name: str = "softras", preset_name: str = "compact", steps: str = "12") -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    settings = preset(preset_name, name)
    model = settings.model
    records = load_collection(Path(data)).split("train")[:400]
    bank = load_bank(records, size=model.picture_size, framing=model.framing, padding=model.padding)
    method = build_method(model).train()
    print(f"{name}, {preset_name}: {sum(p.numel() for p in method.parameters()):,} weights, {model.picture_size} px")
    for number, stage in enumerate(settings.training.stages):
        runner = MESH_KINDS[stage.kind](method, stage, settings.training, bank, number)
        optimizer = torch.optim.Adam(runner.parameters(), lr=stage.learning_rate, fused=True)
        cpu, wall = [], []
        for step in range(int(steps)):
            started = time.process_time(), time.perf_counter()
            losses = runner.losses(step)
            optimizer.zero_grad()
            losses.total.backward()
            optimizer.step()
            cpu.append(time.process_time() - started[0])
            wall.append(time.perf_counter() - started[1])
        print(
            f"{stage.name}: batch {runner.sampler.batch}, seconds a step: CPU median {median(cpu):.3f}, least {min(cpu):.3f}; "
            f"wall median {median(wall):.3f}, least {min(wall):.3f}"
        )


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    main(*sys.argv[1:])
