"""The one error that users are meant to see: a line that names the file and the cure; and how such a line is made of the errors of others.

Raised anywhere, printed by the command line.
"""


class UserError(Exception):
    """Something the user can mend. The message is one line: what is wrong, in which file, and what to do about it."""


def reason_of(error: BaseException) -> str:
    """The first line of what an error of others says, or its kind where it says nothing."""
    return str(error).strip().split("\n")[0] or type(error).__name__


OUT_OF_MEMORY = ("MemoryError", "out of memory", "can't allocate", "bad_alloc")
"""What Python, NumPy, torch, CUDA and C++ say, e.g. torch.OutOfMemoryError; "alloc" alone also stands in the names of files."""


def says_out_of_memory(text: str) -> bool:
    """Whether an error, or what a process left on stderr, is of memory that ran out."""
    return any(words in text for words in OUT_OF_MEMORY)


def install_extra(name: str) -> str:
    """How an extra of this package is installed, for errors."""
    return f"pip install -c constraints.txt -e '.[{name}]' in the folder of tars3d"
