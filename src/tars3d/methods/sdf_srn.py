"""SDF-SRN (Lin et al., NeurIPS 2020): stage 1 of TARS without point features.

Its own schedule is `published_presets.published_sdf_srn`. There is no canonical space: each object has a field of its
own over object space, `canonical` returns the points as they are, and correspondences between objects are by position
alone.
"""

from typing import ClassVar

from tars3d.methods.tars import TARS


class SDFSRN(TARS):
    """`encoder`, `generator` and `marcher` only."""

    has_canonical_space: ClassVar[bool] = False
    takes_point_features: ClassVar[bool] = False
