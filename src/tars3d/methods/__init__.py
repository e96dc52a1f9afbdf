"""Every system by name. A method is a file that says what differs."""

from typing import TYPE_CHECKING, Literal

from tars3d.config import ModelConfig
from tars3d.errors import UserError

if TYPE_CHECKING:
    from tars3d.methods.base import Method
    from tars3d.methods.mesh import MeshMethod
    from tars3d.methods.tars import TARS

MethodName = Literal["tars", "sdf-srn", "dit", "dif", "softras", "cmr"]
MESH_METHODS = ("softras", "cmr")
"""Systems that deform a template mesh instead of a field."""


def method_class(name: str) -> "type[TARS]":
    """The class of an implicit system by its name.

    Raises:
        UserError: there is none of that name.
    """
    from tars3d.methods.dif import DIF
    from tars3d.methods.dit import DIT
    from tars3d.methods.sdf_srn import SDFSRN
    from tars3d.methods.tars import TARS

    classes: dict[str, type[TARS]] = {"tars": TARS, "sdf-srn": SDFSRN, "dit": DIT, "dif": DIF}
    if name not in classes:
        raise UserError(f"--method {name}: no such method; choose one of {', '.join((*classes, *MESH_METHODS))}")
    return classes[name]


def mesh_method_class(name: str) -> "type[MeshMethod]":
    """The class of a mesh system, one of `MESH_METHODS`."""
    from tars3d.methods.cmr import CMR
    from tars3d.methods.softras import SoftRas

    return {"softras": SoftRas, "cmr": CMR}[name]


def build_method(config: ModelConfig) -> "Method":
    """The untrained networks of a configuration.

    Raises:
        UserError: its method is unknown, or does not go with its other settings.
    """
    if config.method in MESH_METHODS:
        return mesh_method_class(config.method)(config)
    return method_class(config.method)(config)
