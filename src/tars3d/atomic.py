"""Outputs appear whole or not at all: written beside their final place under a temporary name, then renamed."""

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from safetensors import SafetensorError

from tars3d.errors import UserError

UMASK = os.umask(0)
"""Of the process: it can only be read by setting it, which is done once, before there are threads."""
os.umask(UMASK)


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` when the block ends well, remove it otherwise.

    Parent folders are made. What is yielded keeps `path`'s suffix (writers choose their format by it) and may be written as
    a file or made as a folder; a folder replaces an existing one whole. A link stays one: what it points to is replaced.

    Raises:
        UserError: the place cannot be written (no permission, disk full), or a file that the block reads cannot be read.
    """
    path = Path(os.path.realpath(path)) if os.path.islink(path) else Path(path)
    temporary = path.with_name(f".{path.stem}.{secrets.token_hex(4)}.partial{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        if temporary.is_file():
            temporary.chmod(0o666 & ~UMASK)  # some writers make files that only their owner may read
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
    except SafetensorError as error:  # its writer's word for a full disk
        raise UserError(f"{path}: cannot be written ({error}); free some space or choose another place") from error
    except OSError as error:
        reason = error.strerror or error
        if error.filename is None or _belongs(Path(os.fsdecode(error.filename)), path, temporary):
            raise UserError(f"{path}: cannot be written ({reason}); free some space or choose another place") from error
        raise UserError(f"{error.filename}: cannot be read ({reason}); {path} is not written") from error
    finally:
        with contextlib.suppress(OSError):  # the place itself may be what cannot be written
            if temporary.is_dir():
                shutil.rmtree(temporary, ignore_errors=True)
            else:
                temporary.unlink(missing_ok=True)


def _belongs(file: Path, path: Path, temporary: Path) -> bool:
    """Whether a file is the one that is written, a part of it, or a folder that it lies in."""
    return file in (path, temporary, *path.parents) or temporary in file.parents
