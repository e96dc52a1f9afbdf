"""`benchmarks/gpu.py` without a GPU: what it would run, what it refuses, what it leaves behind, and that nothing it started outlives it."""

import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
PARENT = """
import sys
from pathlib import Path
import torch
sys.path.insert(0, sys.argv.pop(1))
import gpu
gpu.ROOT = Path(sys.argv.pop(1))
torch.cuda.is_available = lambda: True
sys.exit(gpu.main())
"""
CHILD = """
import os, subprocess, sys, time
from pathlib import Path
child = subprocess.Popen(["sleep", "600"])
partial = Path(os.environ["PIDS"] + ".partial")
partial.write_text(f"{os.getpid()} {child.pid}")
partial.rename(os.environ["PIDS"])
time.sleep(600)
"""


@pytest.fixture
def gpu(monkeypatch, tmp_path):
    spec = importlib.util.spec_from_file_location("gpu", ROOT / "benchmarks" / "gpu.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(module.signal, "signal", lambda *_: None)  # the tests keep their own
    monkeypatch.chdir(tmp_path)
    return module


@pytest.fixture
def called(gpu, monkeypatch) -> list[list[str]]:
    """The commands of a run that leave what real ones leave."""
    commands: list[list[str]] = []

    def call(self, *arguments: str, minutes: float, log: Path | None = None) -> bool:
        commands.append(list(arguments))
        if "speed" in arguments:
            Path(arguments[arguments.index("--json") + 1]).write_text("{}")
        if "train" in arguments:
            run = Path(arguments[arguments.index("--out") + 1])
            (run / "model.safetensors").write_text(run.name)
            assert log == run / "train.log"
            log.write_text("deformed hull: 8,000 of 8,000 steps, 30 a second\n")
        return True

    monkeypatch.setattr(gpu.Commands, "call", call)
    return commands


def run(gpu, monkeypatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["gpu.py", *arguments])
    return gpu.main()


def test_models_end_within_the_minutes_and_are_put_aside(gpu, called, monkeypatch, tmp_path, capsys):
    (tmp_path / "chairs").mkdir()
    (tmp_path / "runs" / "car-gpu").mkdir(parents=True)
    (tmp_path / "runs" / "car-gpu" / "state.safetensors").touch()
    monkeypatch.setattr(gpu, "find_spec", lambda name: None)  # no mitsuba
    options = ["--models", "chair", "car", "--data", "chair=chairs", "--minutes", "15", "--out", "kept"]
    assert run(gpu, monkeypatch, *options) == 0
    tests, bench, *trained = called
    assert tests[-1] == str(ROOT / "tests" / "test_gpu.py")
    assert "--quick" in bench
    chair, car = sorted(trained, key=lambda command: "--resume" in command)
    assert "--fit" in chair
    assert chair[chair.index("--start") + 1] == "chair"
    assert 13 < float(chair[chair.index("--minutes") + 1]) <= 15 - gpu.RESERVE
    assert not {"--start", "--fit"} & set(car)
    assert {path.name for path in (tmp_path / "kept").iterdir()} == {
        "speed-cuda.json", "chair.safetensors", "chair.log", "car.safetensors", "car.log",
    }  # fmt: skip
    assert "30 a second" in capsys.readouterr().out


def test_parts_can_be_left_out(gpu, called, monkeypatch):
    assert run(gpu, monkeypatch, "--skip", "tests", "bench", "--models") == 0
    assert not called


def test_too_little_time_trains_nothing(gpu, called, monkeypatch, tmp_path):
    (tmp_path / "chairs").mkdir()
    options = ["--skip", "tests", "bench", "--models", "chair", "--data", "chair=chairs", "--minutes", "1"]
    assert run(gpu, monkeypatch, *options) == 1
    assert not called


def test_what_cannot_work_is_refused_before_anything_runs(gpu, called, monkeypatch, capsys):
    monkeypatch.setattr(gpu, "find_spec", lambda name: None)
    assert run(gpu, monkeypatch, "--models", "car") == 1
    assert "mitsuba, which renders some, is not installed; give --data car=DIR" in capsys.readouterr().err
    for wrong in ("chiar=x", "chair", "chair=", "chair=nowhere"):
        with pytest.raises(SystemExit):
            run(gpu, monkeypatch, "--data", wrong)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for version, words in ((None, "is built without CUDA; install"), ("13.0", "no CUDA device here; `make test`")):
        monkeypatch.setattr(torch.version, "cuda", version)
        assert run(gpu, monkeypatch, "--models") == 1
        assert words in capsys.readouterr().err
    assert not called


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def until(holds, seconds: float = 60.0) -> bool:
    deadline = time.monotonic() + seconds
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.05)
    return holds()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="asks /proc which processes there are")
def test_terminated_it_leaves_no_process_behind(tmp_path):
    package, pids = tmp_path / "src" / "tars3d", tmp_path / "pids"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "cli.py").write_text(CHILD)
    (tmp_path / "chairs").mkdir()
    command = [sys.executable, "-c", PARENT, str(ROOT / "benchmarks"), str(tmp_path), "--skip", "tests", "bench"]
    environment = {**os.environ, "PIDS": str(pids)}
    options = ["--models", "chair", "--data", "chair=chairs"]
    with subprocess.Popen([*command, *options], cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL) as parent:
        try:
            assert until(pids.exists)
            started = [int(pid) for pid in pids.read_text().split()]
            assert all(map(alive, started))
            parent.send_signal(signal.SIGTERM)
            assert parent.wait(60) == 1
            assert until(lambda: not any(map(alive, started)), 10.0)
        finally:
            parent.kill()
