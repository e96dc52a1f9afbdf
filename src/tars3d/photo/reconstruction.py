"""What a picture, or several of one object, becomes: mesh, canonical coordinates, fields, camera. `reconstruct` makes it."""

from dataclasses import dataclass, field

import numpy as np
import trimesh
from jaxtyping import Float

from tars3d.appearance import SurfaceColors
from tars3d.methods.base import Shape
from tars3d.photo.camera import PhotoCamera


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """The object of a picture, or of several.

    Attributes:
        mesh: object frame, vertex colours (sRGB bytes); empty where the model sees no surface.
        canonical: canonical position of each vertex, then its k point features.
        shape: the fields themselves, a batch of one: `shape.sdf(points[None])` at any points, any time; float32 on the model's
            device (`Reconstructor.device`).
        framed: the first picture as the model saw it, on white.
        evaluations: how often the field was evaluated for the mesh.
        notes: what the user should know, e.g. that the mask was found automatically.
        cameras: one a picture, fitted by its silhouette; empty where they were not asked for.
        colors: those of the vertices before they were rounded, and which of them the pictures show; None where the mesh has none.
        space: names the canonical space (`Reconstructor.space`); reconstructions correspond within one. Empty where the model has none.
    """

    mesh: trimesh.Trimesh
    canonical: Float[np.ndarray, "vertices channels"]
    shape: Shape
    framed: np.ndarray
    evaluations: int
    notes: list[str] = field(default_factory=list)
    cameras: tuple[PhotoCamera, ...] = ()
    space: str | None = None
    colors: SurfaceColors | None = None

    @property
    def camera(self) -> PhotoCamera | None:
        """Of the first picture; None where it was not asked for."""
        return self.cameras[0] if self.cameras else None
