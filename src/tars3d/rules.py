"""How much each sign counts of which place of one object is the same as which of another, and of where parts end. Light to import, as the command
line shows these defaults.

`correspondence` and `labelling` go by them, and check what is given instead; all were chosen by `tars3d bench correspondence`, on other seeds than the one it reports.
"""

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any

from tars3d.errors import UserError

WEIGHTS = ("feature_weight", "normal_weight", "height_weight")


@dataclass(frozen=True)
class Rule:
    """What `correspond` weighs: see there."""

    feature_weight: float
    """Canonical units that a unit of point feature counts for; 0.1 was chosen on seeds 8 and 9. Features have a scale of their own
    in each model: 0.3 still gains in chairs and loses in airplanes."""
    normal_weight: float
    """Canonical units that a unit of mean normal counts for; 0.2 was chosen on seeds 8 to 10."""
    height_weight: float
    """Canonical units that a unit of levelled height counts for, beside the canonical position; 1.5 was chosen with the normals'."""
    max_distance: float
    """Canonical units (the category's longest side is about 1) beyond which a point has no counterpart."""

    @property
    def weights(self) -> dict[str, float]:
        """The three weights by name."""
        return {name: getattr(self, name) for name in WEIGHTS}

    def changed(self, **given: float | None) -> "Rule":
        """With other weights where these are given; None leaves one as it is."""
        return replace(self, **{name: value for name, value in given.items() if value is not None})


PARTS = Rule(feature_weight=0.1, normal_weight=0.2, height_weight=1.5, max_distance=0.2)
"""Finds the right part most often: for labels and keypoints."""
SMOOTH = Rule(feature_weight=0.0, normal_weight=0.0, height_weight=0.0, max_distance=0.1)
"""Less often the right part, but neighbours stay neighbours: for textures, which normals tear where surfaces are bumpy."""


# Both were chosen on seed 8. The colours' is the exponent of their likeliness, 2 to 5 are alike. Borders get cheaper in creases e times for each
# 1/300 of `geometry.creases.concavity`; 100 to 1000 are alike.
@dataclass(frozen=True)
class BorderRule:
    """What a target itself says about where its parts end."""

    color_weight: float = 3.0
    """how much the target's own colours decide where parts end; 0: not at all."""
    crease_weight: float = 300.0
    """how much concave creases of the target's surface decide where parts end; 0: not at all."""


BORDERS = BorderRule()


def check_weights(weights: Mapping[str, Any]) -> None:
    """Refuse weights that are no finite numbers of 0 or more; None: the usual one."""
    check_distances(weights, most=sys.float_info.max)


def check_distances(distances: Mapping[str, Any], most: float = math.inf) -> None:
    """Refuse distances that are no numbers of 0 or more; inf: no limit, and None: the usual one."""
    for name, value in distances.items():
        if value is not None and not (isinstance(value, Real) and 0 <= float(value) <= most):
            shown = f"{float(value):g}" if isinstance(value, Real) else repr(value)
            raise UserError(f"--{name.replace('_', '-')} {shown}: give a number of 0 or more")
