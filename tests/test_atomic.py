"""Files appear whole or not at all, and what goes wrong is told of the right file."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from safetensors import SafetensorError

from tars3d.atomic import atomic_path
from tars3d.errors import UserError


def test_a_block_that_fails_leaves_what_was_there(tmp_path):
    file = tmp_path / "notes.txt"
    file.write_text("old")
    with pytest.raises(ZeroDivisionError), atomic_path(file) as temporary:  # noqa: PT012
        temporary.write_text("half")
        raise ZeroDivisionError
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("notes.txt", "old")]


@pytest.mark.parametrize("exists", [True, False])
def test_a_link_stays_a_link(tmp_path, exists):
    target, link = tmp_path / "store" / "mesh.glb", tmp_path / "mesh.glb"
    target.parent.mkdir()
    if exists:
        target.write_text("old")
    link.symlink_to(target)
    with atomic_path(link) as temporary:
        temporary.write_text("new")
    assert link.is_symlink()
    assert target.read_text() == "new"
    assert [path.name for path in target.parent.iterdir()] == ["mesh.glb"]


def test_a_file_that_the_block_cannot_read_is_blamed_itself(tmp_path):
    missing = tmp_path / "missing.txt"
    with pytest.raises(UserError, match=f"^{missing}: cannot be read"), atomic_path(tmp_path / "out.txt"):
        missing.read_text()
    assert not (tmp_path / "out.txt").exists()


@pytest.mark.parametrize("place", [Path("/proc/none/out.txt"), Path("x" * 300 + ".txt")])
def test_places_that_cannot_be_written(tmp_path, monkeypatch, place):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"out\.txt|x+\.txt: cannot be written"), atomic_path(place) as temporary:
        temporary.write_text("new")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_one_line_for_weights_as_well(tmp_path):
    def write(file: Path) -> None:
        raise SafetensorError(f"I/O error: No space left on device: {file}")

    with pytest.raises(UserError, match=r"model\.safetensors: cannot be written.*free some space"):  # noqa: SIM117
        with atomic_path(tmp_path / "model.safetensors") as temporary:
            write(temporary)
    assert not list(tmp_path.iterdir())


def test_files_that_a_writer_keeps_to_itself_become_as_readable_as_others(tmp_path):
    """As safetensors and temporary files are made."""
    with atomic_path(tmp_path / "model") as temporary:
        os.close(os.open(temporary, os.O_CREAT | os.O_WRONLY, 0o600))
    (tmp_path / "plain").write_text("")
    assert (tmp_path / "model").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_files_written_in_threads_leave_the_process_its_umask(tmp_path):
    before = os.umask(0o027)
    os.umask(before)

    def write(number: int) -> None:
        with atomic_path(tmp_path / str(number)) as temporary:
            temporary.write_text("x")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(200)))
    after = os.umask(before)
    os.umask(after)
    assert after == before
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o666 & ~before}
