"""What the mesh systems share: a `MeshShape` is a Shape whose surface is known outright, and a `MeshMethod` decodes codes into it.

The mesher is skipped; everything else of the house asks a MeshShape what it asks any Shape. Canonical positions are those of
the same vertices on the category's template, so correspondence is by vertex.
"""

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
import trimesh
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from tars3d.config import ModelConfig
from tars3d.errors import UserError
from tars3d.geometry.closest import closest_on_mesh
from tars3d.geometry.templates import Template, check_template, icosphere, load_template, pushed_onto
from tars3d.geometry.winding import winding_number
from tars3d.methods.base import Method, Samples, Shape, empty_features

GREY = 0.7


@dataclass(frozen=True)
class MeshShape(Shape):
    """A batch of deformed templates.

    Attributes:
        vertices: object frame, world units.
        faces: outward on the template.
        template: the same vertices on the category's canonical shape.
        look_at: where each vertex takes its colour from the picture, (x, y) from -1 to 1; None for systems without colour.
        colors: of the vertices, in [0, 1]; None is grey.
    """

    vertices: Float[Tensor, "batch vertices 3"]
    faces: Int[Tensor, "faces 3"]
    template: Float[Tensor, "vertices 3"]
    look_at: Float[Tensor, "batch vertices 2"] | None = None
    colors: Float[Tensor, "batch vertices 3"] | None = None

    @property
    def batch_size(self) -> int:
        return len(self.vertices)

    def painted(self, framed: UInt8[np.ndarray, "size size channels"]) -> "MeshShape":
        """The shape (a batch of one) with the colours that it takes from its picture; itself without a texture flow."""
        if self.look_at is None:
            return self
        picture = torch.from_numpy(np.ascontiguousarray(framed[..., :3])).to(self.vertices.device)
        image = picture.permute(2, 0, 1)[None].float() / 255
        return replace(self, colors=colors_at(image, self.look_at.detach()))

    def mesh(self, number: int = 0) -> trimesh.Trimesh:
        """One object, with vertex colours.

        Raises:
            FloatingPointError: a vertex is not finite.
        """
        vertices = self.vertices[number].detach().cpu().double().numpy()
        if not np.isfinite(vertices).all():
            raise FloatingPointError(
                f"{(~np.isfinite(vertices)).any(1).sum()} of {len(vertices)} vertices are not finite"
            )
        rgb = np.full((len(vertices), 3), GREY)
        if self.colors is not None:
            rgb = self.colors[number].detach().cpu().double().clamp(0, 1).numpy()
        rgba = np.concatenate([255 * rgb, np.full((len(rgb), 1), 255.0)], axis=1).round().astype(np.uint8)
        return trimesh.Trimesh(vertices, self.faces.cpu().numpy().copy(), vertex_colors=rgba, process=False)

    def sample(self, points: Float[Tensor, "batch points 3"]) -> Samples:
        """Signed distance by the nearest face and the winding number; nothing steers a marcher."""
        return Samples(self._sdf(points), points, self.canonical(points) - points)

    def sdf(self, points: Float[Tensor, "batch points 3"]) -> Float[Tensor, "batch points"]:
        return self._sdf(points)

    def color(self, points: Float[Tensor, "batch points 3"]) -> Float[Tensor, "batch points 3"]:
        if self.colors is None:
            return torch.full_like(points, GREY)
        return self._carried(points, self.colors)

    def canonical(self, points: Float[Tensor, "batch points 3"]) -> Float[Tensor, "batch points 3"]:
        """The nearest surface point's place on the template."""
        return self._carried(points, self.template.expand_as(self.vertices))

    def features(self, points: Float[Tensor, "batch points 3"]) -> Float[Tensor, "batch points k"]:
        return empty_features(points)

    def _sdf(self, points: Tensor) -> Tensor:
        values = []
        for number, queries in enumerate(points.detach().cpu().double().numpy()):
            mesh = self.mesh(number)
            distance = closest_on_mesh(mesh, queries)[0]
            inside = winding_number(np.asarray(mesh.triangles), queries) > 0.5
            values.append(torch.from_numpy(np.where(inside, -distance, distance)))
        return torch.stack(values).to(points)

    def _carried(self, points: Tensor, values: Float[Tensor, "batch vertices channels"]) -> Tensor:
        """Values at vertices, carried to the surface points nearest to any points."""
        found = []
        for number, queries in enumerate(points.detach().cpu().double().numpy()):
            _, face, weights = closest_on_mesh(self.mesh(number), queries)
            corners = values[number].detach()[self.faces[torch.from_numpy(face).to(self.faces.device)]]
            found.append((torch.from_numpy(weights).to(corners)[..., None] * corners).sum(1))
        return torch.stack(found).to(points)


class MeshMethod(Method):
    """A system that maps a code to the vertices of one template. The trained networks are what a model file holds.

    Attributes:
        template_vertices: the unit icosphere, or what it became when pushed onto the user's template.
        faces: of all its meshes.
        mean_code: of the training pictures, set when a model is written.
    """

    takes_mask: ClassVar[bool] = False
    deformed: ClassVar[bool] = True
    """Meshes of one template correspond by vertex."""
    sphere: Tensor
    template_vertices: Tensor
    faces: Tensor
    mean_code: Tensor

    def __init__(self, config: ModelConfig):
        super().__init__()
        if config.point_features:
            raise UserError(f"method {config.method}: it has no point features; set point_features to 0")
        self.config = config
        base = icosphere(config.mesh.subdivisions)
        check_template(base.vertices, base.faces, "template")
        vertices = self.start(base)
        self.register_buffer("sphere", torch.from_numpy(base.vertices).float())
        self.register_buffer("template_vertices", torch.from_numpy(vertices).float())
        self.register_buffer("faces", torch.from_numpy(base.faces))
        self.register_buffer("mean_code", torch.zeros(config.code_width))

    def start(self, base: Template) -> np.ndarray:
        """The template's vertices: the unit sphere, or the user's template as seen from its centre."""
        name = self.config.mesh.template
        if name is None:
            return base.vertices
        pushed = pushed_onto(base.vertices, load_template(name), name)
        check_template(pushed, base.faces, f"{name} (as the sphere pushed onto it)")
        return pushed

    @abstractmethod
    def shape(self, codes: Float[Tensor, "batch code"]) -> MeshShape:
        """Meshes of codes."""


def colors_at(
    images: Float[Tensor, "batch channels height width"], places: Float[Tensor, "batch points 2"]
) -> Float[Tensor, "batch points channels"]:
    """Pictures read at (x, y) from -1 to 1, bilinearly; beyond the edge its colour."""
    found = nn.functional.grid_sample(images, places[:, None], padding_mode="border", align_corners=False)
    return found[:, :, 0].transpose(1, 2)
