"""The tables of the docs, tied to the commands that print them: which runs there are, whether the code has changed since, and whether the docs say
what was printed.

    python benchmarks/figures.py                                  # what was run, at which commit, and what changed in the package since
    python benchmarks/figures.py --run pix3d-1 "pix3d-photos-*"   # run these once more, one after the other, a core each
    python benchmarks/figures.py --write                          # put what was printed into the docs' tables

`docs/printed/runs.toml` names the commands, `docs/printed/RUN.txt` holds what each of them printed. A comment before a table of the docs says where
its rows are from, in their order:

    <!-- printed: pix3d-1; pix3d-1 > TARS; -; cars-predicted to cars-bent; * cut-off; * labels-chair > kind -->

which is the first row that the run pix3d-1 printed (of each of its tables); its row TARS...; no run; two runs with "to" between their figures; all
rows, in their order, of the first table that cut-off printed; and all of that table of labels-chair whose first column is headed "kind...". Columns
go by their heads; those that no command prints stay as they are. `tests/test_figures.py` compares every such table.
"""

import argparse
import os
import platform
import re
import shlex
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from fnmatch import fnmatch
from pathlib import Path

from tars3d.atomic import atomic_path
from tars3d.errors import UserError

ROOT = Path(__file__).parents[1]
PRINTED = ROOT / "docs" / "printed"
MARK = re.compile(r"<!-- printed: (.*) -->")
Cells = list[str]
Row = dict[str, str]
"""Cells by the plain names of their columns."""


@dataclass(frozen=True)
class Table:
    """A table as a command printed it, or as a page of the docs shows it.

    Attributes:
        head: names of the columns; the first is the rows' own.
        rows: as many cells each.
    """

    head: Cells
    rows: list[Cells]


def tables(text: str) -> list[Table]:
    """All tables of a text: Markdown's, and those of columns set apart by spaces, with a line of dashes below the head."""
    found, lines = [], text.splitlines()
    for number in range(1, len(lines)):
        split = cells if re.fullmatch(r"\|[|:\- ]+\|", lines[number]) else spaced
        if split is spaced and not re.fullmatch(r"-{8,}", lines[number]):
            continue
        head, rows = split(lines[number - 1]), []
        for line in lines[number + 1 :]:
            if len(row := split(line)) != len(head):
                break
            rows.append(row)
        found.append(Table(head, rows))
    return found


def cells(line: str) -> Cells:
    """Of a row of a Markdown table."""
    return [cell.strip() for cell in line.strip().strip("|").split("|")] if line.startswith("|") else []


def spaced(line: str) -> Cells:
    """Of a row whose columns are two spaces or more apart; the head of the first may be empty."""
    return re.split(r"\s{2,}", line.rstrip())


def plain(name: str) -> str:
    """What tells a column from others: its head without arrows, spaces, underlines, capitals."""
    return re.sub(r"[\s_@↑↓]", "", name).casefold()


def rows_of(source: str) -> list[Row]:
    """The rows of a source of the comment.

    Raises:
        UserError: it was not printed, or runs that belong together have not as many rows.
    """
    if source == "-":
        return [{}]
    runs = [_rows_of_run(run, whole=source.startswith("*")) for run in source.removeprefix("*").split(" to ")]
    if len({len(rows) for rows in runs}) > 1:
        raise UserError(f"{source}: have different numbers of rows")
    return [
        {name: " to ".join(row[name] for row in rows) for name in rows[0] if all(name in row for row in rows)}
        for rows in zip(*runs, strict=True)
    ]


def _rows_of_run(run: str, *, whole: bool) -> list[Row]:
    """The row of the run that `RUN > ...` names, or else the first rows of all its tables in one; or all rows of a table: the first, or that of
    which `RUN > ...` names the first column."""
    name, _, label = (part.strip() for part in run.partition(">"))
    found = [
        (table.head[0], [(row[0], dict(zip(map(plain, table.head[1:]), row[1:], strict=True))) for row in table.rows])
        for table in tables(printed(name))
    ]
    if whole:
        chosen = next(([row for _, row in rows] for head, rows in found if head.startswith(label)), [])
    elif label:
        chosen = [row for _, rows in found for head, row in rows if head.startswith(label)][:1]
    else:
        firsts = [rows[0][1] for _, rows in reversed(found) if rows]
        chosen = [{name: cell for row in firsts for name, cell in row.items()}] if firsts else []
    if not chosen:
        raise UserError(f"docs/printed/{name}.txt: has no {'table' if whole else 'row'} {label!r}")
    return chosen


def printed(name: str) -> str:
    """What a run printed.

    Raises:
        UserError: it was not run.
    """
    path = PRINTED / f"{name}.txt"
    if not path.exists():
        raise UserError(
            f"{path.relative_to(ROOT)}: no such file; run it: python benchmarks/figures.py --run {shlex.quote(name)}"
        )
    return path.read_text()


def filled(table: Table, sources: Sequence[str]) -> list[Cells]:
    """The rows of a table of the docs with what was printed.

    Raises:
        UserError: there are not as many sources as rows, or one of them was not printed.
    """
    known = [row for source in sources for row in rows_of(source)]
    if len(known) != len(table.rows):
        raise UserError(f"{'; '.join(sources)}: have {len(known)} rows, their table {len(table.rows)}")
    shown = {plain(name) for name in table.head[1:]}
    if strange := [row for row in known if row and not shown & row.keys()]:
        raise UserError(f"{'; '.join(sources)}: none of the columns is headed {', '.join(strange[0])}")
    return [
        [own[0], *(new.get(plain(name), cell) for name, cell in zip(table.head[1:], own[1:], strict=True))]
        for own, new in zip(table.rows, known, strict=True)
    ]


def rewritten(page: str) -> str:
    """A page of the docs whose marked tables say what was printed.

    Raises:
        UserError: see `filled`; a comment without a table after it.
    """
    lines = page.splitlines()
    for number, line in enumerate(lines):
        if not (mark := MARK.fullmatch(line)):
            continue
        below = lines[number + 1 :]
        length = next((at for at, other in enumerate(below) if not other.startswith("|")), len(below))
        if not (found := tables("\n".join(below[:length]))):
            raise UserError(f"no table after {line}")
        (table,) = found
        rows = filled(table, [source.strip() for source in mark[1].split(";")])
        for at, (before, after) in enumerate(zip(table.rows, rows, strict=True)):
            if before != after:  # the spaces of rows that stay are the writer's
                lines[number + 3 + at] = "| " + " | ".join(after) + " |"
    return "\n".join(lines) + "\n"


def pages() -> Iterator[tuple[Path, str, str]]:
    """Each page of the docs, what it says, and what it would say with the printed figures.

    Raises:
        UserError: names the page.
    """
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))):
        says = page.read_text()
        try:
            yield page, says, rewritten(says)
        except UserError as error:
            raise UserError(f"{page.relative_to(ROOT)}: {error}") from None


def git(*words: str) -> str | None:
    """What git says; None: nothing, as there is no git, no repository or no such commit."""
    try:
        done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def commit_of(name: str) -> str | None:
    """The commit at which a run was printed; None: it was not."""
    path = PRINTED / f"{name}.txt"
    found = re.search(r"commit (\S+)", path.read_text().partition("\n\n")[0]) if path.exists() else None
    return found[1] if found else None


def list_runs(commands: Mapping[str, str]) -> None:
    """Print the runs, where each was printed, and what changed in the package since."""
    commits = {name: commit_of(name) for name in commands}
    for name, command in commands.items():
        print(f"{name}: {command}\n    " + (f"printed at {commits[name]}" if commits[name] else "not run yet"))
    for commit in dict.fromkeys(filter(None, commits.values())):
        names = git("diff", "--name-only", commit.partition("-")[0], "--", "src/tars3d")
        files = [name.removeprefix("src/tars3d/") for name in (names or "").splitlines()]
        told = ", ".join(files) or "nothing" if names is not None else "unknown, as it is not in this repository"
        print(f"changed since {commit}: {told}")


def run(name: str, command: str, data: Mapping[str, str], threads: int) -> bool:
    """Run a command and keep what it prints; whether it ended well."""
    program, *words = shlex.split(command)
    for folder in words:
        if folder in data and not (ROOT / folder).exists():
            raise UserError(f"{folder}: no such folder; make it: {data[folder]}")
    program = ["-m", "tars3d.cli"] if program == "tars3d" else []
    print(f"{name}: {command}", flush=True)
    commit, start = commit_here(), time.monotonic()
    done = subprocess.run(
        [sys.executable, *program, *words],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": str(threads)},
        stdout=subprocess.PIPE,
        text=True,
    )
    if done.returncode:
        print(f"{name}: exit code {done.returncode}; what was printed before stays", file=sys.stderr)
        return False
    took = f"{(time.monotonic() - start) / 60:.1f} minutes, {threads} thread{'s' * (threads > 1)}"
    machine = f"{platform.machine()} of {os.cpu_count()} cores"
    with atomic_path(PRINTED / f"{name}.txt") as path:
        path.write_text(f"$ {command}\n{took}, {date.today()}, {machine}, commit {commit}\n\n{done.stdout}")
    print(done.stdout)
    return True


def commit_here() -> str:
    """The commit that is checked out; "-changed" where the package or these scripts are not as it has them."""
    commit = git("rev-parse", "--short=10", "HEAD") or "unknown"
    return commit + ("-changed" if git("status", "--porcelain", "--", "src", "benchmarks") else "")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", nargs="+", metavar="RUN", default=[], help="names, or patterns such as 'pix3d-*'")
    parser.add_argument("--threads", type=int, default=1, help="of each command")
    parser.add_argument("--write", action="store_true", help="put what was printed into the docs' tables")
    options = parser.parse_args()
    known = tomllib.loads((PRINTED / "runs.toml").read_text())
    commands, data = known["runs"], known["data"]
    for pattern in options.run:
        if not any(fnmatch(name, pattern) for name in commands):
            parser.error(f"--run {pattern}: docs/printed/runs.toml has no such run")
    chosen = [name for name in commands if any(fnmatch(name, pattern) for pattern in options.run)]
    try:
        failed = [name for name in chosen if not run(name, commands[name], data, options.threads)]
        if options.write:
            for page, says, would in pages():
                if would != says:
                    with atomic_path(page) as path:
                        path.write_text(would)
                    print(f"{page.relative_to(ROOT)}: written")
    except UserError as error:
        parser.error(str(error))
    if not options.run and not options.write:
        list_runs(commands)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
