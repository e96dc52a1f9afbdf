"""Procedural chairs, cars and airplanes: watertight, labelled, posed alike. Used by rendering and tests.

`make_object` is the whole surface; each category has a module of its own.
"""

from tars3d.data.procedural.airplane import make_airplane
from tars3d.data.procedural.assembly import LabelledMesh
from tars3d.data.procedural.car import make_car
from tars3d.data.procedural.chair import make_chair
from tars3d.errors import UserError

__all__ = ["CATEGORIES", "LabelledMesh", "make_object"]

_MAKERS = {"chair": make_chair, "car": make_car, "airplane": make_airplane}
CATEGORIES = tuple(_MAKERS)


def make_object(category: str, seed: int) -> LabelledMesh:
    """One object of a category ("chair", "car" or "airplane"); a seed (0 or more) always gives the same one.

    The mesh is watertight, its bounding-box centre is the origin, its longest side is 1; Y is up and the
    front faces -Z.

    Raises:
        UserError: another category, or a negative seed.
    """
    if category not in _MAKERS:
        raise UserError(f"{category}: not a procedural category; choose one of {', '.join(CATEGORIES)}")
    if seed < 0:
        raise UserError(f"{category}: seed {seed} is negative; give 0 or more")
    return _MAKERS[category](seed)
