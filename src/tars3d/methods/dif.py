"""The paper's single-view analog of DIF (Deng et al., CVPR 2021; §C.2, Table 4): 3D deformation plus sdf correction.

sdf(x) = f(x + Δ(x)) + c(x), with c a scalar head of g. How the paper regularises c is not published. Here:
- the loss is mean |c|, DIF's own term, and its weight is ten times that of the deformation term, DIF's ratio for chairs;
- c starts at zero and stays there while g is pretrained on a sphere, as DIF starts it near zero, so that deformation
  explains what it can before the correction does. At the start, this is DIT.
"""

from typing import ClassVar

from tars3d.config import ModelConfig
from tars3d.methods.tars import TARS


class DIF(TARS):
    """TARS with a correction of the sdf in place of point features."""

    takes_point_features: ClassVar[bool] = False
    correction: ClassVar[bool] = True

    def __init__(self, config: ModelConfig):
        super().__init__(config)
        self.deform_net.head_layer("correction").start_at_zero()
