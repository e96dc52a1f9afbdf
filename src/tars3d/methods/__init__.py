"""Every system by name. A method is a file that says what differs."""

from typing import TYPE_CHECKING

from tars3d.config import ModelConfig
from tars3d.errors import UserError

if TYPE_CHECKING:
    from tars3d.methods.tars import TARS


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
        raise UserError(f"--method {name}: no such method; choose one of {', '.join(classes)}")
    return classes[name]


def build_method(config: ModelConfig) -> "TARS":
    """The untrained networks of a configuration.

    Raises:
        UserError: its method is unknown, or does not go with its other settings.
    """
    return method_class(config.method)(config)
