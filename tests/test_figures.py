"""The tables of the docs say what their commands printed, and `benchmarks/figures.py`, which puts it there, reads and writes tables rightly."""

import importlib.util
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tars3d.errors import UserError

ROOT = Path(__file__).parents[1]
SPACED = """\
                     CD↓     F↑  IoU, camera found↑
---------------------------------------------------
chair, bent        0.296  95.93               0.705
TARS (paper)       0.332  94.40                   -
Protocol of chair: samples: 20
"""
MARKDOWN = """\
chair: 30 objects
| | label_accuracy | pck_0.1 |
|---|---:|---:|
| ours | 84.4 / 85.7 | 70.4 |
| no_colors | 82.8 / 84.6 | 70.3 |

| kind | objects |
|---|---:|
| tub | 1 |
| stool | 2 |
"""


@pytest.fixture
def figures(monkeypatch, tmp_path):
    """The script, with runs of its own: `level` and `bent`, and `labels`."""
    spec = importlib.util.spec_from_file_location("figures", ROOT / "benchmarks" / "figures.py")
    script = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "figures", script)  # dataclasses look there
    spec.loader.exec_module(script)
    folder = tmp_path / "docs" / "printed"
    folder.mkdir(parents=True)
    (folder / "level.txt").write_text("$ tars3d evaluate data\n2026-12-01, commit abc\n\n" + SPACED)
    (folder / "bent.txt").write_text("$ tars3d evaluate data\n\n" + SPACED.replace("0.296", "0.249"))
    (folder / "labels.txt").write_text("$ tars3d bench correspondence\n\n" + MARKDOWN)
    monkeypatch.setattr(script, "ROOT", tmp_path)
    monkeypatch.setattr(script, "PRINTED", folder)
    return script


def page(mark: str, head: str, *rows: str) -> str:
    return "\n".join(["Before.", "", f"<!-- printed: {mark} -->", head, "|---|---:|---:|", *rows, "", "After."]) + "\n"


def test_the_docs_say_what_was_printed(figures, monkeypatch):
    monkeypatch.setattr(figures, "ROOT", ROOT)
    monkeypatch.setattr(figures, "PRINTED", ROOT / "docs" / "printed")
    for name, says, would in figures.pages():
        assert says == would, f"{name} is not what was printed: python benchmarks/figures.py --write"


def test_every_run_has_a_command_and_every_printed_text_a_run():
    runs = tomllib.loads((ROOT / "docs" / "printed" / "runs.toml").read_text())["runs"]
    for path in (ROOT / "docs" / "printed").glob("*.txt"):
        assert path.read_text().startswith(f"$ {runs[path.stem]}\n"), path.name


def test_rows_of_several_runs(figures):
    says = page("level; level > TARS; -; level to bent", "| chairs | F ↑ | CD ↓ |", *["| as it is | 1 | 2 |"] * 4)
    rows = [line for line in figures.rewritten(says).splitlines() if line.startswith("| as")]
    assert rows == [
        "| as it is | 95.93 | 0.296 |",
        "| as it is | 94.40 | 0.332 |",
        "| as it is | 1 | 2 |",
        "| as it is | 95.93 to 95.93 | 0.296 to 0.249 |",
    ]


def test_whole_tables_and_columns_that_are_not_printed(figures):
    says = page("* labels", "| rule | PCK@0.1 ↑ | seen |", "| default | 0 | 5 |", "| no colours | 0 | 6 |")
    assert "| default | 70.4 | 5 |\n| no colours | 70.3 | 6 |" in figures.rewritten(says)
    says = page("* labels > kind", "| chairs | objects | within |", "| tubs | 0 | 7 |", "| stools | 0 | 8 |")
    assert "| tubs | 1 | 7 |\n| stools | 2 | 8 |" in figures.rewritten(says)
    says = page("labels; labels > no_c", "| chairs | objects | label accuracy ↑ |", *["| all | 0 | 0 |"] * 2)
    assert "| all | 1 | 84.4 / 85.7 |\n| all | 0 | 82.8 / 84.6 |" in figures.rewritten(says)


def test_a_page_that_is_right_stays_as_it_is(figures):
    says = page("level", "| chairs | F ↑ | CD ↓ |", "|  as it is | 95.93|0.296 |")
    assert figures.rewritten(says) == says


@pytest.mark.parametrize(
    ("mark", "words"),
    [
        ("level; level", "have 2 rows, their table 1"),
        ("absent", "no such file; run it: python benchmarks/figures.py --run absent"),
        ("level > spoon", "has no row 'spoon'"),
        ("* level > kind", "has no table 'kind'"),
        ("labels > ours", r"none of the columns is headed labelaccuracy, pck0\.1"),
    ],
)
def test_what_was_not_printed_is_refused(figures, mark, words):
    with pytest.raises(UserError, match=words):
        figures.rewritten(page(mark, "| chairs | F ↑ | CD ↓ |", "| as it is | 1 | 2 |"))


def test_a_run_keeps_what_its_command_prints_and_says_what_changed_since(figures, monkeypatch, tmp_path, capsys):
    script, folder = tmp_path / "hello.py", figures.PRINTED
    script.write_text("import sys; print('hello', *sys.argv[1:])")
    (folder / "runs.toml").write_text('[data]\n"data/few" = "tars3d data render"\n[runs]\na = "python hello.py you"\n')
    for words in (["init", "-q"], ["add", "."], ["-c", "user.name=a", "-c", "user.email=b@c", "commit", "-qm", "d"]):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    monkeypatch.setattr(sys, "argv", ["figures.py", "--run", "a"])
    assert figures.main() == 0
    assert (folder / "a.txt").read_text().startswith("$ python hello.py you\n")
    assert (folder / "a.txt").read_text().endswith("\n\nhello you\n")
    monkeypatch.setattr(sys, "argv", ["figures.py"])
    capsys.readouterr()
    figures.main()
    commit = subprocess.run(
        ["git", "rev-parse", "--short=10", "HEAD"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert f"a: python hello.py you\n    printed at {commit.stdout.strip()}\n" in capsys.readouterr().out
    (tmp_path / "src" / "tars3d").mkdir(parents=True)
    (tmp_path / "src" / "tars3d" / "mesh.py").touch()
    subprocess.run(["git", "add", "src"], cwd=tmp_path, check=True)
    figures.main()
    assert capsys.readouterr().out.endswith(f"changed since {commit.stdout.strip()}: mesh.py\n")
    (folder / "a.txt").write_text((folder / "a.txt").read_text().replace(commit.stdout.strip(), "abc-changed"))
    figures.main()
    assert "printed at abc-changed\n" in capsys.readouterr().out


def test_a_run_without_its_data_or_name_is_refused(figures, monkeypatch, capsys):
    figures.PRINTED.joinpath("runs.toml").write_text(
        '[data]\n"data/few" = "tars3d data render few"\n[runs]\na = "tars3d evaluate data/few"\n'
    )
    for run, words in (("a", "data/few: no such folder; make it: tars3d data render few"), ("b", "has no such run")):
        monkeypatch.setattr(sys, "argv", ["figures.py", "--run", run])
        with pytest.raises(SystemExit):
            figures.main()
        assert words in capsys.readouterr().err
