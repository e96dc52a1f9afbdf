"""The paper's single-view analog of DIT (Zheng et al., CVPR 2021; §C.2, Table 4): a 3D deformation and nothing else.

sdf(x) = f(x + Δ(x)). Everything else is TARS: pictures alone supervise it, through the same curriculum. The paper does not
say how point features were switched off; here f, g and u are built without them. "TARS without point features" of
Table 2 is the same network.
"""

from typing import ClassVar

from tars3d.methods.tars import TARS


class DIT(TARS):
    """TARS whose canonical space has three dimensions."""

    takes_point_features: ClassVar[bool] = False
