"""One photo in, one mesh out: `load` a model, `reconstruct` pictures. Imports nothing of training.

The mesh comes in the object frame: Y up, centred, longest side about 1, front towards -Z.
"""

import os
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch
import trimesh
from jaxtyping import Float, UInt8

from tars3d.data.background import Background
from tars3d.data.framing import Crop, apply_crop, crop_intrinsics, input_crop
from tars3d.data.image_record import ImageRecord
from tars3d.data.pictures import Picture, as_picture
from tars3d.errors import UserError
from tars3d.geometry.silhouette_fit import CenteredCamera
from tars3d.methods.base import Shape
from tars3d.methods.inference import InferenceModel, inference_model
from tars3d.methods.mesh import MeshMethod, MeshShape
from tars3d.methods.surface import canonical_coordinates, surface_of
from tars3d.photo.camera import PhotoCamera, camera_batch, centered_camera, find_camera, refitted, silhouette_iou
from tars3d.photo.refine import MAX_STEPS, refine_code, spread_of
from tars3d.weights import load_model, locate_model

MAX_RESOLUTION = 1024
DRAFT_RESOLUTION = 48
"""Of the mesh that only the camera of `refine` is fitted with."""

CameraMode = Literal["auto", "search", "none"]


@dataclass(frozen=True)
class Reconstruction:
    """A picture's object.

    Attributes:
        mesh: object frame, vertex colours (sRGB bytes); empty where the model sees no surface.
        canonical: canonical position of each vertex, then its k point features.
        shape: the fields themselves, a batch of one: `shape.sdf(points[None])` at any points, any time.
        framed: the picture as the model saw it, on white.
        evaluations: how often the field was evaluated for the mesh.
        notes: what the user should know, e.g. that the mask was found automatically.
        camera: of the picture, fitted by the silhouette; None where it was not asked for.
    """

    mesh: trimesh.Trimesh
    canonical: Float[np.ndarray, "vertices channels"]
    shape: Shape
    framed: np.ndarray
    evaluations: int
    notes: list[str] = field(default_factory=list)
    camera: PhotoCamera | None = None


class Reconstructor:
    """A trained model, ready for pictures.

    Args:
        model: the networks.
        description: what the model file says of itself (category, data, licence, ...).
        device: where it runs.
    """

    def __init__(self, model: InferenceModel | MeshMethod, description: dict[str, Any], device: torch.device):
        self.model = model.to(device)
        self.description = description
        self.device = device

    @property
    def category(self) -> str:
        """What the model was trained on, e.g. `chair`."""
        return str(self.description.get("category", "object"))

    @property
    def space(self) -> str:
        """Names the canonical space: the category and a checksum of its canonical field.

        Reconstructions correspond only within one space; another model of the same category has another.
        """
        buffers = [
            self.model.get_buffer(name) for name, _ in self.model.named_buffers() if name.startswith("template_")
        ]
        if isinstance(self.model, MeshMethod):  # what a vertex means follows from all weights
            buffers = [values for values in self.model.state_dict().values() if values.is_floating_point()]
        checksum = 0
        for values in buffers:
            checksum = zlib.crc32(values.float().cpu().numpy().tobytes(), checksum)
        return f"{re.sub('[^A-Za-z0-9_.-]+', '-', self.category)}:{checksum:08x}"

    def frame(self, picture: Picture, annotated: Crop | None = None) -> np.ndarray:
        """The picture cropped around its mask, on white, as in training: uint8 [size, size, 3].

        For models that take the mask, it is the fourth channel.

        Args:
            annotated: the square that a collection names for the picture; counts for models that were trained on such squares.
        """
        rgb, mask = apply_crop(
            picture.rgb, picture.mask, self._crop(picture, annotated), self.model.config.picture_size
        )
        return np.dstack([rgb, 255 * mask.astype(np.uint8)]) if self.model.takes_mask else rgb

    def _crop(self, picture: Picture, annotated: Crop | None) -> Crop:
        config = self.model.config
        return input_crop(picture.mask, config.padding, annotated if config.framing == "annotated" else None)

    @torch.no_grad()
    def codes(self, framed: UInt8[np.ndarray, "batch size size channels"]) -> Float[torch.Tensor, "batch code"]:
        """Codes of framed pictures (uint8, on white)."""
        images = torch.from_numpy(np.ascontiguousarray(framed)).to(self.device)
        return self.model.encode(images.permute(0, 3, 1, 2).float() / 127.5 - 1)

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
        refine: int = 0,
        seed: int = 0,
        advance: Callable[[int], None] | None = None,
        background: Background = "white",
    ) -> Reconstruction:
        """Reconstruct one picture.

        Args:
            image: path, PIL image, numpy array or tensor; RGBA, RGB with `mask`, or RGB on a plain ground.
            mask: path, PIL image or array of the picture's size; non-zero is the object.
            resolution: cells of the search grid along each axis.
            dense: evaluate every grid point instead of coarse to fine.
            camera: `auto` fits the camera that the model predicts, if it predicts one; `search` also starts from cameras all
                around; `none` leaves it.
            refine: steps in which the shape code is fitted to the silhouette; needs a camera, searched if none is predicted.
                The code stays as it was where silhouettes overlap less afterwards; `notes` says so.
            seed: of the points and rays of those fits.
            advance: called with the number of each refining step.
            background: how the object is told where there is neither mask nor alpha, see `Background`.

        Raises:
            UserError: the picture or the mask cannot be used, or the resolution or the number of steps does not fit.
        """
        return self.reconstruct_picture(
            as_picture(image, mask, background=background), resolution=resolution, dense=dense, camera=camera, refine=refine, seed=seed,
            advance=advance,
        )  # fmt: skip

    @torch.no_grad()
    def reconstruct_picture(
        self,
        picture: Picture,
        *,
        resolution: int = 128,
        dense: bool = False,
        camera: CameraMode = "auto",
        refine: int = 0,
        seed: int = 0,
        advance: Callable[[int], None] | None = None,
        annotated: Crop | None = None,
    ) -> Reconstruction:
        """As `reconstruct`, of a picture that was read already; `annotated` as in `frame`."""
        check_resolution(resolution)
        check_refine(refine, camera)
        config = self.model.config
        crop = self._crop(picture, annotated)
        framed = self.frame(picture, annotated)
        mask = apply_crop(picture.rgb, picture.mask, crop, config.picture_size)[1]
        size = (picture.mask.shape[1], picture.mask.shape[0])
        code = self.codes(framed[None])
        start = None if camera == "none" else self.predicted_camera(framed[..., :3])
        search = camera == "search" or (start is None and refine > 0)
        found, refused = None, ""
        model = self.model
        if refine and not isinstance(model, InferenceModel):
            raise UserError(f"--refine: fits a field's code; {config.method} decodes a mesh, leave it out")
        if refine and isinstance(model, InferenceModel):
            draft = self.mesh(self.model.shape(code), framed, resolution=min(resolution, DRAFT_RESOLUTION))
            if len(draft.mesh.faces):
                found = find_camera(draft.mesh, mask, crop, size, start, search=search, seed=seed)
                cameras = camera_batch(found.framed, self.device)
                moved = refine_code(model, code, cameras, mask, refine, seed=seed, advance=advance)
                draft = self.mesh(self.model.shape(moved), framed, resolution=min(resolution, DRAFT_RESOLUTION))
                after = silhouette_iou(draft.mesh, found.framed, mask)
                # Where even the outline gets worse, camera or model do not fit this object, and the shape suffers.
                if after > found.iou:
                    code = moved
                else:
                    refused = f"not refined: silhouettes overlap by {found.iou:.2f} without and {after:.2f} with it"
        result = self.mesh(
            self.model.shape(code), framed, notes=list(picture.notes), resolution=resolution, dense=dense
        )
        if not len(result.mesh.faces):
            return result
        if found is not None:
            before, found = found.iou, refitted(found, result.mesh, mask, crop)
            done = f"refined in {refine} steps: silhouettes overlap by {before:.2f} before, {found.iou:.2f} after"
            result.notes.append(refused or done)
        elif start is not None or search:
            found = find_camera(result.mesh, mask, crop, size, start, search=search, seed=seed)
        if found is not None:
            result.notes.append(found.sentence())
        return replace(result, camera=found)

    @torch.no_grad()
    def predicted_camera(self, framed: UInt8[np.ndarray, "size size 3"]) -> CenteredCamera | None:
        """The camera of a framed picture as the model predicts it; None where it predicts none."""
        if not self.predicts_camera:
            return None
        image = torch.from_numpy(np.ascontiguousarray(framed)).to(self.device)
        return centered_camera(self.model.predict_camera(image.permute(2, 0, 1)[None].float() / 127.5 - 1))

    def refined_code(
        self, code: Float[torch.Tensor, "1 code"], picture: Picture, record: ImageRecord, steps: int, *, seed: int = 0
    ) -> Float[torch.Tensor, "1 code"]:
        """A code, the picture's own or another, fitted to the outline of a collection's picture in `steps` steps, seen by its
        annotated camera."""
        model = self.model
        if not isinstance(model, InferenceModel):
            raise UserError(f"--refine: fits a field's code; {model.config.method} decodes a mesh, leave it out")
        crop, size = self._crop(picture, record.crop), model.config.picture_size
        mask = apply_crop(picture.rgb, picture.mask, crop, size)[1]
        intrinsics = np.asarray(crop_intrinsics(record.intrinsics, crop, size))
        camera = CenteredCamera.of_pinhole(intrinsics, record.extrinsics, record.model == "perspective")
        spread = spread_of(model, self.codes(self.frame(picture, record.crop)[None]))
        return refine_code(model, code, camera_batch(camera, self.device), mask, steps, seed=seed, spread=spread)

    def camera_of(
        self, mesh: trimesh.Trimesh, picture: Picture, annotated: Crop | None = None, *, seed: int = 0
    ) -> PhotoCamera | None:
        """The camera that the model sees in a picture, fitted to a mesh; None without a head, or where the mesh is empty."""
        start = self.predicted_camera(self.frame(picture, annotated)[..., :3])
        if start is None or not len(mesh.faces):
            return None
        crop = self._crop(picture, annotated)
        mask = apply_crop(picture.rgb, picture.mask, crop, self.model.config.picture_size)[1]
        height, width = picture.mask.shape
        return find_camera(mesh, mask, crop, (width, height), start, search=False, seed=seed)

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
        found = surface_of(shape, bound=self.model.config.bound, resolution=resolution, device=self.device, dense=dense)
        notes = notes or []
        channels = 3 + self.model.config.point_features
        if len(found.mesh.vertices):
            canonical = canonical_coordinates(shape, found.mesh.vertices, self.device)
        else:
            canonical = np.zeros((0, channels), np.float32)
            notes.append("no surface was found: the mesh is empty")
        if found.reaches_bounds:
            notes.append("the surface reaches the search cube: the mesh is open there")
        return Reconstruction(found.mesh, canonical, shape, framed[..., :3], found.evaluations, notes)


def load(model: str | os.PathLike = "chair", *, device: str = "auto") -> Reconstructor:
    """A model by name ("chair", shipped with the package), run directory, .safetensors file or hub id ("owner/name").

    Raises:
        UserError: there is nothing there, or it is no model of tars3d.
    """
    path = locate_model(model)
    tensors, config, description = load_model(path)
    return Reconstructor(inference_model(tensors, config, str(path)), description, choose_device(device))


def choose_device(device: str) -> torch.device:
    """`auto` takes CUDA where there is one.

    Raises:
        UserError: cuda was asked for and there is none.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: no CUDA device here; use --device cpu")
    return torch.device(device)


def check_refine(steps: int, camera: CameraMode) -> None:
    """Refuse numbers of refining steps that make no sense."""
    if not 0 <= steps <= MAX_STEPS:
        raise UserError(f"--refine {steps}: choose a number of steps from 0 to {MAX_STEPS}")
    if steps and camera == "none":
        raise UserError("--refine: needs the picture's camera; leave out --camera none")


def check_resolution(resolution: int) -> None:
    """Refuse grids that make no sense or no longer fit into memory."""
    if not 8 <= resolution <= MAX_RESOLUTION:
        raise UserError(f"--resolution {resolution}: choose a number from 8 to {MAX_RESOLUTION}")
    needed = 12 * resolution**3  # values, mask and marching cubes' own copies, bytes
    try:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return
    if needed > free:
        raise UserError(
            f"--resolution {resolution}: needs {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free; choose a smaller one"
        )
