"""The map of the house in CONTRIBUTING.md is true: every module is on it, and arrows run downward only."""

import ast
import re
from pathlib import Path

import tars3d

PACKAGE = Path(tars3d.__file__).parent
MAP = PACKAGE.parents[1] / "CONTRIBUTING.md"
FACE = "__init__"
"""Re-exports what users call, from anywhere."""


def storeys() -> dict[str, int]:
    """Room to its row in the table, counted from the top."""
    rows = [line.split("|")[1] for line in MAP.read_text().splitlines() if line.startswith("| `")]
    return {
        Path(name.rstrip("/")).stem: row for row, names in enumerate(rows) for name in re.findall(r"`([^`]+)`", names)
    }


def imported(file: Path) -> set[str]:
    """Rooms that a file imports from, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file}: relative import; name the room"
            if node.module and node.module.split(".")[0] == "tars3d":
                found |= {node.module.split(".")[1]} if "." in node.module else {name.name for name in node.names}
        elif isinstance(node, ast.Import):
            found |= {name.name.split(".")[1] for name in node.names if name.name.startswith("tars3d.")}
    return found - {"__version__"}


def test_every_room_is_on_the_map():
    rooms = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert rooms - {FACE} <= storeys().keys()


def test_arrows_run_downward_only():
    rows = storeys()
    upward = []
    for file in sorted(PACKAGE.rglob("*.py")):
        here = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if here != FACE:
            upward += [
                f"{file.relative_to(PACKAGE)} imports {room}"
                for room in sorted(imported(file))
                if rows[room] < rows[here]
            ]
    assert not upward
