"""Training that starts from a trained model instead of from a sphere: `tars3d train DATA --start MODEL`.

A model file keeps what reconstruction needs: encoder, camera head, g, and the canonical field as plain matrices. Training needs the
hypernetwork f that makes that field, and the marcher. f's last biases are set so that it makes just these matrices at the canonical code; the
marcher and the features u(x) of a position alone start anew, and learn fast.
"""

from dataclasses import replace
from typing import Any

import torch

from tars3d.config import ModelConfig, Preset
from tars3d.errors import UserError
from tars3d.methods import MESH_METHODS
from tars3d.methods.inference import TEMPLATE
from tars3d.methods.tars import TARS
from tars3d.nn.fields import Field
from tars3d.weights import first_misfit, load_model, locate_model, unprefixed


def started_from(preset: Preset, source: str) -> Preset:
    """The networks of the model `source` in the part of the preset's curriculum that is still ahead of it.

    A model with a canonical field has the stages in canonical space ahead, one without has all but the sphere. A model that predicts no
    camera does not learn to; one that does has a camera head of the preset's form.

    Raises:
        UserError: there is no such model, it is of another method or of one that starts from a mesh, or nothing is ahead.
    """
    tensors, model, _ = load_model(locate_model(source))
    canonical = bool(unprefixed(tensors, TEMPLATE))
    if model.method in MESH_METHODS:
        raise UserError(
            f"--start {source}: {model.method} starts from its template; give --template, or leave --start out"
        )
    if model.method != preset.model.method:
        raise UserError(f"--start {source}: is a model of {model.method}; give --method {model.method}")
    ahead = tuple(
        stage
        for stage in preset.training.stages
        if (stage.deformed if canonical else not stage.kind.startswith("sphere"))
    )
    if not ahead:
        raise UserError(f"--start {source}: the preset has no stages for it; choose --preset compact")
    if model.camera_hidden and any(stage.kind == "camera" for stage in ahead):
        model = replace(model, **camera_form(preset.model))
    if not model.camera_hidden:
        ahead = tuple(
            replace(stage, losses=replace(stage.losses, camera=0.0)) for stage in ahead if stage.kind != "camera"
        )
    return Preset(model, replace(preset.training, stages=ahead))


@torch.no_grad()
def load_into(method: TARS, source: str) -> None:
    """Take over the tensors of the model `source` (see `inference.export_tensors`), of the same configuration. A camera head of another form
    begins anew.

    Raises:
        UserError: there is no such model, or its weights do not fit.
    """
    tensors, config, _ = load_model(locate_model(source))
    left = [TEMPLATE, "mean_code"]
    if camera_form(config) != camera_form(method.config):
        left.append("camera_head.")
    rest = {name: value for name, value in tensors.items() if not name.startswith(tuple(left))}
    try:
        _, unknown = method.load_state_dict(rest, strict=False)
    except RuntimeError as error:
        raise UserError(f"--start {source}: its weights do not fit ({first_misfit(error)})") from error
    if unknown:
        raise UserError(f"--start {source}: has weights that its configuration does not name ({unknown[0]})")
    template = unprefixed(tensors, TEMPLATE)
    if not template:
        return
    if "mean_code" in tensors:
        method.canonical_code.copy_(tensors["mean_code"])
    wanted = Field.from_tensors({name: value.to(method.canonical_code.device) for name, value in template.items()})
    made, generator = method.template().field, method.generator
    for layer, now, target in zip(generator.trunk_layers(), made.trunk, wanted.trunk, strict=True):
        layer.last.bias.add_((target - now).flatten())
    for name, target in wanted.heads.items():
        generator.head_layer(name).last.bias.add_((target - made.heads[name]).flatten())


def camera_form(model: ModelConfig) -> dict[str, Any]:
    """The settings that say what a model's camera head looks like."""
    return {name: getattr(model, name) for name in ("camera_hidden", "camera_depth", "camera_rank", "camera_cells")}
