"""A trained model and what it makes of framed pictures: codes, shapes and their meshes. `reconstruct` takes photos through it."""

import re
import zlib
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8

from tars3d.appearance import SurfaceColors
from tars3d.data.framing import Crop, FramedPicture
from tars3d.data.pictures import Picture
from tars3d.errors import UserError
from tars3d.export import vertex_colors
from tars3d.geometry.isosurface import Isosurface
from tars3d.geometry.pieces import without_specks
from tars3d.geometry.silhouette_fit import CenteredCamera
from tars3d.geometry.simplify import simplified
from tars3d.methods.base import Shape
from tars3d.methods.corrected import CorrectedShape
from tars3d.methods.inference import InferenceModel
from tars3d.methods.mesh import MeshMethod, MeshShape
from tars3d.methods.surface import canonical_coordinates, color_vertices, surface_of
from tars3d.photo.camera import centered_cameras
from tars3d.photo.reconstruction import Reconstruction
from tars3d.photo.symmetry import mirrors
from tars3d.photo.view import frame_picture


class TrainedModel:
    """A trained model, ready for framed pictures.

    Args:
        model: the networks.
        description: what the model file says of itself (category, data, licence, ...).
        device: where it runs.
    """

    def __init__(self, model: InferenceModel | MeshMethod, description: dict[str, Any], device: torch.device):
        self.model = model.to(device).requires_grad_(False)
        self.description = description
        self.device = device

    @property
    def category(self) -> str:
        """What the model was trained on, e.g. `chair`."""
        return str(self.description.get("category", "object"))

    @property
    def symmetric(self) -> bool:
        """Whether its objects mirror at x = 0: as its training was told, or else as its category's name says."""
        told = self.model.config.symmetric
        return mirrors(self.category) if told is None else told

    @cached_property
    def space(self) -> str | None:
        """Names the canonical space: the category and a checksum of its canonical field; None where the model has none.

        Reconstructions correspond only within one space; another model of the same category has another.
        """
        if not self.model.deformed:
            return None
        buffers = [
            self.model.get_buffer(name) for name, _ in self.model.named_buffers() if name.startswith("template_")
        ]
        if isinstance(self.model, MeshMethod):  # what a vertex means follows from all weights
            buffers = [values for values in self.model.state_dict().values() if values.is_floating_point()]
        checksum = 0
        for values in buffers:
            checksum = zlib.crc32(values.float().cpu().numpy().tobytes(), checksum)
        return f"{re.sub('[^A-Za-z0-9_.-]+', '-', self.category)}:{checksum:08x}"

    def map_of(self, found: Reconstruction) -> Float[np.ndarray, "vertices channels"] | None:
        """The canonical map to write beside a mesh; None where positions are just those of the object, which correspond to nothing."""
        return None if self.space is None else found.canonical

    @property
    def predicts_camera(self) -> bool:
        """Whether the model predicts the camera of a picture."""
        return self.model.predicts_camera

    def frame(self, picture: Picture, annotated: Crop | None = None) -> np.ndarray:
        """The picture cropped around its mask, on white, as in training: uint8 [size, size, 3].

        For models that take the mask, it is the fourth channel.

        Args:
            annotated: the square that a collection names for the picture; counts for models that were trained on such squares.
        """
        return self.pixels(self.framed(picture, annotated))

    def framed(self, picture: Picture, annotated: Crop | None = None) -> FramedPicture:
        """As `frame`, with the framed mask and with what was cut out."""
        return frame_picture(picture, self.model.config, annotated)

    def pixels(self, framed: FramedPicture) -> UInt8[np.ndarray, "size size channels"]:
        """A framed picture as the model takes it: on white, with the mask as fourth channel for models that take one."""
        return framed.pixels(with_mask=self.model.takes_mask)

    def images(
        self, framed: UInt8[np.ndarray, "batch size size channels"]
    ) -> Float[torch.Tensor, "batch channels size size"]:
        """Framed pictures as networks take them, in [-1, 1]."""
        images = torch.from_numpy(np.ascontiguousarray(framed)).to(self.device)
        return images.permute(0, 3, 1, 2).float() / 127.5 - 1

    @torch.no_grad()
    def codes(self, framed: UInt8[np.ndarray, "batch size size channels"]) -> Float[torch.Tensor, "batch code"]:
        """Codes of framed pictures (uint8, on white)."""
        return self.model.encode(self.images(framed))

    @torch.no_grad()
    def shapes(self, framed: UInt8[np.ndarray, "batch size size channels"]) -> Shape:
        """Shapes of framed pictures (uint8, on white), as one batch."""
        return self.model.shape(self.codes(framed))

    @torch.no_grad()
    def predicted_camera(self, framed: UInt8[np.ndarray, "size size 3"]) -> CenteredCamera | None:
        """The camera of a framed picture as the model predicts it; None where it predicts none."""
        if not self.predicts_camera:
            return None
        return centered_cameras(self.model.predict_camera(self.images(framed[None])))[0]

    def field_model(self, option: str) -> InferenceModel:
        """The model, as one whose shapes are fields, which can be fitted to a silhouette, and whose canonical places are known anywhere.

        Args:
            option: that asks for it.

        Raises:
            UserError: it decodes meshes.
        """
        if not isinstance(self.model, InferenceModel):
            raise UserError(f"{option}: needs a field; {self.model.config.method} decodes a mesh, leave it out")
        return self.model

    @torch.no_grad()
    def mesh(
        self,
        shape: Shape,
        framed: np.ndarray,
        *,
        resolution: int = 128,
        dense: bool = False,
        faces: int | None = None,
        notes: list[str] | None = None,
    ) -> Reconstruction:
        """Find the surface of a shape (a batch of one), with colours and canonical coordinates at its vertices.

        Args:
            faces: at most; the surface is simplified until it has no more. Not for shapes that are meshes.
        """
        if isinstance(shape, MeshShape):
            shape = shape.painted(framed)
        found = self.surface(shape, resolution, dense=dense)
        if isinstance(shape, CorrectedShape):  # crumbs of what was carved
            found = replace(found, mesh=without_specks(found.mesh))
        if faces is not None:
            found = replace(found, mesh=simplified(found.mesh, faces))
        if not isinstance(shape, MeshShape):
            color_vertices(found.mesh, shape, self.device)
        notes = notes or []
        channels = 3 + self.model.config.point_features
        if len(found.mesh.vertices):
            canonical = canonical_coordinates(shape, found.mesh.vertices, self.device)
        else:
            canonical = np.zeros((0, channels), np.float32)
            notes.append("no surface was found: the mesh is empty")
        if found.reaches_bounds:
            notes.append("the surface reaches the search cube: the mesh is open there")
        return Reconstruction(
            found.mesh, canonical, shape, framed[..., :3], found.evaluations, notes, space=self.space or "",
            colors=SurfaceColors.guessed(vertex_colors(found.mesh)),
        )  # fmt: skip

    def surface(self, shape: Shape, resolution: int, *, dense: bool = False) -> Isosurface:
        """The surface of a shape (a batch of one), without colours.

        Raises:
            UserError: the field is not finite.
        """
        try:
            return surface_of(
                shape, bound=self.model.config.bound, resolution=resolution, device=self.device, dense=dense, colored=False
            )  # fmt: skip
        except FloatingPointError as error:
            raise UserError(
                f"the model gives no shape for this picture: {error}; was it trained to the end?"
            ) from error
