"""What a mesh system's run shows: the same measurements as `monitor`, from meshes that need no marcher and no search.

Chosen by `run` for mesh systems.
"""

from dataclasses import replace
from typing import ClassVar

import numpy as np
import torch
import trimesh

from tars3d.config import Stage
from tars3d.data.bank import PictureBank
from tars3d.data.picture_batches import with_masks
from tars3d.geometry.rasterize import silhouette
from tars3d.geometry.views import orbit_views, render_view
from tars3d.methods import MESH_METHODS
from tars3d.methods.base import Method, Shape
from tars3d.methods.inference import export_mesh_tensors
from tars3d.methods.mesh import MeshMethod, MeshShape
from tars3d.training.monitor import Monitor
from tars3d.weights import save_model


class MeshMonitor(Monitor):
    """`Monitor` for systems that decode a mesh."""

    measured: ClassVar[tuple[str, ...]] = MESH_METHODS  # their stages are called like the systems
    caption: ClassVar[str] = "picture; the mesh and its silhouette in the picture's camera; the mesh from two sides"

    def export(self, method: Method, stage: Stage, steps: int) -> None:
        assert isinstance(method, MeshMethod)
        assert isinstance(self.bank, PictureBank), "`run` lets no stream through"
        training, model = method.training, self.preset.model
        method.eval()
        parts = torch.arange(len(self.bank), device=self.bank.device).split(64)
        with torch.no_grad():
            codes = torch.cat([method.encode(encoder_input(method, self.bank, part)) for part in parts])
        method.train(training)
        save_model(
            self.run.model,
            export_mesh_tensors(method, codes.mean(0)),
            replace(model, mesh=replace(model.mesh, template=None)),  # its vertices are among the tensors
            description={**self.description, "stage": stage.name, "steps": steps},
        )

    @torch.no_grad()
    def _shape(self, method: Method, index: int, *, deformed: bool) -> Shape:
        assert isinstance(method, MeshMethod)
        method.eval()
        shape = method.shape(method.encode(encoder_input(method, self.held_out, torch.tensor([index]))))
        return shape.painted(self.held_out.rgb[index].cpu().numpy())

    def _mesh(self, shape: Shape, resolution: int) -> trimesh.Trimesh:
        assert isinstance(shape, MeshShape)
        return shape.mesh()

    def _pictures(self, method: Method, shape: Shape, mesh: trimesh.Trimesh, index: int) -> dict[str, np.ndarray]:
        bank = self.held_out
        camera = bank.cameras[torch.tensor([index])]
        intrinsics, extrinsics = (part[0].double().cpu().numpy() for part in (camera.intrinsics, camera.extrinsics))
        place = (intrinsics, extrinsics, bool(camera.perspective[0]), bank.size, bank.size)
        dark = ~silhouette(mesh, *place)
        return {
            "input": bank.rgb[index].cpu().numpy(),
            "color": render_view(mesh, *place),
            "mask": np.repeat(255 * dark[..., None].astype(np.uint8), 3, axis=2),
            "mesh": np.concatenate(orbit_views(mesh, count=2, size=bank.size), axis=1),
        }


def encoder_input(method: Method, bank: PictureBank, index: torch.Tensor) -> torch.Tensor:
    """Pictures of a bank as a method's encoder takes them: with their masks as a fourth channel where it wants them."""
    images = bank.images(index)
    return with_masks(images, bank.mask[index]) if method.takes_mask else images
