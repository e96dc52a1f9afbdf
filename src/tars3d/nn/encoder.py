"""The picture encoder: a ResNet of any size from `transformers`, global average, one linear layer to the code."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import ResNetConfig, ResNetModel

from tars3d.errors import UserError


class Encoder(nn.Module):
    """Picture to code.

    Args:
        widths: channels of the four stages; (64, 128, 256, 512) is ResNet-18.
        depths: residual blocks per stage.
        code_width: length of the code.
    """

    def __init__(self, widths: tuple[int, ...], depths: tuple[int, ...], code_width: int):
        super().__init__()
        self.backbone = ResNetModel(
            ResNetConfig(
                num_channels=3,
                embedding_size=widths[0],
                hidden_sizes=list(widths),
                depths=list(depths),
                layer_type="basic",
                hidden_act="relu",
            )
        )
        self.code = nn.Linear(widths[-1], code_width)

    def forward(self, images: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch code"]:
        """Codes of pictures in [-1, 1] whose background is white (+1), any size from 32 px up."""
        # Contiguous: oneDNN's channels-last convolutions corrupt the heap in layers of 4 channels (PyTorch 2.13, CPU).
        return self.code(self.backbone(images.contiguous()).pooler_output.flatten(1))

    def load_pretrained(self, hub_id: str) -> None:
        """Take the backbone's weights from a hub id or a folder, e.g. `microsoft/resnet-18` (ImageNet).

        Raises:
            UserError: nothing can be loaded from there, or its layers differ from this encoder's.
        """
        try:
            source = ResNetModel.from_pretrained(hub_id, use_safetensors=True)
        except (OSError, ValueError) as error:
            raise UserError(
                f"{hub_id}: no pretrained ResNet could be loaded ({str(error).splitlines()[0]}); "
                "check the hub id and the connection, or train with --no-pretrained"
            ) from error
        try:
            with torch.no_grad():
                self.backbone.load_state_dict(source.state_dict())
        except RuntimeError as error:
            raise UserError(
                f"{hub_id}: its layers differ from the preset's encoder; choose a hub id of the same ResNet size"
            ) from error
