"""What a command says while it works, on stderr: a progress bar where that takes over two seconds, and which inputs of many it had to skip."""

import sys
from collections.abc import Iterable, Iterator
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tars3d.errors import UserError

console = Console(stderr=True)


def say(text: str) -> None:
    """A result, on stdout; beside a bar on the same terminal it is not broken at the terminal's width."""
    if sys.stdout.isatty() and console.is_terminal:
        console.print(text, markup=False, emoji=False, highlight=False, soft_wrap=True)
    else:
        print(text, flush=True)


def remark(text: str) -> None:
    """Something to know, on stderr: as it is, for names may hold brackets and be longer than a line."""
    console.print(text, markup=False, emoji=False, highlight=False, soft_wrap=True)


def progress_bar(*, shown: bool = True) -> Progress:
    """A bar with a description, a count and the time that is left; it draws nothing where it is not shown."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    # What is printed meanwhile goes above the bar where both are on one terminal, and else where it was sent.
    return Progress(*columns, console=console, disable=not shown, redirect_stdout=sys.stdout.isatty())


def tracked(items: Iterable[Any], words: str, shown: bool) -> Iterator[Any]:
    """`items` under a bar that says `words`."""
    with progress_bar(shown=shown) as bar:
        yield from bar.track(list(items), description=words)


class Skipped:
    """Inputs of a command that cannot be used: each is named as it comes, the others go on, and the command fails at its end.

    What is wrong with all, such as a package that is missing, is said at the first.

    Args:
        total: how many inputs there are; the error of a single one is raised as it is.
    """

    def __init__(self, total: int):
        self.total, self.count = total, 0
        self.said: set[str] = set()

    def add(self, error: UserError) -> None:
        """Skip an input for this reason."""
        if self.total == 1:
            raise error
        self.count += 1
        if str(error) not in self.said:
            self.said.add(str(error))
            remark(f"skipped: {error}")

    def finish(self) -> None:
        """Raise UserError where any was skipped."""
        if self.count:
            raise UserError(f"{self.count} of {self.total} could not be used, as said above; the others are done")
