"""tars3d: one photo of an object to a 3D mesh with dense correspondences."""

from typing import TYPE_CHECKING

__version__ = "0.1.0"
__all__ = ["Correspondence", "Reconstruction", "Reconstructor", "UserError", "correspond", "load"]

if TYPE_CHECKING:
    from tars3d.correspondence import Correspondence, correspond
    from tars3d.errors import UserError
    from tars3d.reconstruct import Reconstruction, Reconstructor, load


def __getattr__(
    name: str,
):  # heavy imports happen at first use, so that `import tars3d` and `tars3d --help` are instant
    if name in {"Reconstruction", "Reconstructor", "load"}:
        from tars3d import reconstruct

        return getattr(reconstruct, name)
    if name in {"Correspondence", "correspond"}:
        from tars3d import correspondence

        return getattr(correspondence, name)
    if name == "UserError":
        from tars3d.errors import UserError

        return UserError
    raise AttributeError(f"module 'tars3d' has no attribute {name!r}")
