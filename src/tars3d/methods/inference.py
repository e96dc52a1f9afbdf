"""A trained model without what only training needs: no ray marcher, and the canonical field as plain matrices.

The canonical code is one for the category, so the hypernetwork behind it is run once and left out of the file.
`training` exports it, `reconstruct` uses it.
"""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tars3d.config import ModelConfig
from tars3d.errors import UserError
from tars3d.geometry.camera import Cameras
from tars3d.geometry.camera_parameters import mean_over_mirror_images, placed_cameras
from tars3d.methods import MESH_METHODS, mesh_method_class, method_class
from tars3d.methods.base import Method, Shape
from tars3d.methods.mesh import MeshMethod
from tars3d.methods.tars import (
    TARS,
    CanonicalField,
    DeformedShape,
    DeformNet,
    ObjectSpaceShape,
    SDFGenerator,
    octave_weights,
)
from tars3d.nn.camera_head import CameraHead
from tars3d.nn.encoder import Encoder, Encoding
from tars3d.nn.fields import Field
from tars3d.weights import first_misfit, unprefixed

TEMPLATE = "template."
"""What the names of the canonical field's matrices begin with in a model file."""


class InferenceModel(Method):
    """Pictures to shapes.

    Args:
        config: the networks.
        template: the canonical field's matrices by name, or None for a model that ended in stage 1 and predicts
            object-space fields.
    """

    encoder: Encoder
    octave_weights: Tensor
    mean_code: Tensor

    def __init__(self, config: ModelConfig, template: dict[str, Tensor] | None):
        super().__init__()
        self.config = config
        self.encoder = Encoder(config.encoder_widths, config.encoder_depths, config.code_width, config.palette)
        self.register_buffer("octave_weights", octave_weights(config))
        self.register_buffer("mean_code", torch.zeros(config.whole_code_width))
        if config.camera_hidden:
            self.camera_head = CameraHead.of(config)
        self.template_names = tuple(template or ())
        for name, value in (template or {}).items():
            self.register_buffer(f"template_{name.replace('.', '_')}", value)
        if template is None:
            self.generator = SDFGenerator(config)
        else:
            self.deform_net = DeformNet(config, correction=method_class(config.method).correction)

    @property
    def deformed(self) -> bool:
        """Whether shapes have a canonical space."""
        return bool(self.template_names)

    def encode(self, images: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch code"]:
        """Codes of framed pictures in [-1, 1] on white; where the configuration says `mirrored`, means over picture and mirror image, which
        the method that trained the weights does not take.

        The mirror image of a symmetric object shows the same object, so what the encoder takes for another one in it is an error, and half
        of it goes in the mean. The picture's own colours (`nn.encoder.palette`), which lie behind the code, stay.
        """
        return self._codes(*self._read(images))

    @property
    def predicts_camera(self) -> bool:
        return self.config.camera_hidden > 0

    def predict_camera(self, images: Float[Tensor, "batch 3 height width"]) -> Cameras:
        """As `Method.predict_camera`; the world's origin lies on their optical axes."""
        if not self.predicts_camera:
            return super().predict_camera(images)
        return self._cameras(*self._read(images), images.shape[-1])

    def encode_with_cameras(
        self, images: Float[Tensor, "batch 3 height width"]
    ) -> tuple[Float[Tensor, "batch code"], Cameras | None]:
        """As `encode` and `predict_camera`, from the same passes of the encoder."""
        seen = self._read(images)
        return self._codes(*seen), self._cameras(*seen, images.shape[-1]) if self.predicts_camera else None

    def _read(self, images: Float[Tensor, "batch 3 height width"]) -> tuple[Encoding, Encoding | None]:
        """What the encoder makes of pictures, and of their mirror images where these count."""
        resized = self.resized(images)
        return self.encoder.read(resized), self.encoder.read(resized.flip(-1)) if self.config.mirrored else None

    def _codes(self, seen: Encoding, mirrored: Encoding | None) -> Float[Tensor, "batch code"]:
        if mirrored is None:
            return seen.code
        width = self.config.code_width
        return torch.cat([(seen.code[:, :width] + mirrored.code[:, :width]) / 2, seen.code[:, width:]], dim=1)

    def _cameras(self, seen: Encoding, mirrored: Encoding | None, size: int) -> Cameras:
        rotation, place = self.camera_head(seen)
        if mirrored is not None:
            rotation, place = mean_over_mirror_images((rotation, place), self.camera_head(mirrored))
        return placed_cameras(rotation, place, size)

    def shape(self, codes: Float[Tensor, "batch code"]) -> Shape:
        """Shapes of codes."""
        if self.deformed:
            return DeformedShape(self.deform_net(codes), self.template())
        field, unconditioned = self.generator(codes), self.generator.unconditioned
        return ObjectSpaceShape(CanonicalField.of(field, unconditioned, self.config, self.octave_weights))

    def template(self) -> CanonicalField:
        """The category's canonical field; its own features u are not kept, so it is evaluated with given φ only."""
        tensors = {name: getattr(self, f"template_{name.replace('.', '_')}") for name in self.template_names}
        features = nn.Identity() if self.config.point_features else None
        return CanonicalField.of(Field.from_tensors(tensors), features, self.config, self.octave_weights)


def export_tensors(method: TARS, *, deformed: bool, mean_code: Float[Tensor, "code"]) -> dict[str, Tensor]:
    """What `InferenceModel` needs of a trained method, and the mean code of its training pictures."""
    state = method.state_dict()
    wanted = ("encoder.", "camera_head.", "octave_weights", "deform_net." if deformed else "generator.")
    tensors = {name: value for name, value in state.items() if name.startswith(wanted)}
    if deformed:
        with torch.no_grad():
            baked = method.template().field.tensors()
        tensors |= {TEMPLATE + name: value for name, value in baked.items()}
    return tensors | {"mean_code": mean_code}


def export_mesh_tensors(method: MeshMethod, mean_code: Float[Tensor, "code"]) -> dict[str, Tensor]:
    """A trained mesh system, all of which reconstruction needs, and the mean code of its training pictures."""
    return method.state_dict() | {"mean_code": mean_code}


def inference_model(tensors: dict[str, Tensor], config: ModelConfig, source: str) -> InferenceModel | MeshMethod:
    """The model of exported tensors, in evaluation mode.

    Raises:
        UserError: tensors are missing, unknown, or of another preset's shapes.
    """
    template = unprefixed(tensors, TEMPLATE)
    if config.method in MESH_METHODS:  # the vertices of a user's template are among the tensors
        model = mesh_method_class(config.method)(replace(config, mesh=replace(config.mesh, template=None)))
    else:
        model = InferenceModel(config, template or None)
    rest = {name: value for name, value in tensors.items() if not name.startswith(TEMPLATE)}
    try:
        missing, unknown = model.load_state_dict(rest, strict=False)
    except RuntimeError as error:
        raise UserError(
            f"{source}: weights of another preset than its header says ({first_misfit(error)}); fetch or train it again"
        ) from error
    missing = [name for name in missing if not name.startswith("template_")]
    if missing or unknown:
        raise UserError(
            f"{source}: {len(missing)} tensors missing and {len(unknown)} unknown, first {[*missing, *unknown][0]!r}; "
            "it was written by another version or cut; fetch or train it again"
        )
    return model.eval()
