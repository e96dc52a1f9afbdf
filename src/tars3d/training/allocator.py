"""Tell glibc to keep freed memory: training steps of many large temporaries otherwise spend most of their time in page faults.

Called once by `train` and `bench`, so that users need to set no environment variable. Without glibc it does nothing.
"""

import ctypes
import sys

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # <malloc.h>


def keep_freed_memory() -> bool:
    """Set glibc's malloc to serve large blocks from the heap and never hand freed memory back. Returns whether it could."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):  # musl
        return False
    return all([mallopt(M_MMAP_MAX, 0), mallopt(M_TRIM_THRESHOLD, -1), mallopt(M_TOP_PAD, 64 * 1024 * 1024)])
