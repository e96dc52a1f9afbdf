"""`tars3d bench speed` at toy size: what it measures, what it writes, and what it refuses. No test depends on a time."""

import dataclasses
import json
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
import torch

from helpers import refused
from tars3d.bench import jobs, speed
from tars3d.config import ModelConfig, to_dict
from tars3d.errors import UserError

TINY = ModelConfig(
    encoder_widths=(8, 8, 16, 16), encoder_hub_id=None, code_width=8, width=32, hidden=8, generator_depth=1,
    deform_depth=1, picture_size=32, encoder_input=32,
)  # fmt: skip
PLAN = dataclasses.replace(
    speed.QUICK,
    model=TINY,
    batch=2,
    rays=16,
    points=20,
    base=(2, 8, 10),
    growth=(("rays", (8, 16)), ("points", (10, 20)), ("batch", (2, 3))),
    resolutions=(16, 64),
    finest=32,
    bulk_resolution=16,
    pictures=2,
)


@pytest.fixture(autouse=True)
def threads_stay():
    yield
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench")
    out, chart = folder / "speed.json", folder / "speed.svg"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jobs, "keep_freed_memory", lambda: True)  # it would stay set for the whole test process
        found = speed.run_speed(PLAN, device="cpu", threads=1, out=out, chart=chart, job=jobs.run)
    return found, out, chart


def test_json_has_the_promised_keys(run):
    found, out, _ = run
    written = json.loads(out.read_text())
    assert written == json.loads(json.dumps(found))
    for stage in ("stage1_step", "stage2_step"):
        assert {"plain_s", "ours_s", "plain_peak_gb", "ours_peak_gb"} <= set(written[stage])
        assert all(value > 0 for value in written[stage].values())
    for key in ("reconstruct", "reconstruct_chair"):
        assert set(written[key]) == {"16", "64"}
        for resolution, row in written[key].items():
            assert row["dense_evaluations"] == (int(resolution) + 1) ** 3
            assert row["plain_s"] > 0
            assert row["ours_s"] > 0
    assert written["finest"]["evaluations"] == written["finest"]["dense_evaluations"] == 33**3
    assert written["finest"]["peak_gb"] > 0
    assert set(written["growth"]) == {"rays", "points", "batch", "resolution"}
    assert written["machine"]["threads"] == 1


def test_the_sparse_grid_evaluates_less_and_finds_the_same_surface(run):
    for key in ("reconstruct", "reconstruct_chair"):
        row = run[0][key]["64"]
        assert 0 < row["evaluations"] < 0.5 * row["dense_evaluations"]
        assert row["max_vertex_difference"] < 1e-5


def test_growth_is_drawn_with_its_slopes(run):
    found, _, chart = run
    root = ElementTree.fromstring(chart.read_text())
    texts = [element.text or "" for element in root.iter() if element.tag.endswith("text")]
    assert sum("slope" in text for text in texts) == 8
    assert f"ours, slope {found['growth']['points']['ours_slope']:.2f}" in texts


def test_a_side_without_memory_is_reported_and_the_rest_goes_on(tmp_path, capsys):
    def job(spec):
        if spec["side"] == "plain":
            return None
        if spec["kind"] == "steps":
            return [{"s": 2.0, "cpu_s": 3.0, "peak_gb": 1.0} for _ in spec["cases"]]
        rows = [{"s": 1.0, "evaluations": 5, "peak_gb": 0.5} for _ in PLAN.resolutions]
        return rows if spec["kind"] == "meshes" else {"images_per_second": 4.0}

    found = speed.run_speed(PLAN, device="cpu", threads=1, out=None, chart=tmp_path / "x.svg", job=job)
    assert found["stage2_step"]["plain_s"] is None
    assert found["stage2_step"]["ours_s"] == 2.0
    assert found["growth"]["rays"]["plain_slope"] is None
    assert found["growth"]["rays"]["ours_slope"] == pytest.approx(0.0, abs=1e-9)
    assert "out of memory" in capsys.readouterr().out


def test_stopped_it_leaves_what_was_measured(tmp_path):
    def job(spec):
        if spec["kind"] == "bulk":
            raise KeyboardInterrupt
        if spec["kind"] == "steps":
            return [{"s": 2.0, "cpu_s": 3.0, "peak_gb": 1.0} for _ in spec["cases"]]
        return None

    out = tmp_path / "speed.json"
    with pytest.raises(KeyboardInterrupt):
        speed.run_speed(PLAN, device="cpu", threads=1, out=out, chart=tmp_path / "x.svg", job=job)
    written = json.loads(out.read_text())
    assert written["stage2_step"]["ours_s"] == 2.0
    assert "finest" in written
    assert "bulk" not in written


def test_a_mesh_that_is_empty_is_not_called_out_of_memory(run, capsys):
    found = json.loads(run[1].read_text())
    found["reconstruct"]["16"]["max_vertex_difference"] = None
    speed.show(found)
    printed = capsys.readouterr().out
    assert "one is empty" in printed
    assert "out of memory" not in printed


def test_a_part_that_one_mesh_lacks_is_a_difference_whichever_lacks_it():
    whole = np.array([[0.0, 0, 0], [0, 0, 0.5]])
    for pair in ((whole, whole[:1]), (whole[:1], whole)):
        assert speed.vertex_difference(*pair) == pytest.approx(0.5)
    assert speed.vertex_difference(whole, whole[:0]) is None
    assert speed.vertex_difference(whole[:0], whole[:0]) == 0


@pytest.mark.parametrize(
    ("code", "stderr", "expected"),
    [
        (-9, "", True),
        (137, "", True),
        (1, "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB", True),
        (1, "RuntimeError: [enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory", True),
        (1, "numpy._core._exceptions._ArrayMemoryError: Unable to allocate 8.00 GiB", True),
        (-6, "terminate called after throwing an instance of 'std::bad_alloc'", True),
        (1, '  File "tars3d/training/allocator.py", line 21, in keep_freed_memory\nOSError: libc', False),
        (-11, "", False),
    ],
)
def test_only_want_of_memory_is_called_so(code, stderr, expected):
    assert speed.out_of_memory(code, stderr) == expected


def test_a_job_in_a_process_of_its_own():
    spec = {"kind": "bulk", "side": "ours", "count": 1, "resolution": 8, "device": "cpu", "threads": 1, "seed": 0}
    assert speed.in_process(spec)["images_per_second"] > 0
    with pytest.raises(UserError, match="measuring nothing of the ours side failed"):
        speed.in_process({**spec, "kind": "nothing"})


def test_peak_memory_is_of_the_process_alone():
    """Not of the larger one that started it."""
    ballast = np.ones(60_000_000)
    code = "from tars3d.bench.jobs import peak_gb; import torch; print(peak_gb(torch.device('cpu')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    own = jobs.peak_gb(torch.device("cpu"))
    assert ballast.nbytes / 1e9 < own
    assert 0.05 < float(done.stdout) < own


def test_same_weights_on_both_sides():
    """What is timed is the same function: the transcription's sdf is the product's."""
    model = to_dict(TINY)
    found = [
        jobs._published_mesher(side, model, torch.device("cpu"))(16)[0]
        for side in ("plain", "ours")
        if torch.manual_seed(0)
    ]
    assert len(found[0]) > 50
    assert speed.vertex_difference(*found) < 1e-3


@pytest.mark.parametrize(
    "arguments",
    [("--json", "/nonexistent/x.json"), ("--chart", "/nonexistent/x.svg"), ("--threads", "-1"), ("--threads", "0")],
)
def test_bad_arguments_are_refused_before_anything_is_measured(arguments, capsys):
    refused(capsys, "bench", "speed", "--quick", "--device", "cpu", *arguments)


def test_the_stages_that_are_timed_are_the_papers():
    assert [jobs.reconstruction_stage(deformed=deformed).name for deformed in (False, True)] == ["stage 1", "stage 2"]
