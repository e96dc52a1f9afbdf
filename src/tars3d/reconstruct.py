"""One photo in, one mesh out: `load` a model, `reconstruct` pictures. Imports nothing of training.

The mesh comes in the object frame: Y up, centred, longest side about 1, front towards -Z.
"""

import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
import trimesh

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
from tars3d.geometry.silhouette_fit import CenteredCamera
from tars3d.methods.base import Shape
from tars3d.methods.corrected import CorrectedShape
from tars3d.methods.inference import InferenceModel, inference_model
from tars3d.photo.camera import PhotoCamera, centered_camera, find_camera, refitted, silhouette_iou
from tars3d.photo.cut_off import Extent, find_extent
from tars3d.photo.fitting import RefinedPicture, refine_picture
from tars3d.photo.outline import LEFT_AS_PREDICTED, Outlined, fit_outline
from tars3d.photo.reconstruction import Reconstruction
from tars3d.photo.view import view_picture
from tars3d.trained_model import TrainedModel
from tars3d.weights import load_model, locate_model

DRAFT_RESOLUTION = 48
"""Of the meshes that only cameras are fitted with, for `refine` and for pictures that cut their object off."""
CAMERA_RESOLUTION = 64
"""Of the mesh that the picture's camera is found with, so that it does not depend on the resolution that is asked for."""


class Reconstructor(TrainedModel):
    """A trained model, ready for photos."""

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
            code, cameras = self.model.encode_with_cameras(self.images(self.pixels(framed)[None]))
            assert cameras is not None  # it predicts them
            return self.surface(self.model.shape(code), DRAFT_RESOLUTION).mesh, centered_camera(cameras)

        return find_extent(picture, sides, config.padding, config.picture_size, draft, seed=seed)

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
        code, predicted = self.model.encode_with_cameras(self.images(framed[None]))
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
            mesh = self.surface(shape, cells).mesh
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
