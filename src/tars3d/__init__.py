"""tars3d: one photo of an object to a 3D mesh with dense correspondences."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Correspondence", "Reconstruction", "Reconstructor", "UserError", "correspond", "load"]

if TYPE_CHECKING:
    from tars3d.correspondence import Correspondence, correspond
    from tars3d.errors import UserError
    from tars3d.reconstruct import Reconstruction, Reconstructor, load


_HOMES = {
    "Correspondence": "correspondence",
    "correspond": "correspondence",
    "Reconstruction": "reconstruct",
    "Reconstructor": "reconstruct",
    "load": "reconstruct",
    "UserError": "errors",
}
"""The module of each public name."""


def __getattr__(name: str) -> Any:
    """Public names are imported at first use, so that `import tars3d` and `tars3d --help` are instant."""
    if name not in _HOMES:
        raise AttributeError(f"module 'tars3d' has no attribute {name!r}")
    return getattr(import_module(f"tars3d.{_HOMES[name]}"), name)
