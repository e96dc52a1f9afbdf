"""How a picture of a collection is answered: by the model, with or without fitting it to the outline, or by a trivial baseline.

Called by `evaluation` and `bench.table_row`. The baselines are the honest trivial answers: the category's mean shape for every picture,
and the nearest training object by picture features.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import trimesh
from jaxtyping import Float

from tars3d.data.collection import ImageCollection
from tars3d.data.framing import FramedPicture, crop_intrinsics
from tars3d.data.image_record import ImageRecord
from tars3d.data.pictures import Picture, read_picture
from tars3d.errors import UserError
from tars3d.geometry.silhouette_fit import CenteredCamera
from tars3d.methods.surface import surface_of
from tars3d.photo.camera import PhotoCamera, camera_batch, find_camera
from tars3d.photo.reconstruction import Reconstruction
from tars3d.photo.refine import refine_code, spread_of
from tars3d.reconstruct import Reconstructor

Predictor = Callable[[ImageRecord, Picture], trimesh.Trimesh]
"""A picture of a collection to a mesh in the object frame."""
Answerer = Callable[[ImageRecord, Picture], Reconstruction]
"""The same, with all that came of it."""
Groups = Mapping[str, Sequence[ImageRecord]]
"""Pictures of each object that make one mesh together."""


@dataclass(frozen=True)
class AnswerSettings:
    """How a model answers: with the code of the picture or the mean code, as it is or fitted to the picture's outline.

    Attributes:
        outline: bend the shape to the outline at the end.
        refine: steps in which the code is fitted to it.
        refine_camera: "found" in the picture by the model, or "annotated".
    """

    resolution: int
    baseline: str = "none"
    outline: bool = False
    refine: int = 0
    refine_camera: str = "found"
    seed: int = 0

    def label(self, model: str) -> str:
        """What a table calls these answers of a model."""
        name = {"none": model, "mean-shape": "mean shape", "nearest": "nearest training object"}[self.baseline]
        name += f", refined in {self.refine} steps" if self.refine else ""
        return name + (", bent to the outline" if self.outline else "")

    def described(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"refine_camera": self.refine_camera if self.refine or self.outline else None}

    def of(
        self, reconstructor: Reconstructor, records: Sequence[ImageRecord], pictures: Sequence[Picture]
    ) -> Reconstruction:
        """The answer to a picture of a collection, or to several of one object together."""
        fits = self.outline or self.refine > 0
        if self.baseline == "none" and not (fits and self.refine_camera == "annotated"):
            return reconstructor.reconstruct_pictures(
                pictures, resolution=self.resolution, camera="auto" if fits else "none", outline="always" if self.outline else "none", colors="model",
                refine=self.refine, seed=self.seed, annotated=[record.crop for record in records], uncut=True,
            )  # fmt: skip
        views = [
            reconstructor.view(picture, record.crop, seed=self.seed)[0]
            for picture, record in zip(pictures, records, strict=True)
        ]
        framed, model = np.stack([reconstructor.pixels(view) for view in views]), reconstructor.model
        own = self.baseline != "mean-shape"
        code = reconstructor.codes(framed).mean(dim=0, keepdim=True) if own else model.mean_code[None]
        if self.refine:
            code = refined_code(reconstructor, code, views[0], records[0], self.refine, seed=self.seed)
        with torch.no_grad():
            shape = model.shape(code)
        if self.outline:
            cameras = [annotated_camera(record, view) for record, view in zip(records, views, strict=True)]
            shape = reconstructor.bent(shape, cameras, views, seed=self.seed, agree=False).shape
        return reconstructor.mesh(shape, framed[0], resolution=self.resolution)

    def answerer(self, reconstructor: Reconstructor, groups: Groups | None = None) -> Answerer:
        """What answers a picture, or all of the pictures that are grouped under its object."""

        def answer(record: ImageRecord, picture: Picture) -> Reconstruction:
            records = [record] if groups is None else groups[record.instance]
            pictures = [picture if one is record else read_picture(one.file, one.mask) for one in records]
            return self.of(reconstructor, records, pictures)

        return answer

    def mesh(self, reconstructor: Reconstructor, groups: Groups | None = None) -> Predictor:
        """The mesh of that answer."""
        answer = self.answerer(reconstructor, groups)
        return lambda record, picture: answer(record, picture).mesh


def refined_code(
    reconstructor: Reconstructor,
    code: Float[torch.Tensor, "1 code"],
    view: FramedPicture,
    record: ImageRecord,
    steps: int,
    *,
    seed: int = 0,
) -> Float[torch.Tensor, "1 code"]:
    """A code, the picture's own or another, fitted to the outline of a framed picture of a collection in `steps` steps, seen by its
    annotated camera."""
    model = reconstructor.field_model("--refine")
    spread = spread_of(model, reconstructor.codes(reconstructor.pixels(view)[None]))
    cameras = camera_batch(annotated_camera(record, view), reconstructor.device)
    return refine_code(model, code, cameras, view.mask, steps, seen=view.seen, seed=seed, spread=spread)


def annotated_camera(record: ImageRecord, view: FramedPicture) -> CenteredCamera:
    """The camera that a collection names for a picture, in pixels of the framed picture."""
    intrinsics = np.asarray(crop_intrinsics(record.intrinsics, view.crop, len(view.mask)))
    return CenteredCamera.of_pinhole(intrinsics, record.extrinsics, record.model == "perspective")


def found_camera(
    reconstructor: Reconstructor, mesh: trimesh.Trimesh, picture: Picture, record: ImageRecord, *, seed: int = 0
) -> PhotoCamera | None:
    """The camera that the model sees in a picture, fitted to a mesh; None without a head, or where the mesh is empty."""
    if not reconstructor.predicts_camera or not len(mesh.faces):
        return None
    view, _ = reconstructor.view(picture, record.crop, seed=seed)
    start = reconstructor.predicted_camera(view.rgb)
    return find_camera(mesh, view, start, search=False, seed=seed)


def mean_shape(reconstructor: Reconstructor, resolution: int) -> Predictor:
    """The shape of the mean training code (kept in the model file) for every picture."""
    model = reconstructor.model
    with torch.no_grad():
        shape = model.shape(model.mean_code[None])
    bound = model.config.bound
    mesh = surface_of(shape, bound=bound, resolution=resolution, device=reconstructor.device).mesh
    return lambda record, picture: mesh


def nearest_object(reconstructor: Reconstructor, collections: Sequence[ImageCollection]) -> Predictor:
    """The ground truth of the training picture whose code is nearest, as a cloud of triangles."""
    records, truths = [], []
    for collection in collections:
        for record in collection.split("train"):
            if collection.has_ground_truth(record.instance):
                records.append(record)
                truths.append(collection)
    if not records:
        raise UserError("--baseline nearest: the train splits hold no ground truth; name other --train-data")
    codes = torch.cat([_codes(reconstructor, records[i : i + 64]) for i in range(0, len(records), 64)])
    shown = [_object_of(record) for record in records]

    def predict(record: ImageRecord, picture: Picture) -> trimesh.Trimesh:
        distance = (codes - _codes(reconstructor, [record])).square().sum(1)
        # a collection without splits is in train and in test: no object may answer for itself
        asked = _object_of(record)
        own = [other == asked for other in shown]
        distance[torch.tensor(own)] = torch.inf
        best = int(distance.argmin())
        if own[best]:
            raise UserError(f"--baseline nearest: no other object than {record.instance} to choose; name --train-data")
        points, normals = truths[best].ground_truth(records[best].instance)
        return splats(points, normals)

    return predict


def _object_of(record: ImageRecord) -> tuple[Path | None, str]:
    """The object that a picture shows, wherever its collection was named from."""
    return record.collection and record.collection.resolve(), record.instance


def splats(points: Float[np.ndarray, "points 3"], normals: Float[np.ndarray, "points 3"] | None) -> trimesh.Trimesh:
    """A cloud as small triangles, one a point, so that it can be measured and drawn like a mesh.

    Those of points without a normal, or with one that is as good as zero, face up Y.
    """
    normals = np.zeros_like(points) if normals is None else normals
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    normals = np.where(length < 1e-6, [[0.0, 1.0, 0.0]], normals / np.maximum(length, 1e-6))
    helper = np.where(np.abs(normals[:, :1]) < 0.9, [[1.0, 0.0, 0.0]], [[0.0, 1.0, 0.0]])
    first = np.cross(normals, helper)
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    second = np.cross(normals, first)
    radius = 0.004
    corners = [
        points + radius * (np.cos(angle) * first + np.sin(angle) * second) for angle in 2 * np.pi * np.arange(3) / 3
    ]
    vertices = np.stack(corners, axis=1).reshape(-1, 3)
    return trimesh.Trimesh(vertices, np.arange(len(vertices)).reshape(-1, 3), process=False)


def _codes(reconstructor: Reconstructor, records: Sequence[ImageRecord]) -> torch.Tensor:
    pictures = [(read_picture(record.file, record.mask), record.crop) for record in records]
    return reconstructor.codes(np.stack([reconstructor.frame(*picture) for picture in pictures]))
