"""The camera of a picture: predicted by the model or searched, then fitted so that the mesh has the picture's silhouette.

`Reconstructor.reconstruct` calls `find_camera`, `reconstruct_files` writes its JSON and the overlay.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import trimesh
from jaxtyping import Bool, Float, UInt8
from PIL import Image
from scipy.ndimage import binary_dilation

from tars3d.data.framing import FramedPicture, full_crop, uncropped
from tars3d.data.pictures import Picture
from tars3d.geometry.camera import Cameras, look_at_origin
from tars3d.geometry.masks import mask_iou
from tars3d.geometry.rasterize import silhouette
from tars3d.geometry.silhouette_fit import CenteredCamera, SilhouetteTarget, fit_silhouette, search_silhouette
from tars3d.geometry.views import render_view

POINTS = 4000
"""Of the surface, that a fit projects."""
UNSURE = 0.5
"""Silhouettes that overlap less than this after a fit from the predicted camera: other starts are tried as well."""
ZOOM_PRIOR = 0.05
"""Change of the predicted scale's logarithm that costs as much as a pixel. A fit knows it less well than the prediction: where the shape as predicted
is too small or too large, it zooms, and the shape would be bent to that scale."""
START_DEPTH = 2.7
"""World units from the object's centre to the cameras of a search; about that of the rendered collections."""
OVERLAY_SIZE = 1024
"""Longest side of an overlay, pixels."""
CONVENTION = "extrinsics [R | t]: x_camera = R x_mesh + t; x right, y down, z forward; pixels of the picture as it is shown, the middle of the first at 0.5"
ORANGE = np.array([255, 120, 0], np.uint8)


@dataclass(frozen=True, eq=False)
class PhotoCamera:
    """The camera of a picture, in pixels of the uncropped picture: x right, y down, z forward, pixel centres at +0.5.

    Attributes:
        intrinsics, extrinsics, perspective: as in `geometry.camera.Cameras`; world is the mesh's object frame.
        size: width and height of the picture, pixels.
        source: "predicted" by the model's camera head, or "searched" over a grid of starts.
        iou: overlap of the mesh's silhouette and the picture's mask, 0 to 1, as fitted.
        start_iou: the same before the fit; None for a searched camera, which has no start.
        framed: the camera of the picture as the model saw it.
        outline_iou: the overlap once the shape, too, was bent to the outline (`photo.outline`); None where it was not. It says little of the
            camera: nearly any shape can be bent to nearly any outline.
    """

    intrinsics: Float[np.ndarray, "3 3"]
    extrinsics: Float[np.ndarray, "3 4"]
    perspective: bool
    size: tuple[int, int]
    source: str
    iou: float
    start_iou: float | None
    framed: CenteredCamera
    outline_iou: float | None = None

    @classmethod
    def of(
        cls, camera: CenteredCamera, picture: FramedPicture, source: str, iou: float, start_iou: float | None
    ) -> "PhotoCamera":
        """The camera of a framed picture, in pixels of the whole one."""
        intrinsics, extrinsics, perspective = camera.pinhole()
        whole = uncropped(intrinsics, picture.crop, len(picture.mask))
        return cls(whole, extrinsics, perspective, picture.uncropped, source, iou, start_iou, camera)

    def moved(self, camera: CenteredCamera, picture: FramedPicture) -> "PhotoCamera":
        """Another camera of the same framed picture, found from this one."""
        return PhotoCamera.of(camera, picture, self.source, self.iou, self.start_iou)

    @property
    def center(self) -> Float[np.ndarray, "3"]:
        """Direction from the object's centre to the camera, length 1, object frame."""
        return -self.extrinsics[2, :3]

    @property
    def azimuth(self) -> float:
        """Degrees, -180 to 180: 0 sees the front (-Z), 90 stands at +X."""
        x, _, z = self.center
        return math.degrees(math.atan2(x, -z))

    @property
    def elevation(self) -> float:
        """Degrees above the ground plane."""
        return math.degrees(math.asin(float(np.clip(self.center[1], -1, 1))))

    @property
    def trusted(self) -> bool:
        """Whether the silhouettes overlap enough to take what the picture shows for what the camera sees of the mesh."""
        return self.iou >= UNSURE

    def sentence(self) -> str:
        """For the user, with a warning where it is not to be trusted."""
        where = f"camera {self.source}: azimuth {self.azimuth:.0f}°, elevation {self.elevation:.0f}°, silhouettes overlap by "
        doubt = "" if self.trusted else " (little: trust neither the camera nor the shape)"
        bent = "" if self.outline_iou is None else f", {self.outline_iou:.2f} with the mesh bent to the outline"
        return f"{where}{self.iou:.2f}{bent}{doubt}"

    def to_json(self) -> dict[str, Any]:
        """`camera` as in a collection's cameras.json, and what the fit found."""
        camera: dict[str, Any] = {"model": "perspective" if self.perspective else "orthographic"}
        if self.perspective:
            camera["intrinsics"] = self.intrinsics.round(6).tolist()
        else:
            camera["scale"] = float(self.intrinsics[0, 0])
            camera["principal_point"] = self.intrinsics[:2, 2].tolist()
        camera["extrinsics"] = self.extrinsics.round(8).tolist()
        return {
            "camera": camera,
            "picture": list(self.size),
            "azimuth": round(self.azimuth, 2),
            "elevation": round(self.elevation, 2),
            "source": self.source,
            "silhouette_iou": round(self.iou, 4),
            "silhouette_iou_before_fit": None if self.start_iou is None else round(self.start_iou, 4),
            "silhouette_iou_with_outline": None if self.outline_iou is None else round(self.outline_iou, 4),
            "convention": CONVENTION,
        }


def find_camera(
    mesh: trimesh.Trimesh,
    picture: FramedPicture,
    predicted: CenteredCamera | None,
    *,
    search: bool = True,
    seed: int = 0,
) -> PhotoCamera:
    """Fit the camera of a framed picture to its mask.

    Args:
        mesh: the reconstruction, object frame, with faces.
        predicted: by the model, for the framed picture; None where it has no camera head.
        search: try a grid of starts even so, and not only where the overlap stays below `UNSURE`.
        seed: of the surface points.
    """
    points = np.asarray(trimesh.sample.sample_surface(mesh, POINTS, seed=seed)[0])
    target = SilhouetteTarget(picture.mask, picture.seen)

    def overlap(camera: CenteredCamera) -> float:
        return silhouette_iou(mesh, camera, picture.mask, picture.seen)

    source, before = "searched", None
    camera, after = predicted, -1.0
    if predicted is not None:
        source, before = "predicted", overlap(predicted)
        fitted, _ = fit_silhouette(points, target, predicted, zoom_prior=ZOOM_PRIOR)
        after = overlap(fitted)
        # Never worse than it came: a fit that loses overlap was drawn away by what the reconstruction lacks.
        camera, after = (fitted, after) if after >= before else (predicted, before)
    if camera is None or search or after < UNSURE:
        # The cost caps what is far off, the overlap does not: among the cheapest, the overlap chooses.
        found = [camera for camera, _ in search_silhouette(points, target, starts_of_search(target))[:3]]
        overlaps = [overlap(camera) for camera in found]
        best = int(np.argmax(overlaps))
        if camera is None or overlaps[best] > after:
            source, before, camera, after = "searched", None, found[best], overlaps[best]
    return PhotoCamera.of(camera, picture, source, after, before)


def starts_of_search(target: SilhouetteTarget) -> list[CenteredCamera]:
    """Upright cameras all around, level and raised; their zoom and shift are found by `silhouette_fit.aligned`."""
    middle = (target.low + target.high) / 2
    turns = [look_at_origin(a, e, START_DEPTH)[:, :3] for a in range(0, 360, 30) for e in (10, 35)]
    return [CenteredCamera(turn, float(target.size), middle, 1 / START_DEPTH) for turn in turns]


def silhouette_iou(
    mesh: trimesh.Trimesh,
    camera: CenteredCamera,
    mask: Bool[np.ndarray, "height width"],
    seen: Bool[np.ndarray, "height width"] | None = None,
) -> float:
    """Overlap of a mesh's silhouette with a mask, 0 to 1, among the pixels that are seen (None: all)."""
    drawn = silhouette(mesh, *camera.pinhole(), *mask.shape)
    if seen is not None:
        drawn &= seen
    return mask_iou(drawn, mask, both_empty=0.0)


def camera_batch(camera: CenteredCamera, device: torch.device) -> Cameras:
    """A camera as a batch of one."""
    intrinsics, extrinsics, perspective = camera.pinhole()
    return Cameras(
        torch.from_numpy(intrinsics[None]).float().to(device),
        torch.from_numpy(extrinsics[None]).float().to(device),
        torch.tensor([perspective], device=device),
    )


def centered_cameras(cameras: Cameras) -> list[CenteredCamera]:
    """Each camera of a batch."""
    parts = (part.double().cpu().numpy() for part in (cameras.intrinsics, cameras.extrinsics))
    return [
        CenteredCamera.of_pinhole(intrinsics, extrinsics, perspective)
        for intrinsics, extrinsics, perspective in zip(*parts, cameras.perspective.tolist(), strict=True)
    ]


def overlay(picture: Picture, mesh: trimesh.Trimesh, camera: PhotoCamera) -> UInt8[np.ndarray, "height width 3"]:
    """The mesh drawn over its picture (whose background is paled), grey and half transparent, its outline orange."""
    height, width = picture.mask.shape
    scale = min(1.0, OVERLAY_SIZE / full_crop(height, width).side)
    rows, columns = max(round(height * scale), 1), max(round(width * scale), 1)
    intrinsics = np.diag([columns / width, rows / height, 1.0]) @ camera.intrinsics
    args = (intrinsics, camera.extrinsics, camera.perspective, rows, columns)
    seen = silhouette(mesh, *args)
    plain = np.full((len(mesh.vertices), 3), 0.8)
    drawn = render_view(mesh, *args, vertex_colors=plain, supersample=1)
    photo = np.asarray(Image.fromarray(picture.rgb).resize((columns, rows), Image.Resampling.LANCZOS)).copy()
    background = ~np.asarray(Image.fromarray(picture.mask).resize((columns, rows)))
    photo[background] = 180 + photo[background] // 4  # pale: what a cut-out hides there is any colour
    photo[seen] = photo[seen] // 2 + drawn[seen] // 2
    thickness = max(1, round(max(rows, columns) / 400))
    photo[binary_dilation(seen, iterations=thickness) & ~seen] = ORANGE
    return photo


def refitted(camera: PhotoCamera, mesh: trimesh.Trimesh, picture: FramedPicture, *, seed: int = 0) -> PhotoCamera:
    """The camera fitted again to a mesh that changed a little; searched for anew where they no longer fit at all."""
    found = find_camera(mesh, picture, camera.framed, search=False, seed=seed)
    return found if found.source == "searched" else replace(found, source=camera.source, start_iou=camera.start_iou)
