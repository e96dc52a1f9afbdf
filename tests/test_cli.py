"""The command line: instant help, and for bad input one line with the cure, exit code 1, and nothing half-written."""

import contextlib
import json
import os
import pickle
import resource
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from helpers import refused, tiny_method, tiny_model, write_toy_collection
from tars3d import cli
from tars3d.arguments import MAX_RESOLUTION, check_resolution
from tars3d.data.pictures import as_picture
from tars3d.demo import sample_pictures
from tars3d.errors import UserError
from tars3d.methods.inference import export_tensors
from tars3d.reconstruct import Reconstructor
from tars3d.weights import FORMAT, save_model

HEAVY = ("rich.progress", "torch", "trimesh", "skimage", "scipy", "mitsuba", "huggingface_hub")


def asked_for_help(*arguments: str) -> tuple[str, list[str], float]:
    """What a fresh process prints, which heavy modules it imported, and the processor seconds it took."""
    code = (
        "import sys\n"
        "from tars3d.cli import main\n"
        "try:\n"
        f"    main({list(arguments)!r})\n"
        "except SystemExit as stop:\n"
        "    assert not stop.code, stop.code\n"
        f"print('imported:', *[name for name in {HEAVY!r} if name in sys.modules])\n"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    text, imported = done.stdout.rsplit("imported:", 1)
    return text, imported.split(), after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@pytest.mark.parametrize("arguments", [("--help",), ("reconstruct", "--help"), ("data", "render", "--help")])
def test_help_answers_at_once(arguments):
    # Processor time stands for wall time, which on a busy machine says more about the neighbours.
    text, imported, seconds = asked_for_help(*arguments)
    assert not imported
    assert seconds < 1.5
    assert "tars3d" in text


def test_every_command_has_help_and_is_named_in_the_overview(capsys):
    groups = [(group, name) for group, commands in cli.GROUPS.items() for name in commands]
    names = [*((name,) for name in cli.COMMANDS), *groups]
    for arguments in names:
        with pytest.raises(SystemExit) as stop:
            cli.main([*arguments, "--help"])
        assert stop.value.code == 0
        text = capsys.readouterr().out
        assert "--seed" in text or arguments[-1] == "convert"
        assert arguments[-1] in cli.HELP, f"{arguments} is missing in the overview"


def test_help_breaks_lines_by_itself_or_between_sentences_alone(capsys, monkeypatch):
    """Where a docstring goes on in a new line within a sentence, tyro breaks the help there, at any width."""
    monkeypatch.setenv("COLUMNS", "1000")
    groups = [(group, name) for group, commands in cli.GROUPS.items() for name in commands]
    for arguments in [*((name,) for name in cli.COMMANDS), *groups]:
        with pytest.raises(SystemExit):
            cli.main([*arguments, "--help"])
        rows = [row.strip("│ ") for row in capsys.readouterr().out.splitlines() if row.startswith(("│ ", "  "))]
        texts = [row for row in rows if row.strip("─") and not (row.startswith(("-", "[")) and "  " not in row)]
        assert texts
        torn = [text for text in texts if not text.endswith((".", ")", "show this help message and exit"))]
        assert not torn, arguments
    assert max(map(len, cli.HELP.splitlines())) <= 80


def test_version_and_no_command(capsys):
    cli.main(["--version"])
    assert capsys.readouterr().out[0].isdigit()
    for wrong in ([], ["nosuch"], ["reconstruct", "a.png", "--nosuch"]):
        with pytest.raises(SystemExit) as stop:
            cli.main(wrong)
        assert stop.value.code == 2


def files_under(folder: Path) -> list[str]:
    return [str(path.relative_to(folder)) for path in folder.rglob("*")] if folder.exists() else []


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """A model file of untrained networks that see nothing: every point is outside."""
    method = tiny_method().float()
    with torch.no_grad():
        last = method.generator.heads["level"].mlp[-1]
        last.weight.zero_()
        last.bias.zero_()
        last.bias[0] = 0.3
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    tensors = export_tensors(method, deformed=True, mean_code=torch.zeros(8))
    save_model(path, tensors, method.config, description={"category": "toy"})
    return path


@pytest.fixture
def picture(tmp_path) -> Path:
    rgba = np.zeros((40, 40, 4), np.uint8)
    rgba[10:30, 12:28] = (200, 80, 40, 255)
    Image.fromarray(rgba).save(tmp_path / "toy.png")
    return tmp_path / "toy.png"


def test_pictures_that_cannot_be_used(model, picture, tmp_path, capsys):
    out = tmp_path / "out"

    def error(*arguments: object) -> str:
        return refused(capsys, "reconstruct", *arguments, "--model", model, "--resolution", "16", "--out", out)

    assert f"{tmp_path / 'none.png'}: no such file" in error(tmp_path / "none.png")
    cut = tmp_path / "cut.png"
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(cut)
    cut.write_bytes(cut.read_bytes()[:2000])
    assert f"{cut}: the picture is damaged" in error(cut)
    text = tmp_path / "text.png"
    text.write_text("no picture")
    assert f"{text}: is not a picture" in error(text)
    empty = tmp_path / "empty.png"
    empty.write_bytes(b"")
    assert f"{empty}: the file is empty" in error(empty)
    clear = tmp_path / "clear.png"
    Image.fromarray(np.zeros((40, 40, 4), np.uint8)).save(clear)
    assert f"{clear}: its alpha channel is empty" in error(clear)
    Image.fromarray(np.zeros((40, 40), np.uint8)).save(tmp_path / "mask.png")
    assert "mask.png: the mask is empty" in error(picture, "--mask", tmp_path / "mask.png")
    Image.fromarray(np.full((40, 39), 255, np.uint8)).save(tmp_path / "mask.png")
    assert "the mask is 39x40 pixels but the picture" in error(picture, "--mask", tmp_path / "mask.png")
    assert "one mask for 2 pictures" in error(picture, clear, "--mask", tmp_path / "mask.png")
    assert "two pictures of this name" in error(picture, picture)
    assert "--seed -1: give 0 or more" in error(picture, "--seed", -1)
    assert "--seed 18446744073709551616: give 4294967295 at most" in error(picture, "--seed", 2**64)
    assert f"{picture}: the model sees no surface in it; is it a toy" in error(picture)
    assert files_under(out) == []


def test_options_of_reconstruct_reach_the_model(model, picture, tmp_path, monkeypatch, capsys):
    given = {}

    def read(image, mask=None, *, background):
        given["background"] = background
        return as_picture(image, mask, background=background)

    def reconstruct(self, picture, *, advance, **options):
        given.update(options)
        raise UserError("that is enough; give it up")

    monkeypatch.setattr("tars3d.data.pictures.as_picture", read)
    monkeypatch.setattr(Reconstructor, "reconstruct_pictures", reconstruct)
    options = [
        "--resolution",
        "20",
        "--dense",
        "--faces",
        "500",
        "--camera",
        "search",
        "--outline",
        "none",
        "--colors",
        "model",
        "--refine",
        "3",
        "--seed",
        "9",
        "--background",
        "none",
    ]
    refused(capsys, "reconstruct", picture, "--model", model, "--out", tmp_path, *options)
    expected = {
        "resolution": 20,
        "faces": 500,
        "dense": True,
        "camera": "search",
        "outline": "none",
        "colors": "model",
        "refine": 3,
        "seed": 9,
        "background": "none",
    }
    assert given == expected


def test_pictures_are_not_overwritten_by_the_overlays_of_others(model, picture, tmp_path, capsys):
    """As `tars3d reconstruct *.png` would, called twice in one folder."""
    overlay = tmp_path / "toy.overlay.png"
    overlay.write_bytes(picture.read_bytes())
    message = refused(capsys, "reconstruct", picture, overlay, "--model", model, "--out", tmp_path)
    assert f"{picture}: its results would overwrite {overlay}, which is read; leave it out" in message
    assert overlay.read_bytes() == picture.read_bytes()
    masked = refused(capsys, "reconstruct", overlay, "--mask", picture, "--model", model, "--out", tmp_path)
    assert "overwrite" not in masked, "nothing is made of a mask"


def test_a_mistyped_command_is_answered_with_the_likely_one(capsys):
    for wrong, words in ((["reconstuct"], "did you mean reconstruct?"), (["data", "rendr"], "did you mean render?")):
        with pytest.raises(SystemExit) as stop:
            cli.main(wrong)
        assert stop.value.code == 2
        assert words in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main(["reconstruct", "a.png", "--nosuch"])
    assert "tars3d reconstruct --help" in capsys.readouterr().err


def reconstructed(picture: Path, out: Path, **options: Any) -> subprocess.Popen:
    command = [sys.executable, "-m", "tars3d.cli", "reconstruct", picture, picture.with_name("other.png")]
    (picture.with_name("other.png")).write_bytes(picture.read_bytes())
    return subprocess.Popen([*command, "--resolution", "16", "--out", out], **options)


def test_results_go_where_stdout_goes_although_a_bar_runs(picture, tmp_path):
    """With stderr on a terminal the bar is drawn, and takes nothing of a redirected stdout."""
    pty = pytest.importorskip("pty")
    leader, follower = pty.openpty()
    with (tmp_path / "list.txt").open("w") as listed:
        process = reconstructed(picture, tmp_path / "out", stdout=listed, stderr=follower)
        os.close(follower)
        with contextlib.suppress(OSError):  # the other end is closed
            while os.read(leader, 1000):
                pass
        assert process.wait(60) == 0
    lines = [line for line in (tmp_path / "list.txt").read_text().splitlines() if not line.startswith(" ")]
    assert [Path(line).name for line in lines] == ["toy.glb", "other.glb"]


def test_a_reader_that_has_seen_enough_ends_the_command_quietly(picture, tmp_path):
    process = reconstructed(picture, tmp_path / "out", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    assert process.wait(60) == 141
    assert b"error" not in process.stderr.read()


def test_a_pipe_that_breaks_elsewhere_is_an_error(monkeypatch, capsys):
    def command() -> None:
        raise BrokenPipeError(32, "Broken pipe", "bucket")

    monkeypatch.setitem(cli.COMMANDS, "upload", command)
    with pytest.raises(SystemExit) as stop:
        cli.main(["upload"])
    assert stop.value.code == 1
    assert "Broken pipe: 'bucket'" in capsys.readouterr().err


def test_help_may_be_read_in_part():
    shown = subprocess.Popen([sys.executable, "-m", "tars3d.cli", "--help"], stdout=-1, stderr=subprocess.PIPE)
    assert shown.stdout is not None
    assert shown.stderr is not None
    shown.stdout.close()
    assert shown.wait(60) == 141
    assert shown.stderr.read() == b""


def test_a_picture_that_is_not_there_is_refused_before_anything_heavy_is_loaded():
    program = (
        "import sys; from tars3d import cli\n"
        "try: cli.main(['reconstruct', 'nothing.jpg'])\n"
        "finally: print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "nothing.jpg: no such file" in done.stderr
    assert done.stdout == "False\n"


def test_groups_are_asked_with_either_dash_and_name_their_commands(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["data"])
    assert stop.value.code == 2
    assert "import-photos" in capsys.readouterr().out
    with pytest.raises(SystemExit) as stop:
        cli.main(["data", "import_photos", "--help"])
    assert stop.value.code == 0


def test_what_a_shell_runs_behind_it_ignores_an_interrupt(tmp_path):
    """`cmd &` in a script ignores SIGINT, and Ctrl-C is not for it."""
    code = "import os, signal, tars3d.cli as cli\ncli.COMMANDS['work'] = lambda: os.kill(os.getpid(), signal.SIGINT)\ncli.main(['work'])"
    shell = f"trap '' INT; exec {sys.executable} -c \"{code}\""
    assert subprocess.run(["sh", "-c", shell], check=False).returncode == 0


def test_an_interrupt_while_modules_load_is_heard(tmp_path):
    """Libraries catch everything around their optional imports; here is one that does."""
    (tmp_path / "optional_module.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    code = """
import signal
import tars3d.cli as cli
signal.signal(signal.SIGINT, signal.default_int_handler)  # what runs these tests may ignore it
def wants_much():
    try:
        import optional_module
    except BaseException:
        pass
    print("went on")
cli.COMMANDS["much"] = wants_much
cli.main(["much"])
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "stopped\n")


def test_missing_pictures_are_named_and_the_others_done(picture, tmp_path, capsys):
    out = tmp_path / "out"
    options = ["--resolution", "16", "--out", out]
    message = refused(capsys, "reconstruct", tmp_path / "none.png", picture, *options)
    assert "1 of 2 could not be used" in message
    assert (out / "toy.glb").is_file()


def test_nothing_but_overlays_is_refused(picture, tmp_path, capsys):
    for name in ("one", "two"):
        (tmp_path / f"{name}.camera.json").write_text('{"mesh": "one.glb"}')
        (tmp_path / f"{name}.overlay.png").write_bytes(picture.read_bytes())
    overlays = [tmp_path / "one.overlay.png", tmp_path / "two.overlay.png"]
    assert "is an overlay that tars3d drew" in refused(capsys, "reconstruct", *overlays, "--out", tmp_path / "out")


def test_overlays_of_an_earlier_run_are_no_pictures(picture, tmp_path, capsys):
    run = [str(value) for value in ("--resolution", 16, "--camera", "search", "--out", tmp_path)]
    cli.main(["reconstruct", str(picture), *run])
    overlay = tmp_path / "toy.overlay.png"
    assert overlay.is_file()
    capsys.readouterr()
    cli.main(["reconstruct", str(picture), str(overlay), *run])
    found = capsys.readouterr()
    assert f"left out, as tars3d drew it: {overlay}\n" in found.err, "a path is not broken at the width of a terminal"
    assert "overlay.glb" not in found.out


def test_models_that_cannot_be_used(model, picture, tmp_path, capsys):
    out = tmp_path / "out"

    def error(path: object) -> str:
        return refused(capsys, "reconstruct", picture, "--model", path, "--resolution", "16", "--out", out)

    bad = tmp_path / "bad.safetensors"
    assert "no such model; give a run directory" in error(bad)
    assert "no model.safetensors in it" in error(tmp_path)

    pickled = tmp_path / "old.ckpt"
    with open(pickled, "wb") as file:
        pickle.dump({"model": [1, 2, 3]}, file)
    assert f"{pickled}: a pickled checkpoint is not opened" in error(pickled)
    torch.save({"model": torch.zeros(3)}, pickled)
    assert zipfile.is_zipfile(pickled)
    assert f"{pickled}: a pickled checkpoint is not opened" in error(pickled)

    whole = model.read_bytes()
    for length in (0, 5, 100, len(whole) // 2, len(whole) - 1):
        bad.write_bytes(whole[:length])
        message = error(bad)
        assert str(bad) in message
        assert "cut short" in message
    bad.write_bytes(whole[:8] + b"x" * 20 + whole[28:])
    assert str(bad) in error(bad)

    save_file({"a": torch.zeros(3)}, bad)
    assert "no tars3d model" in error(bad)
    for config in ({}, {"config": "{"}, {"config": "[]"}):
        save_file({"a": torch.zeros(3)}, bad, {"format": FORMAT, "description": "{}", **config})
        assert f"{bad}: its header holds no config that can be read" in error(bad)

    method = tiny_method().float()
    tensors = export_tensors(method, deformed=True, mean_code=torch.zeros(8))
    save_model(bad, tensors, tiny_model(hidden=24), description={})
    assert f"{bad}: weights of another preset than its header says" in error(bad)
    tensors["encoder.code.bias"] = torch.full((8,), float("nan"))
    save_model(bad, tensors, method.config, description={})
    assert f"{bad}: encoder.code.bias holds NaN" in error(bad)
    assert files_under(out) == []


def test_devices_and_resolutions_that_do_not_fit(model, picture, tmp_path, capsys, monkeypatch):
    out = tmp_path / "out"
    arguments = ["reconstruct", picture, "--model", model, "--out", out]
    for resolution in (0, 7, -1, MAX_RESOLUTION + 1, 10**9):
        assert f"--resolution {resolution}: choose a whole number" in refused(
            capsys, *arguments, "--resolution", resolution
        )
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for version, lacking in ((None, "PyTorch is built without CUDA here"), ("13.0", "there is no CUDA device here")):
        monkeypatch.setattr(torch.version, "cuda", version)
        assert f"{lacking}; use --device cpu" in refused(capsys, *arguments, "--device", "cuda")
    assert files_under(out) == []
    monkeypatch.setattr("tars3d.arguments.free_memory", lambda: 1000 * 4096)
    check_resolution(32)
    with pytest.raises(Exception, match=r"--resolution 256: needs 0\.2 GB, 0\.0 GB are free"):
        check_resolution(256)


def test_evaluation_that_cannot_work(model, tmp_path, capsys):
    data = write_toy_collection(tmp_path / "data", objects=2, views=1, splits={"train": ["toy0"], "test": ["toy1"]})
    out = tmp_path / "out"

    def error(*arguments: object) -> str:
        return refused(capsys, "evaluate", *arguments, "--model", model, "--out", out, "--resolution", "16")

    assert "has no split 'nosuch'; it has train, val, test" in error(data, "--split", "nosuch")
    assert "the split 'val' is empty" in error(data, "--split", "val")
    assert "no such folder" in error(tmp_path / "nothing")
    (data / "ground_truth" / "toy1.npz").unlink()
    (data / "splits.json").unlink()
    assert f"{data}/ground_truth/toy1.npz: no ground truth for 1 of the objects" in error(data)
    (data / "ground_truth" / "toy0.npz").unlink()
    assert "no ground truth for 2 of the objects" in error(data, "--baseline", "nearest")
    assert files_under(out) == []


@pytest.mark.parametrize(
    ("option", "value", "cure"),
    [
        ("--views", "0", "at least 1"),
        ("--views", "-1", "at least 1"),
        ("--limit", "0", "at least 1"),
        ("--limit", "-1", "at least 1"),
        ("--samples", "0", "at least 1"),
        ("--emd-points", "-1", "0 or more"),
        ("--seed", "-1", "0 or more"),
        ("--threshold", "nan", "a positive number"),
    ],
)
def test_evaluation_refuses_counts_that_make_no_sense(option, value, cure, tmp_path, capsys):
    message = refused(capsys, "evaluate", tmp_path, option, value)
    assert f"{option} {value}: give {cure}" in message


def test_evaluation_says_that_shapes_were_fitted_to_the_masks_it_measures(model, tmp_path, capsys):
    data = write_toy_collection(tmp_path / "data", objects=2, views=1)
    few = ["--resolution", "16", "--samples", "100", "--emd-points", "0", "--device", "cpu", "--limit", "1"]
    fitted = ["--refine", "2", "--refine-camera", "annotated"]
    cli.main(["evaluate", str(data), "--model", str(model), "--out", str(tmp_path / "out"), *few, *fitted])
    printed = capsys.readouterr().out
    assert f"{model}, refined in 2 steps" in printed
    assert "fitted to these masks in 2 steps, seen by the annotated camera" in printed
    found = json.loads((tmp_path / "out" / "metrics.json").read_text())
    told = {"model": str(model), "refine": 2, "refine_camera": "annotated", "limit": 1, "train_data": []}
    assert told.items() <= found["measured"].items()
    assert "--train-data: only --baseline nearest" in refused(capsys, "evaluate", data, "--train-data", data)


def test_a_picture_that_cannot_be_used_does_not_end_the_others(tmp_path, capsys):
    sample = sample_pictures()[0]
    pictures = [tmp_path / f"{name}.png" for name in "abc"]
    for picture in pictures:
        picture.write_bytes(b"" if picture.stem == "b" else sample.read_bytes())
    few = ["--resolution", "16", "--camera", "none", "--out", tmp_path / "out"]
    message = refused(capsys, "reconstruct", *pictures, *few)
    assert "1 of 3 could not be used, as said above; the others are done" in message
    assert sorted(path.name for path in (tmp_path / "out").glob("*.glb")) == ["a.glb", "c.glb"]
    assert "b.png: the file is empty" in refused(capsys, "reconstruct", pictures[1], *few)


def test_results_that_have_no_place_are_refused_before_any_work(model, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    for out in ("file", "file/deeper"):
        for command in (["reconstruct", sample_pictures()[0]], ["evaluate", write_toy_collection(tmp_path / "data")]):
            message = refused(capsys, *command, "--model", model, "--out", tmp_path / out)
            assert "file is a file; choose a folder" in message


def test_no_object_answers_for_itself(model, tmp_path, capsys, monkeypatch):
    few = ["--resolution", "16", "--samples", "100", "--emd-points", "0", "--device", "cpu", "--baseline", "nearest"]
    several = write_toy_collection(
        tmp_path / "several", objects=3, views=2
    )  # without splits: all is in train and in test
    cli.main(["evaluate", str(several), "--model", str(model), "--out", str(tmp_path / "out"), *few])
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["chamfer_x10"]["overall"] > 0.5
    monkeypatch.chdir(tmp_path)
    elsewhere = ["--train-data", "several", "--out", "other"]
    cli.main(["evaluate", str(several), "--model", str(model), *few, *elsewhere])
    assert json.loads(Path("other/metrics.json").read_text())["chamfer_x10"]["overall"] > 0.5
    alone = write_toy_collection(tmp_path / "alone", objects=1, views=2)
    message = refused(capsys, "evaluate", alone, "--model", model, *few)
    assert "no other object than toy0 to choose; name --train-data" in message


def test_without_ground_truth_silhouettes_are_measured(model, tmp_path, capsys):
    data = write_toy_collection(tmp_path / "data", objects=2, views=1)
    for file in (data / "ground_truth").iterdir():
        file.unlink()
    out = tmp_path / "out"
    command = ["evaluate", str(data), "--model", str(model), "--out", str(out), "--resolution", "16"]
    cli.main([*command, "--align", "--samples", "100", "--seed", "3"])
    printed = capsys.readouterr().out
    assert "silhouettes alone are measured" in printed
    assert "so they change nothing: --align, --samples\n" in printed
    assert "IoU" in printed
    assert "CD" not in printed
    found = json.loads((out / "metrics.json").read_text())
    assert found["count"] == 2
    told = {"model": str(model), "data": str(data), "split": "test", "seed": 3, "refine": 0, "refine_camera": None}
    assert told.items() <= found["measured"].items()
    assert found["mask_iou"] == np.mean([row["mask_iou"] for row in found["instances"]])
    assert Image.open(out / "sheet.png").size[0] > 600


def test_a_damaged_collection_is_refused_before_anything_is_written(tmp_path, capsys):
    data = write_toy_collection(tmp_path / "data", objects=2, views=1)
    index = json.loads((data / "cameras.json").read_text())
    index["images"]["toy1_0"]["camera"]["extrinsics"][2][3] = float("nan")
    (data / "cameras.json").write_text(json.dumps(index))
    message = refused(capsys, "train", data, "--out", tmp_path / "run", "--threads", "1", "--device", "cpu")
    assert "image toy1_0: 'extrinsics' holds NaN" in message
    assert set(files_under(tmp_path / "run")) <= {".lock"}


def test_an_unwritable_place_is_named(model, tmp_path, capsys):
    blocked = tmp_path / "file"
    blocked.write_text("")
    data = write_toy_collection(tmp_path / "data", objects=1, views=1)
    message = refused(
        capsys, "evaluate", data, "--model", model, "--out", blocked / "out", "--resolution", "16", "--samples", "100"
    )
    assert str(blocked) in message


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_out_of_memory_is_one_line(monkeypatch, capsys, error):
    def fail():
        raise error

    monkeypatch.setitem(cli.COMMANDS, "demo", fail)
    assert "out of memory; choose a smaller --resolution or --preset" in refused(capsys, "demo")


def test_other_failures_keep_their_traceback(monkeypatch):
    def fail():
        raise RuntimeError("a mistake of ours")

    monkeypatch.setitem(cli.COMMANDS, "demo", fail)
    with pytest.raises(RuntimeError, match="a mistake of ours"):
        cli.main(["demo"])


def test_a_folder_has_a_mask_for_each_picture(model, picture, tmp_path, capsys):
    noise = np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)  # no background can be told
    (tmp_path / "masks").mkdir()
    pictures = [tmp_path / f"{name}.jpg" for name in "ab"]
    for path in pictures:
        Image.fromarray(noise).save(path)
        mask = np.zeros((40, 40), np.uint8)
        mask[8:32, 8:32] = 255
        Image.fromarray(mask).save(tmp_path / "masks" / f"{path.stem}.png")
    few = ["--mask", str(tmp_path / "masks"), "--resolution", "16", "--camera", "none", "--out", str(tmp_path / "out")]
    for shown in (pictures, pictures[:1]):
        cli.main(["reconstruct", *map(str, shown), *few])
    assert sorted(path.name for path in (tmp_path / "out").glob("*.glb")) == ["a.glb", "b.glb"]
    assert "mask found" not in capsys.readouterr().out
    (tmp_path / "masks" / "b.png").unlink()
    assert f"{tmp_path}/masks/b.png: no such file" in refused(capsys, "reconstruct", pictures[1], *few)
    assert "name a folder with NAME.png for each" in refused(
        capsys, "reconstruct", *pictures, "--mask", tmp_path / "masks" / "a.png"
    )


@pytest.fixture
def cores():
    """Gives PyTorch so many threads, for this test alone."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_several_cores_make_the_same_files_as_one(cores, tmp_path):
    """Pictures go side by side there, each on one thread, and arrive in their order."""
    data = write_toy_collection(tmp_path / "data", views=1)
    pictures = [str(path) for path in sorted((data / "images").glob("*.png"))]
    for number in (1, 3):
        cores(number)
        out = tmp_path / str(number)
        cli.main(["reconstruct", *pictures, "--resolution", "24", "--camera", "none", "--out", str(out)])
        few = ["--resolution", "24", "--samples", "200", "--emd-points", "0", "--split", "train"]
        cli.main(["evaluate", str(data), *few, "--out", str(out / "measured")])
    one, several = (sorted(path for path in (tmp_path / name).rglob("*") if path.is_file()) for name in "13")
    assert [path.relative_to(tmp_path / "1") for path in one] == [path.relative_to(tmp_path / "3") for path in several]
    assert len(one) > 2 * len(pictures)
    assert all(a.read_bytes() == b.read_bytes() for a, b in zip(one, several, strict=True))
