"""The one error that users are meant to see: a line that names the file and the cure. Raised anywhere, printed by the CLI. And how errors of
others say that memory ran out."""


class UserError(Exception):
    """Something the user can mend. The message is one line: what is wrong, in which file, and what to do about it."""


OUT_OF_MEMORY = ("MemoryError", "out of memory", "can't allocate", "bad_alloc")
"""What Python, NumPy, torch, CUDA and C++ say, e.g. torch.OutOfMemoryError; "alloc" alone also stands in the names of files."""


def says_out_of_memory(text: str) -> bool:
    """Whether an error, or what a process left on stderr, is of memory that ran out."""
    return any(words in text for words in OUT_OF_MEMORY)
