"""The stages of the mesh systems: SoftRas and CMR on whole pictures, through the soft rasteriser.

They differ from the implicit systems' stages in what they sample and in their losses; `trainer` runs both alike.
"""

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tars3d import mesh_objectives as objectives
from tars3d.data.augment import jitter_colors
from tars3d.data.bank import PictureBank
from tars3d.data.picture_batches import PictureBatch, PictureSampler, with_masks
from tars3d.errors import UserError
from tars3d.geometry.soft_rasterizer import nearest_faces, soft_silhouette
from tars3d.geometry.weak_perspective import screen, weak_perspective
from tars3d.mesh_objectives import MeshTopology
from tars3d.methods.cmr import CMR
from tars3d.methods.mesh import MeshMethod, MeshShape, colors_at
from tars3d.methods.softras import SoftRas
from tars3d.nn.perceptual import PerceptualLoss
from tars3d.nn.texture_flow import sphere_coordinates
from tars3d.objectives import weighted_sum
from tars3d.training.stage_runner import Losses, StageRunner


class MeshStage(StageRunner):
    """What both have in common: pictures, and meshes rendered into the cameras of the pictures that supervise them."""

    method: MeshMethod
    bank: PictureBank

    def __init__(self, *arguments, **keywords):
        super().__init__(*arguments, **keywords)
        bank, stage, flip = self.bank, self.stage, self.training.flip
        bank.check_foreground()
        self.sampler = PictureSampler(
            bank, batch=stage.batch, views=stage.views, rays=0, boundary_rays=0.0, flip=flip, seed=self.seed
        )
        if self.sampler.batch < 2:
            raise UserError(
                f"{self.method.config.method}: it trains on batches of at least 2 pictures (BatchNorm), there is {len(bank)}; add pictures"
            )

    def parameters(self) -> Iterable[nn.Parameter]:
        return self.method.parameters()

    def silhouettes(self, shape: MeshShape, batch: PictureBatch) -> Float[Tensor, "views size size"]:
        """The meshes in all cameras that supervise them.

        Raises:
            UserError: a vertex is not finite.
        """
        points, _ = screen(batch.cameras, shape.vertices.repeat_interleave(batch.views, 0), self.bank.size)
        try:
            return soft_silhouette(points, shape.faces, self.bank.size, sigma=self.stage.mesh.sigma)
        except FloatingPointError as error:
            raise UserError(
                f"{self.stage.name}: {error}; check the cameras (`tars3d data check`) or lower --learning-rate"
            ) from error


class SoftRasStage(MeshStage):
    """Silhouettes by intersection over union, smooth surfaces."""

    method: SoftRas

    def __init__(self, *arguments, **keywords):
        super().__init__(*arguments, **keywords)
        self.topology = MeshTopology.of(self.method.faces, len(self.method.sphere))

    def losses(self, step: int) -> Losses:
        method, weights = self.method, self.stage.mesh
        batch = self.sampler.draw_pictures(step)
        images = jitter_colors(batch.images, self.training.color_jitter, self.generator(step))
        shape = method.shape(method.encode(with_masks(images, batch.own_masks)))
        terms = {"iou": objectives.silhouette_iou_loss(self.silhouettes(shape, batch), batch.masks)}
        if weights.laplacian:
            terms["laplacian"] = objectives.uniform_laplacian_loss(shape.vertices, self.topology)
        if weights.flatten:
            terms["flatten"] = objectives.flatten_loss(shape.vertices, self.topology)
        return Losses(weighted_sum(terms, weights), terms)


class CMRStage(MeshStage):
    """Silhouettes, the camera, a small and smooth deformation, and the texture flow, for which shape and camera stand still."""

    method: CMR

    def __init__(self, *arguments, **keywords):
        super().__init__(*arguments, **keywords)
        method = self.method
        if bool((torch.linalg.det(self.bank.cameras.extrinsics[:, :, :3]) < 0).any()):
            raise UserError(
                "cmr: it predicts cameras as rotations, and cameras that were imported --as-published mirror; import them without"
            )
        # Published: of the first prediction, which is the mean shape's start to 1e-4.
        start = method.template_vertices * (1.0 if method.config.mesh.template else method.config.mesh.radius)
        self.laplacian = objectives.cotangent_laplacian(start, method.faces)
        self.unit = start.norm(dim=-1).mean()
        path = self.stage.mesh.perceptual
        self.perceptual = PerceptualLoss.load(path).to(self.device) if path else None

    def losses(self, step: int) -> Losses:
        method, weights = self.method, self.stage.mesh
        batch = self.sampler.draw_pictures(step)
        codes = method.encode(jitter_colors(batch.images, self.training.color_jitter, self.generator(step)))
        flow = method.flow(codes)
        shape = method.shape(codes, flow)
        alpha = self.silhouettes(shape, batch)
        terms = {
            "mask": (alpha - batch.masks.to(alpha.dtype)).square().mean(),
            "camera": objectives.camera_loss(method.camera(codes), weak_perspective(batch.own_cameras, self.bank.size)),
            "displacement": torch.linalg.vector_norm(method.displacements(codes), dim=-1).mean() / self.unit,
            "smoothness": objectives.smoothness_loss(shape.vertices, self.laplacian) / self.unit,
        }
        if weights.texture or weights.texture_inside:
            terms |= self._texture_terms(flow, shape, batch)
        return Losses(weighted_sum(terms, weights), terms)

    def _texture_terms(
        self, flow: Float[Tensor, "batch 2 rows columns"], shape: MeshShape, batch: PictureBatch
    ) -> dict[str, Tensor]:
        """What the painted mesh looks like, read at pixels instead of CMR's 6 x 6 texels a face, and where its colours come from."""
        method, size, own = self.method, self.bank.size, batch.own_cameras
        points, depth = screen(own, shape.vertices.detach(), size)
        face, weight = nearest_faces(points, depth, shape.faces, size, perspective=own.perspective)
        places = (method.sphere[method.faces[face.clamp_min(0)]] * weight[..., None]).sum(-2)  # on the unit sphere
        uv = sphere_coordinates(places).flatten(1, 2)
        seen = (face >= 0) & batch.own_masks
        looked_at = colors_at(flow, uv)
        painted = colors_at(batch.images, looked_at).transpose(1, 2).unflatten(2, (size, size))
        if self.perceptual is None:
            difference = (painted - batch.images).abs().mean(1) / 2
            texture = (difference * seen).sum() / seen.sum().clamp_min(1)
        else:
            ground = torch.zeros_like(painted)
            found = torch.where(seen[:, None], painted, ground)
            texture = self.perceptual(found, torch.where(batch.own_masks[:, None], batch.images, ground))
        barrier = objectives.silhouette_barrier(batch.distance, batch.own_masks)
        assert shape.look_at is not None
        corners = shape.look_at[:, method.faces]
        everywhere = torch.cat([shape.look_at, corners.mean(2)], dim=1)
        return {"texture": texture, "texture_inside": colors_at(barrier[:, None], everywhere).mean()}


MESH_KINDS: dict[str, type[MeshStage]] = {"softras": SoftRasStage, "cmr": CMRStage}
