"""Every system by name. A method is a file that says what differs."""

from typing import TYPE_CHECKING

from tars3d.config import ModelConfig
from tars3d.errors import UserError

if TYPE_CHECKING:
    from tars3d.methods.tars import TARS


def build_method(config: ModelConfig) -> "TARS":
    """The untrained networks of a configuration.

    Raises:
        UserError: its method is unknown.
    """
    if config.method == "tars":
        from tars3d.methods.tars import TARS

        return TARS(config)
    raise UserError(f"{config.method}: no such method; choose one of tars")
