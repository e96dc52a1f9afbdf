"""CMR (Kanazawa et al., ECCV 2018): a learned symmetric mean shape, a deformation, a camera and a texture flow.

As in the paper's baseline (§A.3) there are no keypoints. Pictures are framed on white, as everywhere in this
project; the published system keeps their background.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tars3d.config import ModelConfig
from tars3d.errors import UserError
from tars3d.geometry.camera import Cameras
from tars3d.geometry.templates import mirror_pairs
from tars3d.geometry.weak_perspective import weak_cameras
from tars3d.methods.mesh import MeshMethod, MeshShape, colors_at
from tars3d.nn.encoder import Encoder
from tars3d.nn.texture_flow import TextureFlow, sphere_coordinates


class CMREncoder(Encoder):
    """A ResNet's last feature map, halved once more, then two linear layers; both ends with BatchNorm and LeakyReLU."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, config: ModelConfig):
        super().__init__(config.encoder_widths, config.encoder_depths, config.code_width)
        side = config.encoder_input // 64
        if side < 1:
            raise UserError(
                f"method cmr: encoder_input {config.encoder_input} is too small for its layers; use 64 or more"
            )
        reduced, code = config.mesh.reduced, config.code_width
        halve = nn.Conv2d(config.encoder_widths[-1], reduced, 4, stride=2, padding=1)
        self.reduce = nn.Sequential(halve, nn.BatchNorm2d(reduced), nn.LeakyReLU(0.2), nn.Flatten())
        layers: list[nn.Module] = []
        for source in (reduced * side**2, code):
            layers += [nn.Linear(source, code), nn.BatchNorm1d(code), nn.LeakyReLU(0.2)]
        self.code = nn.Sequential(*layers)
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406])[:, None, None], persistent=False)
        self.register_buffer("deviation", torch.tensor([0.229, 0.224, 0.225])[:, None, None], persistent=False)

    def forward(self, images: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch code"]:
        """Codes of pictures in [-1, 1]; the ResNet sees them in ImageNet's normalisation."""
        normalised = ((images + 1) / 2 - self.mean) / self.deviation
        return self.code(self.reduce(self.backbone(normalised.contiguous())[-1]))


class CMR(MeshMethod):
    """`mean_half` is the learned mean shape: the vertices on and right of the mirror plane x = 0."""

    source: Tensor
    sign: Tensor

    def __init__(self, config: ModelConfig):
        super().__init__(config)
        pairs = mirror_pairs(self.template_vertices.double().numpy())
        self.register_buffer("source", torch.from_numpy(pairs.source), persistent=False)
        self.register_buffer("sign", torch.from_numpy(pairs.sign).float(), persistent=False)
        self.encoder = CMREncoder(config)
        self.displacement = nn.Linear(config.code_width, 3 * len(pairs.half))
        self.camera_head = nn.Linear(config.code_width, 7)
        self.flow = TextureFlow(config.code_width, config.mesh.flow_grid, config.mesh.flow_channels)
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear | nn.Conv2d) and not name.startswith("encoder.backbone"):
                nn.init.normal_(module.weight, std=0.02)
                assert module.bias is not None
                nn.init.zeros_(module.bias)
        nn.init.normal_(self.displacement.weight, std=1e-4)
        radius = 1.0 if config.mesh.template else config.mesh.radius
        self.mean_half = nn.Parameter(radius * self.template_vertices[torch.from_numpy(pairs.half)])

    def encode(self, images: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch code"]:
        """Codes of framed pictures in [-1, 1] on white."""
        return self.encoder(self.resized(images))

    def mirrored(self, half: Float[Tensor, "*batch half 3"]) -> Float[Tensor, "*batch vertices 3"]:
        """All vertices from the free half: left is right with x negated, and x is 0 on the plane."""
        return half[..., self.source, :] * self.sign

    def mean_shape(self) -> Float[Tensor, "vertices 3"]:
        """The category's mean shape, object frame."""
        return self.mirrored(self.mean_half)

    def displacements(self, codes: Float[Tensor, "batch code"]) -> Float[Tensor, "batch half 3"]:
        """How far each free vertex moves from the mean shape, world units."""
        return self.displacement(codes).view(len(codes), -1, 3)

    def shape(
        self, codes: Float[Tensor, "batch code"], flow: Float[Tensor, "batch 2 rows columns"] | None = None
    ) -> MeshShape:
        """Meshes of codes, with the places in the picture where their vertices take colour from; `flow` where it is at hand."""
        found: Tensor = self.flow(codes) if flow is None else flow
        vertices = self.mirrored(self.mean_half + self.displacements(codes))
        places = sphere_coordinates(self.sphere).expand(len(codes), -1, -1)
        return MeshShape(vertices, self.faces, self.mean_shape(), colors_at(found, places))

    def camera(self, codes: Float[Tensor, "batch code"]) -> Float[Tensor, "batch 7"]:
        """The predicted weak-perspective camera: scale (picture half sides per world unit), shift, unit quaternion, real part first."""
        raw = self.camera_head(codes)
        scale = torch.relu(raw[:, :1] + 1) + 1e-12
        return torch.cat([scale, raw[:, 1:3], nn.functional.normalize(raw[:, 3:], dim=-1)], dim=1)

    @property
    def predicts_camera(self) -> bool:
        return True

    def predict_camera(self, images: Float[Tensor, "batch 3 height width"]) -> Cameras:
        """As `Method.predict_camera`; the cameras are orthographic."""
        return self.encode_with_cameras(images)[1]

    def encode_with_cameras(
        self, images: Float[Tensor, "batch 3 height width"]
    ) -> tuple[Float[Tensor, "batch code"], Cameras]:
        """Codes of framed pictures, and the cameras that they say."""
        codes = self.encode(images)
        return codes, weak_cameras(self.camera(codes), images.shape[-1])
