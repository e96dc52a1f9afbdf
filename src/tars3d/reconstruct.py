"""One photo in, one mesh out: `load` a model, `reconstruct` pictures. Imports nothing of training.

The mesh comes in the object frame: Y up, centred, longest side about 1, front towards -Z.
"""

import os
import re
import zlib
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
import trimesh
from jaxtyping import Float, UInt8

from tars3d.arguments import (
    Background,
    CameraMode,
    OutlineMode,
    check_choice,
    check_outline,
    check_refine,
    check_resolution,
    check_seed,
    choose_device,
)
from tars3d.data.framing import Crop, FramedPicture, Side
from tars3d.data.pictures import Picture, as_picture
from tars3d.errors import UserError
from tars3d.geometry.isosurface import Isosurface, without_specks
from tars3d.geometry.silhouette_fit import CenteredCamera
from tars3d.methods.base import Shape
from tars3d.methods.corrected import CorrectedShape
from tars3d.methods.inference import InferenceModel, inference_model
from tars3d.methods.mesh import MeshMethod, MeshShape
from tars3d.methods.surface import canonical_coordinates, surface_of
from tars3d.photo.camera import PhotoCamera, centered_camera, find_camera, refitted, silhouette_iou
from tars3d.photo.cut_off import Extent, find_extent
from tars3d.photo.fitting import RefinedPicture, refine_picture
from tars3d.photo.outline import LEFT_AS_PREDICTED, Outlined, fit_outline
from tars3d.photo.reconstruction import Reconstruction
from tars3d.photo.symmetry import mirrors
from tars3d.photo.view import frame_picture, view_picture
from tars3d.weights import load_model, locate_model

DRAFT_RESOLUTION = 48
"""Of the meshes that only cameras are fitted with, for `refine` and for pictures that cut their object off."""
CAMERA_RESOLUTION = 64
"""Of the mesh that the picture's camera is found with, so that it does not depend on the resolution that is asked for."""


class Reconstructor:
    """A trained model, ready for pictures.

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

    def view(
        self, picture: Picture, annotated: Crop | None = None, *, uncut: bool = True, seed: int = 0
    ) -> tuple[FramedPicture, list[str]]:
        """As `framed`; a picture that may cut its object off as far out as that seems to go on. And what the user should know of it.

        Args:
            uncut: False frames every picture by what it shows.
            seed: see `uncut`.
        """
        return view_picture(
            picture, self.model.config, annotated, partial(self.uncut, picture, seed=seed) if uncut else None
        )

    def pixels(self, framed: FramedPicture) -> UInt8[np.ndarray, "size size channels"]:
        """A framed picture as the model takes it: on white, with the mask as fourth channel for models that take one."""
        return framed.pixels(with_mask=self.model.takes_mask)

    @torch.no_grad()
    def uncut(self, picture: Picture, sides: tuple[Side, ...], *, seed: int = 0) -> Extent | None:
        """A picture framed by how far its object seems to go on beyond `sides`; None where the model predicts no camera to tell by.

        Args:
            seed: of the points that cameras are fitted with.
        """
        if not self.predicts_camera:
            return None
        config = self.model.config

        def draft(framed: FramedPicture) -> tuple[trimesh.Trimesh, CenteredCamera]:
            code, cameras = self.model.encode_with_cameras(self._images(self.pixels(framed)[None]))
            assert cameras is not None  # it predicts them
            return self._surface(self.model.shape(code), DRAFT_RESOLUTION).mesh, centered_camera(cameras)

        return find_extent(picture, sides, config.padding, config.picture_size, draft, seed=seed)

    @torch.no_grad()
    def codes(self, framed: UInt8[np.ndarray, "batch size size channels"]) -> Float[torch.Tensor, "batch code"]:
        """Codes of framed pictures (uint8, on white)."""
        return self.model.encode(self._images(framed))

    @torch.no_grad()
    def shapes(self, framed: UInt8[np.ndarray, "batch size size channels"]) -> Shape:
        """Shapes of framed pictures (uint8, on white), as one batch."""
        return self.model.shape(self.codes(framed))

    @property
    def predicts_camera(self) -> bool:
        """Whether the model predicts the camera of a picture."""
        return self.model.predicts_camera

    def reconstruct(
        self,
        image: Any,
        mask: Any = None,
        *,
        resolution: int = 128,
        dense: bool = False,
        camera: CameraMode = "auto",
        outline: OutlineMode = "auto",
        refine: int = 0,
        seed: int = 0,
        advance: Callable[[int], None] | None = None,
        background: Background = "white",
    ) -> Reconstruction:
        """Reconstruct one picture.

        Args:
            image: path, PIL image, numpy array or tensor; RGBA, RGB with `mask`, or RGB on a plain background.
            mask: path, PIL image or array of the picture's size; the object is what is above 127 of 255 (of two values:
                the higher).
            resolution: cells of the search grid along each axis.
            dense: evaluate every grid point instead of coarse to fine.
            camera: `auto` fits the camera that the model predicts, if it predicts one; `search` also starts from cameras all
                around; `none` leaves it. Where the picture may cut the object off, a predicted camera also tells how far it goes on (`uncut`).
            outline: `auto` bends the shape to the picture's outline (`photo.outline`) where there is a camera, unless shapes of the category are
                nearer the truth as predicted; `always` in any category, with a camera that is searched if none is predicted; `none` leaves it.
            refine: steps in which the shape code is fitted to the silhouette; needs a camera, searched if none is predicted.
                The code stays as it was where silhouettes overlap less afterwards; `notes` says so.
            seed: of the points and rays of those fits.
            advance: called with the number of each refining step.
            background: how the object is told where there is neither mask nor alpha, see `Background`.

        Raises:
            UserError: the picture or the mask cannot be used, or the resolution or the number of steps does not fit.
        """
        return self.reconstruct_picture(
            as_picture(image, mask, background=background), resolution=resolution, dense=dense, camera=camera, outline=outline, refine=refine,
            seed=seed, advance=advance,
        )  # fmt: skip

    @torch.no_grad()
    def reconstruct_picture(
        self,
        picture: Picture,
        *,
        resolution: int = 128,
        dense: bool = False,
        camera: CameraMode = "auto",
        outline: OutlineMode = "auto",
        refine: int = 0,
        seed: int = 0,
        advance: Callable[[int], None] | None = None,
        annotated: Crop | None = None,
        uncut: bool | None = None,
    ) -> Reconstruction:
        """As `reconstruct`, of a picture that was read already.

        Args:
            annotated: as in `frame`.
            uncut: as in `view`; None: where a camera is asked for.
        """
        check_resolution(resolution)
        check_choice(CameraMode, camera=camera)
        check_outline(outline, camera)
        check_refine(refine, camera)
        check_seed(seed)
        model = self.model
        if outline == "always":
            self.field_model("--outline")
        seen, said = self.view(picture, annotated, uncut=camera != "none" if uncut is None else uncut, seed=seed)
        notes = [*picture.notes, *said]
        framed = self.pixels(seen)
        code, predicted = self.model.encode_with_cameras(self._images(framed[None]))
        start = None if predicted is None or camera == "none" else centered_camera(predicted)
        search = camera == "search" or (start is None and (refine > 0 or outline == "always"))
        refined = None
        if refine:

            def draft(moved: torch.Tensor) -> trimesh.Trimesh:
                return self.mesh(model.shape(moved), framed, resolution=min(resolution, DRAFT_RESOLUTION)).mesh

            refined = refine_picture(
                self.field_model("--refine"),
                code,
                seen,
                start,
                draft,
                refine,
                search=search,
                seed=seed,
                advance=advance,
            )
            code = code if refined is None else refined.code
        shape = model.shape(code)
        found = self._camera(shape, seen, start, refined, search=search, resolution=resolution, seed=seed)
        bends = outline == "always" or (outline == "auto" and self.category.lower() not in LEFT_AS_PREDICTED)
        if bends and found is not None and isinstance(model, InferenceModel):
            bent = self.bent(shape, found.framed, seen, seed=seed)
            shape, found = bent.shape, found.moved(bent.camera, seen)
        result = self.mesh(shape, framed, notes=notes, resolution=resolution, dense=dense)
        if not len(result.mesh.faces):
            return result
        if refined is not None and found is not None:
            result.notes.append(refined.sentence(found.iou))
        elif refine:
            result.notes.append("not refined: the coarse mesh that the camera is found with is empty")
        if found is not None:
            overlap = silhouette_iou(result.mesh, found.framed, seen.mask, seen.seen)
            was_bent = isinstance(shape, CorrectedShape)
            found = replace(found, outline_iou=overlap) if was_bent else replace(found, iou=overlap)
            result.notes.append(found.sentence())
        return replace(result, camera=found)

    def _camera(
        self,
        shape: Shape,
        seen: FramedPicture,
        start: CenteredCamera | None,
        refined: RefinedPicture | None,
        *,
        search: bool,
        resolution: int,
        seed: int,
    ) -> PhotoCamera | None:
        """The camera of a picture, by a draft of its shape; None where none is asked for, or nothing has a surface."""
        if start is None and not search:
            return None
        for cells in (min(resolution, CAMERA_RESOLUTION), resolution):  # the second for what is too thin for the first
            mesh = self._surface(shape, cells).mesh
            if len(mesh.faces) and refined is not None:
                return refitted(refined.camera, mesh, seen, seed=seed)
            if len(mesh.faces):
                return find_camera(mesh, seen, start, search=search, seed=seed)
        return None

    def bent(self, shape: Shape, camera: CenteredCamera, seen: FramedPicture, *, seed: int = 0) -> Outlined:
        """A shape (a batch of one) bent to the outline of a framed picture, seen by this camera or one close by.

        Args:
            seed: of the places along the rays that are looked at.

        Raises:
            UserError: the model decodes meshes.
        """
        model = self.field_model("--outline")
        return fit_outline(
            shape, camera, seen.mask, model.config.bound, seen=seen.seen, mirrored=self.symmetric, seed=seed, device=self.device
        )  # fmt: skip

    @torch.no_grad()
    def predicted_camera(self, framed: UInt8[np.ndarray, "size size 3"]) -> CenteredCamera | None:
        """The camera of a framed picture as the model predicts it; None where it predicts none."""
        if not self.predicts_camera:
            return None
        return centered_camera(self.model.predict_camera(self._images(framed[None])))

    def _images(
        self, framed: UInt8[np.ndarray, "batch size size channels"]
    ) -> Float[torch.Tensor, "batch channels size size"]:
        """Framed pictures as networks take them, in [-1, 1]."""
        images = torch.from_numpy(np.ascontiguousarray(framed)).to(self.device)
        return images.permute(0, 3, 1, 2).float() / 127.5 - 1

    def field_model(self, option: str) -> InferenceModel:
        """The model, as one whose fields can be fitted to a silhouette.

        Args:
            option: that asks for it.

        Raises:
            UserError: it decodes meshes.
        """
        if not isinstance(self.model, InferenceModel):
            raise UserError(f"{option}: fits a field; {self.model.config.method} decodes a mesh, leave it out")
        return self.model

    @torch.no_grad()
    def mesh(
        self,
        shape: Shape,
        framed: np.ndarray,
        *,
        resolution: int = 128,
        dense: bool = False,
        notes: list[str] | None = None,
    ) -> Reconstruction:
        """Find the surface of a shape (a batch of one), with colours and canonical coordinates at its vertices."""
        if isinstance(shape, MeshShape):
            shape = shape.painted(framed)
        found = self._surface(shape, resolution, dense=dense)
        if isinstance(shape, CorrectedShape):  # crumbs of what was carved
            found = replace(found, mesh=without_specks(found.mesh))
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
            found.mesh, canonical, shape, framed[..., :3], found.evaluations, notes, space=self.space or ""
        )

    def _surface(self, shape: Shape, resolution: int, *, dense: bool = False) -> Isosurface:
        try:
            return surface_of(
                shape, bound=self.model.config.bound, resolution=resolution, device=self.device, dense=dense
            )
        except FloatingPointError as error:
            raise UserError(
                f"the model gives no shape for this picture: {error}; was it trained to the end?"
            ) from error


def load(model: str | os.PathLike = "chair", *, device: str = "auto") -> Reconstructor:
    """A model by name ("chair", shipped with the package), run directory, .safetensors file or hub id ("owner/name").

    Raises:
        UserError: there is nothing there, or it is no model of tars3d.
    """
    path = locate_model(model)
    tensors, config, description = load_model(path)
    # Layers begin with random weights; the caller's random numbers stay what they are.
    with torch.random.fork_rng(devices=[]):
        found = inference_model(tensors, config, str(path))
    return Reconstructor(found, description, choose_device(device))


def load_deformed(model: str | os.PathLike, *, device: str = "auto") -> Reconstructor:
    """As `load`, a model whose reconstructions have places in a canonical space.

    Raises:
        UserError: it has none; see also `load`.
    """
    found = load(model, device=device)
    if not found.model.deformed:
        raise UserError(f"{model}: has no canonical space, it ended in stage 1 or is sdf-srn; give another --model")
    return found
