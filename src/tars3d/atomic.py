"""Outputs appear whole or not at all: written beside their final place under a temporary name, then renamed."""

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from tars3d.errors import UserError


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` when the block ends well, remove it otherwise.

    Parent folders are made. What is yielded keeps `path`'s suffix (writers choose their format by it) and may be written as
    a file or made as a folder; a folder replaces an existing one whole.

    Raises:
        UserError: the place cannot be written (no permission, disk full).
    """
    path = Path(os.path.realpath(path)) if os.path.isdir(path) else Path(path)  # a link to a folder stays one
    temporary = path.with_name(f".{path.stem}.{secrets.token_hex(4)}.partial{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        if temporary.is_file():
            temporary.chmod(0o666 & ~_umask())  # some writers make files that only their owner may read
        if temporary.is_dir() and path.is_dir():  # killed in between, both are whole
            old = path.with_name(f".{path.stem}.{secrets.token_hex(4)}.old{path.suffix}")
            os.replace(path, old)
            try:
                os.replace(temporary, path)
            except OSError:
                os.replace(old, path)
                raise
            shutil.rmtree(old, ignore_errors=True)
        else:
            os.replace(temporary, path)
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written ({error.strerror or error}); free some space or choose another --out"
        ) from error
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):  # the place itself may be what cannot be written
                temporary.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
