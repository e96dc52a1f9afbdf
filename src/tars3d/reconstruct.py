"""One photo in, one mesh out: `load` a model, `reconstruct` pictures. Imports nothing of training.

The mesh comes in the object frame: Y up, centred, longest side about 1, front towards -Z.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
import trimesh

from tars3d.arguments import (
    FEWEST_FACES,
    Background,
    CameraMode,
    ColorMode,
    OutlineMode,
    check_at_least,
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
from tars3d.geometry.pieces import without_specks
from tars3d.geometry.silhouette_fit import CenteredCamera, turn_between
from tars3d.methods.base import Shape
from tars3d.methods.corrected import CorrectedShape
from tars3d.methods.inference import InferenceModel, inference_model
from tars3d.photo.camera import PhotoCamera, centered_cameras, find_camera, refitted, silhouette_iou
from tars3d.photo.colors import in_photo_colors
from tars3d.photo.cut_off import Extent, find_extent
from tars3d.photo.fitting import RefinedPicture, refine_picture
from tars3d.photo.joining import joined
from tars3d.photo.outline import Outlined, OutlineSettings, SeenOutline, fit_outline, on_grid
from tars3d.photo.reconstruction import Reconstruction
from tars3d.photo.together import ELSEWHERE, SEVERAL, STIFF, agreed_cameras
from tars3d.photo.view import view_picture
from tars3d.trained_model import TrainedModel
from tars3d.weights import load_model, locate_model

DRAFT_RESOLUTION = 48
"""Of the meshes that only cameras are fitted with, for `refine` and for pictures that cut their object off."""
CAMERA_RESOLUTION = 64
"""Of the mesh that the picture's camera is found with, so that it does not depend on the resolution that is asked for."""
JOINING_RESOLUTION = 96
"""Of the mesh whose pieces are joined."""


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
            return self.surface(self.model.shape(code), DRAFT_RESOLUTION).mesh, centered_cameras(cameras)[0]

        return find_extent(picture, sides, config.padding, config.picture_size, draft, seed=seed)

    def reconstruct(
        self,
        image: Any,
        mask: Any = None,
        *,
        resolution: int = 128,
        dense: bool = False,
        faces: int | None = None,
        camera: CameraMode = "auto",
        outline: OutlineMode = "auto",
        colors: ColorMode = "photo",
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
            faces: of the mesh at most, which is simplified until it has no more; None: as many as the grid gives.
            camera: `auto` fits the camera that the model predicts, if it predicts one; `search` also starts from cameras all
                around; `none` leaves it. Where the picture may cut the object off, a predicted camera also tells how far it goes on (`uncut`).
            outline: `auto` bends the shape to the picture's outline (`photo.outline`) where there is a camera; `always` also searches one if
                none is predicted; `none` leaves it.
            colors: of the vertices: `photo` takes the picture's as far as its camera sees them, if that camera is to be trusted, then those of
                the mirrored side of symmetric objects, and the model's elsewhere (`photo.texture`); `model` the model's everywhere.
            refine: steps in which the shape code is fitted to the silhouette; needs a camera, searched if none is predicted.
                The code stays as it was where silhouettes overlap less afterwards; `notes` says so.
            seed: of the points and rays of those fits.
            advance: called with the number of each refining step.
            background: how the object is told where there is neither mask nor alpha, see `Background`.

        Raises:
            UserError: the picture or the mask cannot be used, or the resolution or the number of steps does not fit.
        """
        return self.reconstruct_pictures(
            [as_picture(image, mask, background=background)], resolution=resolution, dense=dense, faces=faces, camera=camera, outline=outline, colors=colors,
            refine=refine, seed=seed, advance=advance,
        )  # fmt: skip

    def reconstruct_together(
        self,
        images: Sequence[Any],
        masks: Sequence[Any] | None = None,
        *,
        resolution: int = 128,
        dense: bool = False,
        faces: int | None = None,
        camera: CameraMode = "auto",
        outline: OutlineMode = "auto",
        colors: ColorMode = "photo",
        seed: int = 0,
        background: Background = "white",
    ) -> Reconstruction:
        """Reconstruct one object from several pictures of it, taken from anywhere.

        Its code is the mean of theirs, and its shape is bent to all their outlines.

        Args:
            images: each as `reconstruct` takes one, in any order.
            masks: one an image; None: of none.

        The other arguments are those of `reconstruct`, as are the errors.

        Raises:
            UserError: there is no picture, or not one mask for each.
        """
        masks = [None] * len(images) if masks is None else masks
        if len(masks) != len(images):
            raise UserError(
                f"masks: {len(masks)} of {len(images)} pictures; give one for each, None where a picture has its own"
            )
        pictures = [
            as_picture(image, mask, background=background, name=f"image {number}")
            for number, (image, mask) in enumerate(zip(images, masks, strict=True), 1)
        ]
        return self.reconstruct_pictures(
            pictures,
            resolution=resolution,
            dense=dense,
            faces=faces,
            camera=camera,
            outline=outline,
            colors=colors,
            seed=seed,
        )

    @torch.no_grad()
    def reconstruct_pictures(
        self,
        pictures: Sequence[Picture],
        *,
        resolution: int = 128,
        dense: bool = False,
        faces: int | None = None,
        camera: CameraMode = "auto",
        outline: OutlineMode = "auto",
        colors: ColorMode = "photo",
        refine: int = 0,
        seed: int = 0,
        advance: Callable[[int], None] | None = None,
        annotated: Sequence[Crop | None] | None = None,
        uncut: bool | None = None,
    ) -> Reconstruction:
        """As `reconstruct` and `reconstruct_together`, of pictures that were read already: one of an object, or several.

        Args:
            annotated: as in `frame`, one a picture.
            uncut: as in `view`; None: where a camera is asked for.
        """
        check_resolution(resolution)
        check_at_least(FEWEST_FACES, faces=faces)
        check_choice(CameraMode, camera=camera)
        check_outline(outline, camera)
        check_choice(ColorMode, colors=colors)
        check_refine(refine, camera, pictures=len(pictures))
        check_seed(seed)
        if not pictures:
            raise UserError("reconstruct: no picture given; give at least one")
        model = self.model
        for option, asked in (("--outline", outline == "always"), ("--faces", faces is not None)):
            if asked:
                self.field_model(option)
        uncut = camera != "none" if uncut is None else uncut
        crops = annotated or [None] * len(pictures)
        seen, said = zip(
            *(self.view(*pair, uncut=uncut, seed=seed) for pair in zip(pictures, crops, strict=True)), strict=True
        )
        notes = _named(pictures, [[*picture.notes, *more] for picture, more in zip(pictures, said, strict=True)])
        framed = np.stack([self.pixels(view) for view in seen])
        codes, predicted = model.encode_with_cameras(self.images(framed))
        code = codes.mean(dim=0, keepdim=True)
        starts = [None] * len(seen) if predicted is None or camera == "none" else centered_cameras(predicted)
        search = camera == "search" or (starts[0] is None and (refine > 0 or outline == "always"))
        refined = None
        if refine:

            def draft(moved: torch.Tensor) -> trimesh.Trimesh:
                return self.mesh(model.shape(moved), framed[0], resolution=min(resolution, DRAFT_RESOLUTION)).mesh

            refined = refine_picture(
                self.field_model("--refine"),
                code,
                seen[0],
                starts[0],
                draft,
                refine,
                search=search,
                seed=seed,
                advance=advance,
            )
            code = code if refined is None else refined.code
        shape = model.shape(code)
        found = self._cameras(shape, seen, starts, refined, search=search, resolution=resolution, seed=seed)
        if outline != "none" and found and isinstance(model, InferenceModel):
            bent = self.bent(shape, [one.framed for one in found], seen, seed=seed)
            found = [self._moved(shape, one, to, view) for one, to, view in zip(found, bent.cameras, seen, strict=True)]
            shape = bent.shape
        result = self.mesh(shape, framed[0], notes=notes, resolution=resolution, dense=dense, faces=faces)
        if not len(result.mesh.faces):
            return result
        if refined is not None and found:
            result.notes.append(refined.sentence(found[0].iou))
        elif refine:
            result.notes.append("not refined: the coarse mesh that the camera is found with is empty")
        measured = "outline_iou" if isinstance(shape, CorrectedShape) else "iou"
        cameras = tuple(
            replace(one, **{measured: silhouette_iou(result.mesh, one.framed, view.mask, view.seen)})
            for one, view in zip(found, seen, strict=False)  # no cameras, or one for each
        )
        result.notes.extend(_named(pictures, [[one.sentence()] for one in cameras]))
        result = replace(result, cameras=cameras)
        return in_photo_colors(pictures, result, self.symmetric, self.device) if colors == "photo" else result

    def _cameras(
        self,
        shape: Shape,
        seen: Sequence[FramedPicture],
        starts: Sequence[CenteredCamera | None],
        refined: RefinedPicture | None,
        *,
        search: bool,
        resolution: int,
        seed: int,
    ) -> list[PhotoCamera]:
        """The cameras of pictures, by a draft of their shape; none where none are asked for, or nothing has a surface."""
        if starts[0] is None and not search:
            return []
        for cells in (min(resolution, CAMERA_RESOLUTION), resolution):  # the second for what is too thin for the first
            mesh = self.surface(shape, cells).mesh
            if len(mesh.faces) and refined is not None:
                return [refitted(refined.camera, mesh, seen[0], seed=seed)]
            if len(mesh.faces):
                return [
                    find_camera(mesh, view, start, search=search, seed=seed)
                    for view, start in zip(seen, starts, strict=True)
                ]
        return []

    def _moved(self, shape: Shape, camera: PhotoCamera, to: CenteredCamera, view: FramedPicture) -> PhotoCamera:
        """A camera that moved while the shape was bent; one that the other pictures put elsewhere is judged anew on the shape as predicted."""
        if turn_between(camera.framed.rotation, to.rotation) < ELSEWHERE:
            return camera.moved(to, view)
        mesh = self.surface(shape, CAMERA_RESOLUTION).mesh
        return PhotoCamera.of(to, view, "searched", silhouette_iou(mesh, to, view.mask, view.seen), None)

    def bent(
        self,
        shape: Shape,
        cameras: Sequence[CenteredCamera],
        seen: Sequence[FramedPicture],
        *,
        seed: int = 0,
        agree: bool = True,
    ) -> Outlined:
        """A shape (a batch of one) bent to the outlines of framed pictures, seen by these cameras or some close by.

        Args:
            seed: of the places along the rays that are looked at.
            agree: bring the cameras of several pictures together first, as each was found for itself.

        Raises:
            UserError: the model decodes meshes.
        """
        bound = self.field_model("--outline").config.bound
        usual = OutlineSettings() if len(seen) == 1 else SEVERAL
        level = on_grid(shape, usual.cells, bound, usual.reach, self.device)

        def bend(
            cameras: Sequence[CenteredCamera], seen: Sequence[FramedPicture], settings: OutlineSettings
        ) -> Outlined:
            outlines = [SeenOutline(camera, view.mask, view.seen) for camera, view in zip(cameras, seen, strict=True)]
            return fit_outline(
                shape, outlines, bound, mirrored=self.symmetric, seed=seed, device=self.device, settings=settings, level=level
            )  # fmt: skip

        def draft(bent: Shape) -> trimesh.Trimesh:
            return without_specks(self.surface(bent, CAMERA_RESOLUTION).mesh)

        if agree and len(seen) > 1:
            cameras = agreed_cameras(seen, cameras, partial(bend, settings=STIFF), draft, seed=seed)
        found = bend(cameras, seen, usual)
        mesh = self.surface(found.shape, JOINING_RESOLUTION).mesh
        outlines = [SeenOutline(one, view.mask, view.seen) for one, view in zip(found.cameras, seen, strict=True)]
        return replace(found, shape=joined(found.shape, mesh, outlines, mirrored=self.symmetric))


def _named(pictures: Sequence[Picture], notes: Sequence[Sequence[str]]) -> list[str]:
    """Notes of each picture in one list; of several, they say which."""
    several = len(pictures) > 1
    pairs = [(picture.name, note) for picture, own in zip(pictures, notes, strict=False) for note in own]
    return [f"{name}: {note}" if several else note for name, note in pairs]


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
