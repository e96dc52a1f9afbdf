"""Finds the object on any background with a segmentation network, for pictures that bring neither mask nor alpha channel.

Called by `data.pictures` where `--background auto` was asked for. The network is one of rembg's, which is optional (extra
`background`) and downloads its weights at its first use.
"""

import contextlib
import importlib.util
import io
from functools import cache
from typing import Any

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image

from tars3d.errors import UserError, install_extra, reason_of

NETWORK = "u2net"
"""Of rembg's networks. Its default is another one: BRIA RMBG 2.0 as of rembg 2.0.86, a gigabyte of weights whose licence asks
for a paid agreement in commercial use."""
LONGEST_REASON = 150


def segment(rgb: UInt8[np.ndarray, "height width 3"], name: str) -> Bool[np.ndarray, "height width"]:
    """The mask of the salient object of a picture called `name`.

    Raises:
        UserError: rembg is not installed, cannot load its weights, or finds nothing.
    """
    remove, session = _network()
    soft = np.asarray(remove(Image.fromarray(rgb), session=session, only_mask=True).convert("L"))
    found = soft >= 128
    if not found.any() or found.all():
        what = "nothing" if not found.any() else "no background"
        raise UserError(f"{name}: --background auto finds {what} in it; give a mask, or an RGBA cut-out")
    return found


@cache
def _network() -> tuple[Any, Any]:
    """rembg's function and a session of the network."""
    try:
        # Where its own backend is missing, it says so on many lines and ends the program.
        with contextlib.redirect_stdout(io.StringIO()):
            from rembg import new_session, remove  # pyright: ignore[reportMissingImports]
    except (ImportError, SystemExit) as error:
        broken = f", what is installed does not load ({_reason(error)})" if _installed() else ""
        raise UserError(f"--background auto: needs rembg{broken}; give it with {install_extra('background')}") from None
    try:
        return remove, new_session(NETWORK)
    except Exception as error:  # a download: anything may happen
        raise UserError(
            f"--background auto: rembg cannot load its weights {NETWORK}.onnx ({_reason(error)}); check the connection, or give masks"
        ) from error


def _installed() -> bool:
    try:
        return importlib.util.find_spec("rembg") is not None
    except ValueError:  # switched off in sys.modules
        return False


def _reason(error: BaseException) -> str:
    first = reason_of(error)
    return first if len(first) <= LONGEST_REASON else f"{type(error).__name__}: {first[: LONGEST_REASON - 3]}..."
