"""Whole files from wherever fsspec reaches: which package an address needs, what is tried again, and what is said when it fails.

Called by `data.shards`. What fails in passing (a dropped connection, a transfer that ends early, a server that is busy) is tried
again; a training of hours must not end with it. What stays (no such file, no access) is said at once.
"""

import time
from collections.abc import Sequence
from typing import Any

from tars3d.errors import UserError, install_extra, reason_of

PATIENCE = (1.0, 2.0, 4.0, 8.0)
"""Seconds to wait before each further attempt."""
BRIEF = (1.0,)
"""The same at the start of a command, while somebody waits."""
EXTRAS = {"http": "remote", "https": "remote", "s3": "s3", "s3a": "s3"}
"""Of this package, for a protocol."""
PACKAGES = {"gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs"}
"""What pip is to install for others."""
WEB = {"http", "https"}
HERE = {"file", "local", "memory"}
BUSY = (408, 429)


def protocols(files: Any) -> set[str]:
    """Names of a file system's protocols."""
    return {files.protocol} if isinstance(files.protocol, str) else set(files.protocol)


def open_url(url: str) -> tuple[Any, str]:
    """The file system of an address, and the path in it.

    Raises:
        UserError: there is no such protocol, or its package is not installed.
    """
    from fsspec.core import url_to_fs

    try:
        return url_to_fs(url)
    except ImportError as error:
        protocol = url.partition("://")[0]
        cure = reason_of(error)
        if protocol in EXTRAS:
            cure = "give it with " + install_extra(EXTRAS[protocol])
        elif protocol in PACKAGES:
            cure = f"give it with pip install {PACKAGES[protocol]}"
        raise UserError(f"{url}: needs a package that is not installed; {cure}") from error
    except ValueError as error:  # unknown protocol
        raise UserError(f"{url}: cannot be opened; {reason_of(error)}") from error


def fetch(
    files: Any, path: str, name: str, missing: str, *, length: int = 0, patience: Sequence[float] | None = None
) -> bytes:
    """A file's bytes.

    Args:
        files: an fsspec file system.
        name: of the file in messages.
        missing: what to say where there is no such file.
        length: that it should have at least; a shorter answer from afar is tried again, then returned as it is.
        patience: seconds to wait before each further attempt; default is `PATIENCE`.

    Raises:
        UserError: there is no such file, or it cannot be read.
    """
    waits = () if protocols(files) & HERE else tuple(PATIENCE if patience is None else patience)
    for wait in (*waits, None):
        try:
            data = files.cat_file(path)
            if len(data) >= length or wait is None:
                return data
        except FileNotFoundError:
            raise UserError(f"{name}: {missing}") from None
        except Exception as error:  # each file system has its own
            if wait is None or not passing(error):
                tried = f", tried {len(waits) + 1} times" if waits and wait is None else ""
                raise UserError(
                    f"{name}: cannot be read ({reason_of(error)}{tried}); check the address and your access to it"
                ) from error
        time.sleep(wait)
    raise AssertionError("the last attempt returns or raises")


def passing(error: Exception) -> bool:
    """Whether an error may be gone at the next attempt."""
    status = getattr(error, "status", None)
    if isinstance(status, int):  # the server answered
        return status >= 500 or status in BUSY
    if isinstance(error, FileNotFoundError | PermissionError):
        return False
    # aiohttp's error of a transfer that ends early is no OSError.
    return isinstance(error, OSError) or type(error).__module__.startswith("aiohttp")
