"""TARS: object space is deformed into a category's canonical field, lifted by k point features (paper §3, §A.2).

Stage 1 learns an object-space field (`ObjectSpaceShape`), stage 2 deforms into the canonical one (`DeformedShape`).
The other implicit systems of the paper are variants of this class in the files beside it.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from tars3d.config import ModelConfig
from tars3d.errors import UserError
from tars3d.methods.base import Method, Samples, Shape, empty_features
from tars3d.nn.camera_head import CameraHead
from tars3d.nn.encoder import Encoder, Encoding
from tars3d.nn.encoding import annealed_octaves, encode_points, positional_encoding
from tars3d.nn.fields import Field, HyperField
from tars3d.nn.ray_marcher import RayMarcher


def unconditioned_features(encoded: int, point_features: int) -> nn.Sequential:
    """u: point features of a position alone; three linear layers, hidden ones 32 wide (docs/paper-vs-code.md, P4)."""
    return nn.Sequential(nn.Linear(encoded, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, point_features))


def octave_weights(config: ModelConfig, progress: float = 1.0) -> Float[Tensor, "octaves"]:
    """Weights of the encoding's octaves: the configured decay, times the fade-in at `progress`."""
    decay = config.octave_decay ** torch.arange(config.octaves, dtype=torch.float32)
    return decay * annealed_octaves(config.octaves, progress)


class SDFGenerator(HyperField):
    """f: code to a field of sdf (head `level`) and colour (head `rgb`) over canonical space lifted by point features."""

    def __init__(self, config: ModelConfig):
        super().__init__(
            code_width=config.code_width,
            hidden=config.hidden,
            depth=config.generator_depth,
            encoded=3 + 6 * config.octaves,
            extra=2 * config.feature_octaves * config.point_features,
            width=config.width,
            heads={"level": 1, "rgb": 3},
            palette=config.palette_width,
            near_constant=config.near_constant,
            activation=config.hyper_activation,
        )
        self.unconditioned = (
            unconditioned_features(3 + 6 * config.octaves, config.point_features) if config.point_features else None
        )


class DeformNet(HyperField):
    """g: image code to a field of deformation, point features and colour over object space."""

    def __init__(self, config: ModelConfig, *, correction: bool = False):
        heads = {"deformation": 3}
        if config.point_features:
            heads["features"] = config.point_features
        heads["rgb"] = 3
        if correction:
            heads["correction"] = 1
        super().__init__(
            code_width=config.code_width,
            hidden=config.hidden,
            depth=config.deform_depth,
            encoded=3 + 6 * config.octaves,
            extra=0,
            width=config.width,
            heads=heads,
            palette=config.palette_width,
            near_constant=config.near_constant,
            activation=config.hyper_activation,
        )


@dataclass(frozen=True)
class CanonicalField:
    """f at one code (or one per object), with u and the encodings: sdf as a function of lifted canonical positions.

    Attributes:
        field: the coordinate networks of f.
        unconditioned: u, or None without point features.
        octaves, feature_octaves: of the encodings of positions and point features.
        octave_weights: fade-in of the position's octaves, None for all on.
    """

    field: Field
    unconditioned: nn.Module | None
    octaves: int
    feature_octaves: int
    octave_weights: Float[Tensor, "octaves"] | None = None

    @classmethod
    def of(
        cls, field: Field, unconditioned: nn.Module | None, config: ModelConfig, octave_weights: Tensor
    ) -> "CanonicalField":
        """With the encodings of a configuration."""
        return cls(field, unconditioned, config.octaves, config.feature_octaves, octave_weights)

    def encode(self, points: Float[Tensor, "batch points 3"]) -> Float[Tensor, "batch points encoded"]:
        """E(x), at the present fade-in."""
        return encode_points(points, self.octaves, self.octave_weights)

    def lifted(
        self,
        encoded: Float[Tensor, "batch points encoded"],
        features: Tensor | None,
        switched: Bool[Tensor, "batch"] | None = None,
    ) -> Float[Tensor, "batch points width"]:
        """f's trunk at encoded positions and point features.

        Args:
            features: φ; None takes u's.
            switched: objects whose φ is replaced by u's (the half-batch switch); None for none.
        """
        if self.unconditioned is None:
            return self.field.features(encoded)
        if features is None:
            features = self.unconditioned(encoded)
        elif switched is not None:
            features = torch.where(switched[:, None, None], self.unconditioned(encoded), features)
        assert features is not None
        return self.field.features(encoded, positional_encoding(features, self.feature_octaves))


@dataclass(frozen=True)
class ObjectSpaceShape(Shape):
    """Stage 1: f itself over object space, one field per object."""

    generator: CanonicalField

    @property
    def batch_size(self) -> int:
        return len(self.generator.field.trunk[0])

    def object(self, number: int) -> "ObjectSpaceShape":
        """One object of the batch, as a batch of one."""
        return ObjectSpaceShape(replace(self.generator, field=self.generator.field.object(number)))

    def sample(self, points: Float[Tensor, "batch points 3"]) -> Samples:
        trunk = self.generator.lifted(self.generator.encode(points), None)
        return Samples(self.generator.field.head("level", trunk)[..., 0], trunk)

    def color(self, points: Float[Tensor, "batch points 3"]) -> Float[Tensor, "batch points 3"]:
        trunk = self.generator.lifted(self.generator.encode(points), None)
        return (torch.tanh(self.generator.field.head("rgb", trunk)) + 1) / 2

    def canonical(self, points: Float[Tensor, "batch points 3"]) -> Float[Tensor, "batch points 3"]:
        return points

    def features(self, points: Float[Tensor, "batch points 3"]) -> Float[Tensor, "batch points k"]:
        unconditioned = self.generator.unconditioned
        return empty_features(points) if unconditioned is None else unconditioned(self.generator.encode(points))


@dataclass(frozen=True)
class DeformedShape(Shape):
    """Stage 2: sdf(x) = f(x + Δ(x), φ(x)), with f at the category's one canonical code.

    Attributes:
        deformation: g's coordinate networks, one per object.
        template: f at the canonical code, shared by the batch.
        replace: objects whose φ comes from u instead of g (training's half-batch switch), a mask on the host, where asking it costs nothing.
        switched: the same on the device; None where there are none.
    """

    deformation: Field
    template: CanonicalField
    replace: Bool[Tensor, "batch"] | None = None
    switched: Bool[Tensor, "batch"] | None = None

    @property
    def batch_size(self) -> int:
        return len(self.deformation.trunk[0])

    def object(self, number: int) -> "DeformedShape":
        """One object of the batch, as a batch of one."""
        own = slice(number, number + 1)
        switch = None if self.replace is None else self.replace[own]
        switched = self.switched[own] if self.switched is not None and switch is not None and switch.any() else None
        return DeformedShape(self.deformation.object(number), self.template, switch, switched)

    def _object_features(self, points: Float[Tensor, "batch points 3"]) -> Float[Tensor, "batch points width"]:
        return self.deformation.features(self.template.encode(points))

    def _point_features(self, steering: Float[Tensor, "batch points width"]) -> Float[Tensor, "batch points k"] | None:
        return self.deformation.head("features", steering) if "features" in self.deformation.heads else None

    def sample(self, points: Float[Tensor, "batch points 3"]) -> Samples:
        steering = self._object_features(points)
        displacement = self.deformation.head("deformation", steering)
        features = self._point_features(steering)
        trunk = self.template.lifted(self.template.encode(points + displacement), features, self.switched)
        sdf = self.template.field.head("level", trunk)[..., 0]
        if "correction" not in self.deformation.heads:
            return Samples(sdf, steering, displacement)
        correction = self.deformation.head("correction", steering)[..., 0]
        return Samples(sdf + correction, steering, displacement, correction)

    def color(self, points: Float[Tensor, "batch points 3"]) -> Float[Tensor, "batch points 3"]:
        return (torch.tanh(self.deformation.head("rgb", self._object_features(points))) + 1) / 2

    def canonical(self, points: Float[Tensor, "batch points 3"]) -> Float[Tensor, "batch points 3"]:
        return points + self.deformation.head("deformation", self._object_features(points))

    def features(self, points: Float[Tensor, "batch points 3"]) -> Float[Tensor, "batch points k"]:
        features = self._point_features(self._object_features(points))
        return empty_features(points) if features is None else features

    def template_gradient(
        self, points: Float[Tensor, "batch points 3"], step: float
    ) -> Float[Tensor, "batch points 3"]:
        """Gradient of the template's sdf at the canonical places of points, while the objects' point features stay as they are: central
        differences of `step` canonical units to both sides."""
        steering = self._object_features(points)
        places = points + self.deformation.head("deformation", steering)
        axes = torch.eye(3, dtype=points.dtype, device=points.device)
        offsets = step * torch.cat([axes, -axes])
        stencil = (places[..., None, :] + offsets).flatten(1, 2)
        features = self._point_features(steering)
        if features is not None:
            features = features.repeat_interleave(6, dim=1)
        trunk = self.template.lifted(self.template.encode(stencil), features)
        ahead, behind = self.template.field.head("level", trunk)[..., 0].unflatten(1, (-1, 6)).chunk(2, dim=-1)
        return (ahead - behind) / (2 * step)


class TARS(Method):
    """The networks of TARS and how they compose into shapes.

    Modules: `encoder`, `generator` (f), `marcher`, `deform_net` (g), and `canonical_code`.
    """

    has_canonical_space: ClassVar[bool] = True
    takes_point_features: ClassVar[bool] = True
    correction: ClassVar[bool] = False
    encoder: Encoder
    octave_weights: Tensor

    def __init__(self, config: ModelConfig):
        super().__init__()
        if config.point_features and not self.takes_point_features:
            raise UserError(f"method {config.method}: it has no point features; set point_features to 0")
        self.config = config
        self.encoder = Encoder(config.encoder_widths, config.encoder_depths, config.code_width, config.palette)
        self.generator = SDFGenerator(config)
        self.marcher = RayMarcher(config.width)
        if self.has_canonical_space:
            self.deform_net = DeformNet(config, correction=self.correction)
            self.canonical_code = nn.Parameter(torch.zeros(config.whole_code_width))
        if config.camera_hidden:
            self.camera_head = CameraHead.of(config)
        self.register_buffer("octave_weights", octave_weights(config))

    def encode(self, images: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch code"]:
        """Codes of framed pictures in [-1, 1] on white."""
        return self.read(images).code

    def read(self, images: Float[Tensor, "batch 3 height width"]) -> Encoding:
        """As `encode`, with the feature maps that the camera head reads."""
        return self.encoder.read(self.resized(images))

    def object_space_shape(self, codes: Float[Tensor, "batch code"]) -> ObjectSpaceShape:
        """Stage 1's shapes of codes."""
        return ObjectSpaceShape(self.canonical_field(codes))

    def deformed_shape(
        self, codes: Float[Tensor, "batch code"], replace: Bool[Tensor, "batch"] | None = None
    ) -> DeformedShape:
        """Stage 2's shapes of codes; `replace` names the objects of the half-batch switch, a mask on the host."""
        switched = replace.to(codes.device) if replace is not None and replace.any() else None
        return DeformedShape(self.deform_net(codes), self.template(), replace, switched)

    def template(self) -> CanonicalField:
        """The category's canonical field: f at the canonical code."""
        return self.canonical_field(self.canonical_code[None])

    def shape(
        self,
        codes: Float[Tensor, "batch code"],
        *,
        deformed: bool | None = None,
        replace: Bool[Tensor, "batch"] | None = None,
    ) -> ObjectSpaceShape | DeformedShape:
        """Shapes of codes, as the trained model means them (`deformed` overrides which stage); `replace` as of `deformed_shape`."""
        if deformed is None:
            deformed = self.has_canonical_space
        return self.deformed_shape(codes, replace) if deformed else self.object_space_shape(codes)

    def canonical_field(
        self, codes: Float[Tensor, "codes code"], generator: SDFGenerator | None = None
    ) -> CanonicalField:
        """f's fields of codes, at the present fade-in; `generator` stands in for f (a teacher, say)."""
        generator = generator or self.generator
        return CanonicalField.of(generator(codes), generator.unconditioned, self.config, self.octave_weights)
