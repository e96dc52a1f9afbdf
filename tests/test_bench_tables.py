"""The paper's tables on toy collections: rows are trained whole within their minutes, kept, and printed beside the paper's figures."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from helpers import refused, tiny_preset, write_toy_collection
from tars3d import cli, presets
from tars3d.bench import table_row, tables
from tars3d.bench.paper_tables import TableRow, added_rows, columns_of, rows_of
from tars3d.bench.table_options import TableOptions
from tars3d.bench.table_output import bars, layout
from tars3d.bench.table_row import Job, row_folder
from tars3d.bench.unpaired import Held, unpaired_collection
from tars3d.data.bank import load_bank
from tars3d.data.collection import load_collection
from tars3d.data.hull import hull_samples
from tars3d.errors import UserError
from tars3d.evaluate.tables import PAPER_TABLE_1
from tars3d.geometry.camera import Cameras
from tars3d.training.budget import LEAST_SHARE, Costs, fitted, step_costs
from tars3d.training.run_folder import RunFolder

SPLITS = {"train": ["toy0", "toy1", "toy2"], "val": ["toy3"], "test": ["toy4", "toy5"]}


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    """One collection with splits and one without, of the same names."""
    folders = [tmp_path_factory.mktemp("first"), tmp_path_factory.mktemp("second")]
    write_toy_collection(folders[0], objects=6, views=3, splits=SPLITS)
    write_toy_collection(folders[1], objects=3, views=3)
    return folders


def test_no_two_pictures_of_the_derived_collection_show_the_same_object(toys, tmp_path):
    held = unpaired_collection([load_collection(folder) for folder in toys], tmp_path / "one", seed=3)
    assert (held.train, held.pictures, held.test) == (6, 6, 2)
    assert "has no splits" in held.notes[0]
    found = load_collection(tmp_path / "one")
    assert found.category == "toy"
    train, test = found.split("train"), found.split("test")
    assert len({record.instance for record in train}) == len(train) == 6
    assert {record.instance.split(".")[-1] for record in test} == {"toy4", "toy5"}
    assert not {record.file for record in train} & {record.file for record in test}
    original = load_collection(toys[0]).ground_truth("toy4")
    mine = found.ground_truth(next(record.instance for record in test if record.instance.endswith("toy4")))
    for expected, value in zip(original, mine, strict=True):
        assert expected is not None
        assert value is not None
        np.testing.assert_allclose(expected, value, atol=1e-6)

    many = unpaired_collection([load_collection(toys[0])], tmp_path / "many", views=3, objects=2, test_objects=1)
    assert (many.train, many.pictures, many.test) == (2, 6, 1)
    assert len({record.instance for record in load_collection(tmp_path / "many").split("train")}) == 6


def test_pictures_that_a_collection_reads_in_place_are_read_in_place_again(tmp_path, monkeypatch):
    """As importers write collections: nothing lies in their folder; some files are links out of it."""
    kept = write_toy_collection(tmp_path / "kept", objects=6, views=1, splits=SPLITS)
    index = json.loads((kept / "cameras.json").read_text())
    for entry in index["images"].values():
        entry["file"] = "{photos}/" + entry["file"]
    linked = tmp_path / "linked"
    linked.mkdir()
    (linked / "cameras.json").write_text(json.dumps(index | {"roots": {"photos": str(kept)}}))
    (linked / "splits.json").write_text((kept / "splits.json").read_text())
    (linked / "ground_truth").symlink_to(kept / "ground_truth")
    monkeypatch.chdir(tmp_path)
    held = unpaired_collection([load_collection("linked")], tmp_path / "one")
    assert (held.train, held.test) == (3, 2)
    files = [record.file for record in load_collection(tmp_path / "one").images]
    assert all(file.resolve().parent == (kept / "images").resolve() for file in files)
    assert load_collection(tmp_path / "one").has_ground_truth("0-linked.toy4")


def test_test_objects_without_ground_truth_are_left_out_and_counted(tmp_path):
    source = write_toy_collection(tmp_path / "toys", objects=6, views=1, splits=SPLITS)
    (source / "ground_truth" / "toy5.npz").unlink()
    held = unpaired_collection([load_collection(source)], tmp_path / "one")
    assert held.test == 1
    assert held.notes == ("1 of 2 test objects of toy have no ground truth and are left out",)


def test_the_key_of_a_row_follows_every_file_of_its_collection(tmp_path):
    source = write_toy_collection(tmp_path / "toys", objects=2, views=1)
    keys = [tables._digest(load_collection(source))]
    assert tables._digest(load_collection(source)) == keys[0]
    picture, truth = source / "images" / "toy0_0.png", source / "ground_truth" / "toy1.npz"
    for file in (picture, truth):
        file.write_bytes(file.read_bytes()[:-1] + b"x")
        keys.append(tables._digest(load_collection(source)))
    truth.unlink()
    keys.append(tables._digest(load_collection(source)))
    assert len(set(keys)) == 4


def test_unpaired_collections_that_cannot_be_are_refused(toys, tmp_path):
    with pytest.raises(UserError, match=r"no test objects .* not trained on; add"):
        unpaired_collection([load_collection(toys[1])], tmp_path / "x")
    with pytest.raises(UserError, match="3 training objects, 4 asked for; render more"):
        unpaired_collection([load_collection(toys[0])], tmp_path / "x", objects=4)
    source = write_toy_collection(
        tmp_path / "untrained", objects=2, views=1, splits={"train": [], "test": ["toy0", "toy1"]}
    )
    with pytest.raises(UserError, match=r"no training objects; mend splits\.json"):
        unpaired_collection([load_collection(source)], tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_orthographic_cameras_see_the_object_where_the_perspective_ones_do(toys, tmp_path):
    unpaired_collection([load_collection(toys[0])], tmp_path, orthographic=True)
    weak, original = load_collection(tmp_path).images, {r.file.resolve(): r for r in load_collection(toys[0]).images}
    points = torch.rand(200, 3) * 0.4 - 0.2
    for record in weak:
        twin = original[record.file]
        assert (record.model, twin.model) == ("orthographic", "perspective")
        seen = []
        for each in (record, twin):
            camera = Cameras(
                torch.tensor(each.intrinsics[None]).float(), torch.tensor(each.extrinsics[None]).float(),
                torch.tensor([each.model == "perspective"]),
            )  # fmt: skip
            seen.append(camera.project(points[None])[0][0])
        assert (seen[0] - seen[1]).norm(dim=-1).mean() < 1.0  # of 32 pixels


def completed_preset():
    """A tiny curriculum for objects with one picture each."""
    tiny = tiny_preset()
    return replace(tiny, training=replace(tiny.training, category_hull=True))


def test_presets_that_need_several_pictures_of_an_object_are_refused(toys, tmp_path, capsys):
    """The hull of one picture is a cone, and the object counts as not solid."""
    unpaired_collection([load_collection(toys[0])], tmp_path / "data", views=3)
    bank = load_bank(load_collection(tmp_path / "data").split("train"), size=16, framing="bbox", padding=1.2)
    assert not hull_samples(bank, samples=64).solid.any()
    command = ["bench", "table4", "--data", str(toys[0]), "--out", str(tmp_path)]
    assert "compact-unpaired" in refused(capsys, *command, "--preset", "compact")


def test_rows_without_a_canonical_space_take_all_steps_of_those_with_one():
    for name in ("compact", "compact-single-view", "compact-unpaired"):
        ours, plain = (presets.preset(name, method).training.stages for method in ("tars", "sdf-srn"))
        for rays in (True, False):
            steps = [
                sum(stage.steps for stage in stages if stage.kind == "reconstruct" and bool(stage.rays) == rays)
                for stages in (ours, plain)
            ]
            assert steps[0] == steps[1]
        assert not any(stage.deformed for stage in plain)


def test_a_cut_curriculum_keeps_all_its_stages_and_fits():
    preset = tiny_preset()
    stages = preset.training.stages
    costs = Costs(tuple(0.0 if stage.kind == "canonical_code" else 1.0 for stage in stages), ratio=2.0)
    assert fitted(preset, costs, None) is preset
    assert fitted(preset, costs, 100.0) == preset  # never longer than the preset
    longer = presets.scaled(preset, 1000)
    cut = fitted(longer, costs, 30.0).training.stages  # 1800 s on the clock are 900 of the processor
    assert [stage.name for stage in cut] == [stage.name for stage in stages]
    steps = [stage.steps for stage in cut if stage.kind != "canonical_code"]
    assert 880 < sum(steps) <= 900
    assert min(steps) >= 0.9 * LEAST_SHARE * 900
    assert steps[2] / steps[1] == pytest.approx(1.5, rel=0.02)  # 3000 and 2000 in full


@pytest.mark.parametrize("minutes", [1.0, 30.0, 60.0, 120.0])
def test_no_stage_is_cut_below_its_least_share_and_no_time_is_lost(minutes):
    preset = presets.preset("compact")
    seconds = {"sphere": 0.02, "color": 0.1, "camera": 0.2}
    stages = preset.training.stages
    costs = Costs(tuple(seconds.get(stage.name, 0.3) if stage.steps else 0.0 for stage in stages), ratio=1.0)
    cut = fitted(preset, costs, minutes).training.stages
    taken = [stage.steps * cost for stage, cost in zip(cut, costs.cpu, strict=True)]
    for stage, full, own, cost in zip(cut, stages, taken, costs.cpu, strict=True):
        assert stage.steps == full.steps or own >= LEAST_SHARE * 60 * minutes - cost
    assert 60 * minutes - sum(costs.cpu) <= sum(taken) <= 60 * minutes


def test_steps_are_timed_without_a_trace(toys, tmp_path):
    preset = tiny_preset()
    model = preset.model
    records = load_collection(toys[0]).split("train")
    bank = load_bank(records, size=model.picture_size, framing=model.framing, padding=model.padding)
    costs = step_costs(preset, bank, torch.device("cpu"))
    assert len(costs.cpu) == len(preset.training.stages)
    assert [cost > 0 for cost in costs.cpu] == [stage.steps > 0 for stage in preset.training.stages]
    assert costs.ratio > 0


def test_each_number_of_threads_has_its_own_ratio_of_clock_to_processor(toys, tmp_path, monkeypatch):
    unpaired_collection([load_collection(toys[0])], tmp_path / "data")
    job = Job(TableRow("toy", "x", "tars", None), tiny_preset(), tmp_path / "data", Held(3, 3, 2), tmp_path / "row")
    ratios, fits = iter((2.0, 3.0)), []
    monkeypatch.setattr(table_row, "step_costs", lambda *_: Costs((1.0,), next(ratios)))
    monkeypatch.setattr(tables, "fitted", lambda preset, costs, minutes: fits.append(costs) or preset)
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    monkeypatch.setattr("tars3d.training.allocator.keep_freed_memory", lambda: True)
    for threads in (1, 2, 1):
        options = TableOptions(data=(), out=tmp_path, threads=threads, device="cpu")
        assert list(tables._costs([job], options, 1.0)) == [job.folder]
    assert fits == [Costs((1.0,), 2.0), Costs((1.0,), 3.0), Costs((1.0,), 2.0)]  # and what is known is not timed again


SMALL = ["--resolution", "16", "--samples", "300", "--emd-points", "16", "--threads", "1", "--device", "cpu"]


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setitem(presets.PRESETS, "tiny", lambda: presets.scaled(completed_preset(), 20))


def test_table_is_trained_printed_and_kept(toys, tmp_path, capsys, tiny, monkeypatch):
    data = [str(folder) for folder in toys]
    arguments = ["--data", *data, "--out", str(tmp_path), "--preset", "tiny", *SMALL, "--as-published"]
    cli.main(["bench", "table4", *arguments, "--budget", "0.05"])
    printed = capsys.readouterr().out
    for words in (
        "Table 4",
        "SMALL SCALE: 0.0125 minutes",
        "SDF-SRN",
        "as published",
        "In brackets",
        "has no splits",
    ):
        assert words in printed, words
    assert "(0.352)" not in printed  # the paper's Table 4 is of chairs, and these are toys
    assert {path.name for path in tmp_path.glob("table4.*")} == {f"table4.{x}" for x in ("txt", "json", "png", "svg")}
    found = json.loads((tmp_path / "table4.json").read_text())
    assert [row["label"] for row in found["rows"]] == ["SDF-SRN", "DIT", "DIF", "TARS"]
    for row in found["rows"]:
        assert row["measured"]["count"] == row["as_published"]["count"] == 2
        assert all(0 < row["steps"][name] <= row["full_steps"][name] for name in row["full_steps"])
    assert (tmp_path / "table4.txt").read_text() in printed

    def not_again(*arguments, **keywords):
        raise AssertionError("a finished row was trained again")

    monkeypatch.setattr("tars3d.training.run.train_run", not_again)
    before = (tmp_path / "table4.json").read_text()
    cli.main(["bench", "table4", *arguments, "--budget", "0.05"])
    assert (tmp_path / "table4.json").read_text() == before
    with pytest.raises(AssertionError, match="trained again"):
        cli.main(["bench", "table4", *arguments, "--budget", "0.05", "--seed", "1"])


def test_interrupted_table_goes_on_with_the_row_that_was_in_work(toys, tmp_path, tiny, monkeypatch, capsys):
    from tars3d.training.monitor import Monitor

    watch = Monitor.__call__
    trained: list[str] = []

    def killed(self, method, progress):
        trained.append(f"{method.config.method} {progress.stage.name}")
        watch(self, method, progress)
        if method.config.method == "dit" and progress.stage.name == "stage 1" and trained.count("dit stage 1") == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(Monitor, "__call__", killed)
    arguments = ["bench", "table4", "--data", str(toys[0]), "--out", str(tmp_path), "--preset", "tiny", *SMALL]
    with pytest.raises(SystemExit) as stop:
        cli.main([*arguments, "--budget", "0.05"])
    assert stop.value.code == 130
    assert not (tmp_path / "table4.json").exists()
    said = capsys.readouterr().err
    assert f"{tmp_path}: repeat the command to go on" in said
    assert "--resume" not in said, "an option that bench does not have"
    done = len(trained)
    cli.main([*arguments, "--budget", "0.05"])
    assert not [name for name in trained[done:] if name.startswith("sdf-srn") or name == "dit sphere"]
    assert "TARS" in capsys.readouterr().out


def test_rows_that_cannot_be_made_are_left_out_with_a_sentence(toys, tmp_path, tiny, capsys):
    base = ["--data", str(toys[0]), "--out", str(tmp_path), "--preset", "tiny", *SMALL, "--budget", "0.02"]
    cli.main(["bench", "table3", *base, "--sizes", "2", "500"])
    printed = capsys.readouterr().out
    assert "the rows of 500 training objects are left out: there are 3" in printed
    assert printed.count("SDF-SRN") == 1
    assert "no row can be made" in refused(capsys, "bench", "table3", *base, "--sizes", "500")
    assert "no such preset" in refused(capsys, "bench", "table1", *base, "--preset", "nosuch")
    assert "--budget 0.0: give a positive" in refused(capsys, "bench", "table1", *base, "--budget", "0")
    assert "--test-objects 0: give at least 1" in refused(capsys, "bench", "table1", *base, "--test-objects", "0")
    assert "--emd-points -1: give 0 or more" in refused(capsys, "bench", "table1", *base, "--emd-points", "-1")
    assert "--threads 0: give at least 1" in refused(capsys, "bench", "table1", *base, "--threads", "0")
    nowhere = ["--data", str(tmp_path / "none"), "--out", str(tmp_path)]
    assert "no such folder" in refused(capsys, "bench", "table1", *nowhere)


def test_point_features_are_swept(toys, tmp_path, tiny, capsys):
    base = ["--data", str(toys[0]), "--out", str(tmp_path), "--preset", "tiny", *SMALL, "--budget", "0.02"]
    cli.main(["bench", "figure8", *base, "--k", "0", "3"])
    rows = json.loads((tmp_path / "figure8.json").read_text())["rows"]
    assert [(row["label"], row["point_features"]) for row in rows] == [("k = 0", 0), ("k = 3", 3)]
    assert rows[0]["measured"]["protocol"]["alignment"].startswith("rigid ICP, 50")
    (collection,) = (tmp_path / "collections").iterdir()
    assert {record.model for record in load_collection(collection).images} == {"orthographic"}
    assert "w/o" not in capsys.readouterr().out


def test_tables_share_rows_and_a_row_that_fails_does_not_take_the_others_with_it(
    toys, tmp_path, tiny, capsys, monkeypatch
):
    import tars3d.training.run

    train, trained = tars3d.training.run.train_run, []

    def watched(data, out, options):
        trained.append(RunFolder(out).read_settings()["preset"]["model"]["method"])
        if trained[-1] == "softras":
            raise UserError("iou is not finite at step 3")
        return train(data, out, options)

    monkeypatch.setattr(tars3d.training.run, "train_run", watched)
    base = ["--data", str(toys[0]), "--out", str(tmp_path), "--preset", "tiny", *SMALL, "--row-minutes", "0.01"]
    cli.main(["bench", "table1", *base, "--add", "dit", "tars"])
    assert trained == ["softras", "sdf-srn", "tars", "dit"]
    rows = json.loads((tmp_path / "table1.json").read_text())["rows"]
    assert [(row["label"], row["paper"]) for row in rows] == [("SDF-SRN", None), ("TARS", None), ("DIT", None)]
    printed = capsys.readouterr().out
    assert "note: the row SoftRas of toy failed: iou is not finite" in printed
    assert "Machine: " in printed
    assert "1 thread(s)" in printed
    cli.main(["bench", "table4", *base])
    assert trained[4:] == ["dif"], "the other rows are those of Table 1"
    assert [row["label"] for row in json.loads((tmp_path / "table4.json").read_text())["rows"]][1] == "DIT"
    assert "give one of them" in refused(capsys, "bench", "table1", *base, "--budget", "1")


def test_dit_is_tars_without_point_features(tmp_path):
    options = TableOptions(data=(), out=tmp_path)
    held = Held(1, 1, 1)
    folders = set()
    for method, k in (("dit", None), ("tars", 0), ("tars", None)):
        row = TableRow("chair", "x", method, None, k)
        job = Job(row, presets.preset("compact", method, k), tmp_path / "data", held, tmp_path)
        folders.add(row_folder(job, options, 1.0))
    assert len(folders) == 2
    rows = added_rows(rows_of("table2", ["chair"]), ["dit", "cmr", "dif", "dif"])
    assert [row.label for row in rows] == ["CMR", "TARS without point features", "TARS", "DIF"]
    assert rows[-1].orthographic


def test_a_row_is_found_again_only_where_nothing_differs_that_its_training_depends_on(tmp_path):
    options = TableOptions(data=(), out=tmp_path, threads=1, device="cpu")
    row = TableRow("chair", "x", "tars", None)
    job = Job(row, presets.preset("compact"), tmp_path / "data-1", Held(1, 1, 1), tmp_path)
    seeded = replace(job.preset, training=replace(job.preset.training, seed=1))
    folders = [
        row_folder(job, options, 1.0),
        row_folder(job, options, 2.0),
        row_folder(job, replace(options, threads=2), 1.0),
        row_folder(job, replace(options, device="cuda"), 1.0),
        row_folder(replace(job, data=tmp_path / "data-2"), options, 1.0),
        row_folder(replace(job, preset=seeded), options, 1.0),
    ]
    assert len(set(folders)) == len(folders)
    assert row_folder(job, options, 1.0) == folders[0]


def test_figures_under_another_protocol_are_measured_anew(tmp_path):
    options = TableOptions(data=(), out=tmp_path, samples=300, resolution=16)
    job = Job(
        TableRow("chair", "x", "tars", None), presets.preset("compact"), tmp_path, Held(1, 1, 1), tmp_path / "row"
    )
    job.folder.mkdir()
    (job.folder / "row.json").write_text(json.dumps({"asked": table_row._asked(job, options)}))
    assert table_row.finished(job, options) is not None
    for other in ({"samples": 301}, {"resolution": 17}, {"threshold": 0.2}, {"emd_points": 7}, {"as_published": True}):
        assert table_row.finished(job, replace(options, **other)) is None, other


def test_tables_have_the_papers_rows_in_its_order():
    table = rows_of("table1", ["airplane", "chair", "car"])
    assert [row.category for row in table][::3] == ["car", "chair", "airplane"]
    assert [row.label for row in table][:3] == ["SoftRas", "SDF-SRN", "TARS"]
    assert table[4].paper == PAPER_TABLE_1["chair"]["SDF-SRN"]
    assert [row.objects for row in rows_of("table3", ["chair"])] == [500, 1000, 2000] * 2
    for name in ("table3", "table4"):
        assert all(row.paper for row in rows_of(name, ["car", "chair"]))
        assert not any(row.paper for row in rows_of(name, ["car"])), "the paper has these tables of chairs alone"
    assert [row.point_features for row in rows_of("table2", ["chair"])] == [None, 0, None]
    assert columns_of("table4") == ("Acc↓", "Cov↓", "CD↓")
    assert "F↑" in columns_of("table2")


def test_layout_and_bars_show_ours_beside_the_papers():
    paper = PAPER_TABLE_1["chair"]["TARS"]
    ours = {"chamfer_x10": {"accuracy": 0.5, "coverage": 0.7, "overall": 0.6}, "count": 3, "empty": 1}
    row = {
        "category": "chair", "label": "TARS", "method": "tars", "paper": paper, "measured": ours, "as_published": None,
        "pictures": 9, "objects": 9, "steps": {"a": 5, "b": 6},
    }  # fmt: skip
    text = layout(("Acc↓", "EMD↓"), [row])
    assert "0.500 (0.353)" in text
    assert "- (0.817)" in text
    assert "1 without a surface" in text
    assert " 11 " in text
    drawn = bars("Table 1. X", [row])
    assert drawn.count("<rect") == 4  # two bars, two keys
    assert ">0.600<" in drawn
    assert ">0.332<" in drawn
