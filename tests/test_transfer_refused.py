"""What transfers cannot do is refused in one line, and what they read is never overwritten."""

import json

import numpy as np
import pytest

from balls import SPACE, ball, halves, paint, write_balls
from helpers import refused
from tars3d import cli
from tars3d.export import export_mesh
from tars3d.transfer import labels, run


@pytest.fixture
def files(tmp_path, monkeypatch):
    """The folder of the two balls, which is the current one."""
    for module in (run, labels):
        monkeypatch.setattr(module, "SAMPLES", 2000)
    monkeypatch.chdir(tmp_path)
    write_balls(tmp_path)
    return tmp_path


def test_bad_input_is_refused_in_one_line(files, capsys):
    paint(files / "painted.glb")
    mesh, canonical = ball()
    export_mesh(mesh, canonical, files / "other.glb", space="cube:00000002")
    export_mesh(mesh, canonical[:, :3], files / "few.glb")
    export_mesh(mesh, None, files / "bare.glb")
    mesh.export(files / "ascii.ply", encoding="ascii")
    paint(files / "damaged.glb")
    (files / "damaged.canonical.npz").write_bytes(b"PK")
    canonical[7] = np.nan
    export_mesh(mesh, canonical, files / "nan.glb", space=SPACE)
    mesh.vertices[7] = np.nan
    export_mesh(mesh, ball()[1], files / "hole.ply", space=SPACE)
    mesh, _ = ball()
    mesh.apply_translation([0.2, 0, 0])
    mesh.visual.vertex_colors = halves(mesh.vertices)
    mesh.export(files / "moved.ply")
    mesh, canonical = ball()
    export_mesh(
        mesh.apply_scale(100 / np.ptp(mesh.vertices, axis=0).max()), canonical, files / "large.glb", space=SPACE
    )
    np.save(files / "short.npy", np.zeros(7, int))
    np.savez(files / "several.npz", labels=np.zeros(len(mesh.vertices), int))
    (files / "several.npz").rename(files / "several.npy")
    np.save(files / "none.npy", np.full(len(mesh.vertices), -1))
    write = {
        "unknown.json": {"vertices": {"seat": [0, 99999]}},
        "huge.json": {"vertices": {"seat": [10**30]}},
        "far.json": {"tip": [10**400, 0, 0]},
        "twice.json": {"vertices": {"seat": [0], "leg": [0]}},
        "both.json": {"vertices": {"seat": [0]}, "faces": {"leg": [1]}},
        "nothing.json": {"parts": []},
        "off.json": {"tip": [0.9, 0.9, 0.9]},
        "two.json": {"tip": [0.9, 0.9]},
    }
    for name, content in write.items():
        (files / name).write_text(json.dumps(content))
    (files / "broken.json").write_text("{")
    (files / "again.json").write_text('{"vertices": {"a": [0], "a": [1, 2, 3]}}')
    (files / "tips.json").write_text('{"tip": [0.4, 0, 0], "tip": [0, 0.4, 0]}')
    texture, to = ["transfer", "texture"], "target.glb"
    labels = ["transfer", "labels", "source.glb", to, "--labels"]
    keypoints = ["transfer", "keypoints", "source.glb", to, "--keypoints"]
    cases = [
        ([*texture, "painted.glb"], "no target"),
        ([*texture, "absent.glb", to], "absent.glb: no such file"),
        ([*texture, "painted.glb", "absent.png"], "absent.png: no such file"),
        ([*texture, "source.glb", to], "source.glb: has faces without colours"),
        ([*texture, "moved.ply", to], "name the mesh that tars3d wrote with --reconstruction"),
        ([*texture, "moved.ply", to], "moved.ply: carries no canonical coordinates"),
        ([*texture, "ascii.ply", to], "ascii.ply: carries no canonical coordinates"),
        ([*texture, "damaged.glb", to], "damaged.canonical.npz: cannot be read"),
        ([*texture, "painted.glb", "nan.glb"], "nan.glb: has canonical coordinates that are NaN or infinite"),
        ([*texture, "painted.glb", "hole.ply"], "hole.ply: has vertices that are NaN or infinite"),
        ([*texture, "painted.glb", to, "--feature-weight", "nan"], "--feature-weight nan: give a number of 0 or more"),
        ([*texture, "painted.glb", to, "--height-weight", "inf"], "--height-weight inf"),
        ([*texture, "painted.glb", to, "--max-distance", "nan"], "--max-distance nan: give a number of 0 or more"),
        ([*texture, "painted.glb", to, "--max-cycle", "-1"], "--max-cycle -1"),
        ([*texture, "moved.ply", to, "--reconstruction", "source.glb"], "moved.ply: is not the surface of source.glb"),
        ([*texture, "painted.glb", "bare.glb"], "bare.glb: carries no canonical"),
        ([*texture, "painted.glb", "other.glb"], "other.glb: its canonical space is cube:00000002"),
        ([*texture, "painted.glb", "large.glb"], "large.glb: its longest side is 100, a reconstruction's is about 1"),
        ([*texture, "painted.glb", to, "few.glb", "--together"], "target.glb: --together takes pictures"),
        ([*texture, "painted.glb", "few.glb"], "few.glb: has 3 canonical channels"),
        ([*labels, "unknown.json"], "'seat' names vertex 99999"),
        ([*labels, "twice.json"], "twice.json: 'leg' and another part share"),
        ([*labels, "both.json"], 'both.json: holds both "vertices" and "faces"'),
        ([*labels, "again.json"], "again.json: 'a' stands there twice"),
        ([*keypoints, "tips.json"], "tips.json: 'tip' stands there twice"),
        ([*labels, "nothing.json"], "nothing.json: names no parts"),
        ([*labels, "short.npy"], "short.npy: holds int64[7]"),
        ([*labels, "several.npy"], "several.npy: holds named arrays"),
        ([*labels, "none.npy"], "none.npy: labels nothing"),
        ([*labels, "huge.json"], "'seat' names vertex 1000000"),
        ([*labels, "parts.json", "--color-weight", "-1"], "--color-weight -1"),
        ([*labels, "parts.json", "--color-weight", "nan"], "--color-weight nan"),
        ([*labels, "parts.json", "--crease-weight", "-1"], "--crease-weight -1"),
        ([*labels, "broken.json"], "broken.json: is not valid JSON"),
        ([*keypoints, "off.json"], "'tip' lies 1.1"),
        ([*keypoints, "two.json"], "'tip' is no point"),
        ([*keypoints, "far.json"], "'tip' is no point"),
        ([*keypoints, "two.json", "--max-cycle", "0.1"], "--max-cycle: over a few keypoints"),
    ]
    for arguments, message in cases:
        assert message in refused(capsys, *arguments)
    assert not (files / "transferred").exists()


def test_a_map_in_another_order_than_the_vertices_is_refused(files, capsys):
    mesh, canonical = ball()
    order = np.random.default_rng(0).permutation(len(canonical))
    mesh.visual.vertex_colors = halves(mesh.vertices)
    export_mesh(mesh, canonical[order], files / "shuffled.glb")
    assert "does not follow its vertices" in refused(capsys, "transfer", "texture", "shuffled.glb", "target.glb")
    export_mesh(mesh, canonical, files / "less.glb")
    np.savez(files / "less.canonical.npz", canonical=canonical[:-1])
    assert "its canonical map 2561" in refused(capsys, "transfer", "texture", "less.glb", "target.glb")


def test_further_sources_that_cannot_be_used_are_refused(files, capsys):
    mesh, canonical = ball()
    (files / "parts.json").write_text(json.dumps({"vertices": {"all": list(range(len(mesh.vertices)))}}))
    command = ["transfer", "labels", "source.glb", "target.glb", "--labels", "parts.json", "--more"]
    assert "--more second.glb: is not MESH=LABELS" in refused(capsys, *command, "second.glb")
    export_mesh(mesh, canonical, files / "other.glb", space="cup:00000002")
    assert "other.glb: its canonical space is cup" in refused(capsys, *command, "other.glb=parts.json")
    assert "--max-cycle" in refused(capsys, *command, "source.glb=parts.json", "--max-cycle", "0.1")


def test_results_never_overwrite_what_is_read(files, capsys):
    """A painted result carried back with the usual --out would replace itself, and a second run would read something else."""
    out = files / "transferred"
    paint(out / "b_texture.glb")
    export_mesh(*ball(), files / "b.glb", space=SPACE)
    parts = out / "b_labels.json"
    parts.write_text(json.dumps({"vertices": {"all": list(range(len(ball()[0].vertices)))}}))
    before = {path: path.read_bytes() for path in out.iterdir()}
    texture, parted = ["transfer", "texture"], ["transfer", "labels"]
    cases = [
        (
            [*texture, "transferred/b_texture.glb", "b.glb"],
            "b.glb: its results would overwrite transferred/b_texture.glb",
        ),
        (
            [*texture, "source.glb", "b.glb", "--reconstruction", "./transferred/b_texture.glb"],
            "would overwrite transferred/b_texture.glb",
        ),
        ([*texture, "source.glb", "b.glb", "transferred/b_texture.glb"], "would overwrite transferred/b_texture.glb"),
        (
            [*parted, "source.glb", "b.glb", "--labels", "transferred/b_labels.json"],
            "would overwrite transferred/b_lab",
        ),
        (
            [*parted, "source.glb", "b.glb", "--labels", "x", "--more", f"source.glb={parts}"],
            f"would overwrite {parts}",
        ),
    ]
    for arguments, message in cases:
        assert message in refused(capsys, *arguments)
    assert {path: path.read_bytes() for path in out.iterdir()} == before
    cli.main([*texture, "transferred/b_texture.glb", "b.glb", "--out", "elsewhere"])
    assert (files / "elsewhere" / "b_texture.glb").is_file()
