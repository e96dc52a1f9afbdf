"""What a check finds wrong, and pictures by their names. Shared by the checks beside it; `check` gathers what they say."""

from collections.abc import Sequence
from typing import NamedTuple

SHOWN_NAMES = 3


class Fault(NamedTuple):
    """Something wrong, with its cure in words."""

    words: str
    serious: bool
    """Whether it spoils a training; else it is worth a look."""


def listed(names: Sequence[str]) -> str:
    """The first names, and whether there are more."""
    return ", ".join(names[:SHOWN_NAMES]) + (", ..." if len(names) > SHOWN_NAMES else "")
