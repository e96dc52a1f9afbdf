"""`--refine` for a picture whose camera nobody knows: the camera is fitted to a draft of the mesh, then the code to the silhouette.

`Reconstructor.reconstruct` calls `refine_picture`; the steps themselves are in `refine`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import trimesh
from jaxtyping import Float
from torch import Tensor

from tars3d.data.framing import FramedPicture
from tars3d.geometry.silhouette_fit import CenteredCamera
from tars3d.methods.inference import InferenceModel
from tars3d.photo.camera import PhotoCamera, camera_batch, find_camera, silhouette_iou
from tars3d.photo.refine import refine_code


@dataclass(frozen=True)
class RefinedPicture:
    """What refining came to.

    Attributes:
        code: the refined one, or the encoder's where refining did not help.
        camera: fitted to the draft of the encoder's code.
        after: overlap of the silhouettes of the refined draft and the picture, 0 to 1.
        steps: that were taken.
    """

    code: Float[Tensor, "1 code"]
    camera: PhotoCamera
    after: float
    steps: int

    @property
    def kept(self) -> bool:
        """Whether silhouettes overlap more than before. Where even the outline gets worse, camera or model do not fit this
        object, and the shape suffers."""
        return self.after > self.camera.iou

    def sentence(self, final: float) -> str:
        """For the user; `final` is the overlap of the mesh's silhouette."""
        before = self.camera.iou
        if not self.kept:
            return f"not refined: silhouettes overlap by {before:.2f} without and {self.after:.2f} with it"
        return f"refined in {self.steps} steps: silhouettes overlap by {before:.2f} before, {final:.2f} after"


def refine_picture(
    model: InferenceModel,
    code: Float[Tensor, "1 code"],
    picture: FramedPicture,
    predicted: CenteredCamera | None,
    draft: Callable[[Float[Tensor, "1 code"]], trimesh.Trimesh],
    steps: int,
    *,
    search: bool,
    seed: int = 0,
    advance: Callable[[int], None] | None = None,
) -> RefinedPicture | None:
    """The code fitted to the picture's silhouette; None where the code's draft has no surface to find a camera with.

    Args:
        code: as the encoder gave it.
        predicted, search, seed: as in `camera.find_camera`.
        draft: a coarse mesh of a code, object frame.
        advance: called with the number of each step.
    """
    mesh = draft(code)
    if not len(mesh.faces):
        return None
    camera = find_camera(mesh, picture, predicted, search=search, seed=seed)
    cameras = camera_batch(camera.framed, code.device)
    moved = refine_code(model, code, cameras, picture.mask, steps, seen=picture.seen, seed=seed, advance=advance)
    found = RefinedPicture(
        moved, camera, silhouette_iou(draft(moved), camera.framed, picture.mask, picture.seen), steps
    )
    return found if found.kept else RefinedPicture(code, camera, found.after, steps)
