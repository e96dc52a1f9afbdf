"""How the mesh systems train: SoftRas and CMR with their published sizes and schedules (`paper-` presets), or `compact` ones.

`presets.for_method` calls it. What a data set decides (framing, sphere, cube) comes from the preset of TARS on the same data.
"""

import os
from dataclasses import replace
from pathlib import Path

from tars3d.config import Preset, Stage, TrainingConfig
from tars3d.errors import UserError
from tars3d.mesh_config import MeshNetworks, MeshTerms
from tars3d.methods import MESH_METHODS

SOFTRAS_TERMS = MeshTerms(sigma=1e-4, iou=1.0, laplacian=5e-3, flatten=5e-4)
WITHOUT_KEYPOINTS = 1 / 30
"""CMR's two regularisers are weighed against a keypoint term of weight 30, which the paper's baseline leaves out. At their own weights
without it, the least total loss is that of a sphere shrunk to a point (tests/test_mesh_methods.py)."""
CMR_TERMS = MeshTerms(
    sigma=1e-5,
    mask=2.0,
    camera=2.0,
    displacement=10.0 * WITHOUT_KEYPOINTS,
    smoothness=30.0 * WITHOUT_KEYPOINTS,
    texture=0.5,
    texture_inside=0.5,
)
CMR_EPOCHS = 500
"""Of CMR's published model. With the 5,964 pictures of CUB (paper §A.1) and a batch of 16 they are 186,375 steps."""


def for_mesh(base: Preset, method: str, *, published: bool) -> Preset:
    """The settings of a mesh system where `base` are those of TARS."""
    systems = {"softras": (softras_published, softras_compact), "cmr": (cmr_published, cmr_compact)}
    return systems[method][not published](base)


def softras_published(base: Preset) -> Preset:
    """SoftRas's published code: 250,000 steps of 64 pictures; from 150,000 on with 0.3 times the step size and σ."""
    model = replace(
        base.model, method="softras", mirrored=False, picture_size=64, encoder_input=64, encoder_hub_id=None, code_width=512,
        point_features=0, camera_hidden=0,
    )  # fmt: skip
    soft = Stage(
        name="soft", kind="softras", steps=150_000, batch=64, rays=0, points=0, learning_rate=1e-4, mesh=SOFTRAS_TERMS
    )
    sharp = replace(soft, name="sharp", steps=100_000, learning_rate=3e-5, mesh=replace(SOFTRAS_TERMS, sigma=3e-5))
    training = replace(
        base.training, stages=(soft, sharp), flip=False, crop_jitter=0.0, color_jitter=(0.0,) * 4, recolor=(0.0,) * 3
    )
    return Preset(model, training)


def softras_compact(base: Preset) -> Preset:
    """The same losses with a third of the weights, a quarter of the batch and the step size that such networks take."""
    published = softras_published(base)
    networks = MeshNetworks(channels=(32, 64, 128), encoder_hidden=512, decoder_hidden=(512, 1024))
    model = replace(published.model, code_width=256, mesh=networks)
    soft, sharp = published.training.stages
    stages = (
        replace(soft, steps=9_000, batch=16, learning_rate=3e-4, cosine=True),
        replace(sharp, steps=6_000, batch=16, learning_rate=1e-4, cosine=True),
    )
    return Preset(model, _augmented(published.training, base, stages))


def cmr_published(base: Preset) -> Preset:
    """CMR's published code: 256 pixels, boxes padded by 5% a side, 16 pictures a step. No keypoints (paper §A.3)."""
    networks = MeshNetworks(radius=_sphere_radius(base))
    model = replace(
        base.model, method="cmr", mirrored=False, picture_size=256, encoder_input=256, framing="bbox", padding=1.1, code_width=200,
        point_features=0, camera_hidden=0, mesh=networks,
    )  # fmt: skip
    steps = CMR_EPOCHS * 5964 // 16
    stage = Stage(name="cmr", kind="cmr", steps=steps, batch=16, rays=0, points=0, learning_rate=1e-4, mesh=CMR_TERMS)
    training = replace(
        base.training, stages=(stage,), flip=True, crop_jitter=0.05, color_jitter=(0.0,) * 4, recolor=(0.0,) * 3
    )
    return Preset(model, training)


def cmr_compact(base: Preset) -> Preset:
    """The same losses on pictures of 64 pixels, with the narrow ResNet of `compact` and a smaller texture flow."""
    published = cmr_published(base)
    networks = replace(published.model.mesh, reduced=256, flow_grid=(2, 4), flow_channels=(128, 64, 32, 16, 16))
    model = replace(
        published.model, picture_size=64, encoder_input=64, padding=base.model.padding, mesh=networks,
        encoder_hub_id=None,
    )  # fmt: skip
    (stage,) = published.training.stages
    stages = (replace(stage, steps=8_000, learning_rate=5e-4, cosine=True, mesh=replace(stage.mesh, sigma=1e-4)),)
    return Preset(model, _augmented(published.training, base, stages))


def with_mesh_files(preset: Preset, template: Path | None, perceptual: Path | None) -> Preset:
    """The preset with a user's template mesh and LPIPS weights.

    Raises:
        UserError: its system takes none.
    """
    method = preset.model.method
    for option, file, systems in (("--template", template, MESH_METHODS), ("--perceptual", perceptual, ("cmr",))):
        if file is not None and method not in systems:
            raise UserError(f"{option} {file}: {method} takes none; leave it out, or choose --method {systems[-1]}")
    model, training = preset.model, preset.training
    if template is not None:
        model = replace(model, mesh=replace(model.mesh, template=os.path.abspath(template)))
    if perceptual is not None:
        stages = tuple(
            replace(s, mesh=replace(s.mesh, perceptual=os.path.abspath(perceptual))) for s in training.stages
        )
        training = replace(training, stages=stages)
    return Preset(model, training)


def _augmented(training: TrainingConfig, base: Preset, stages: tuple[Stage, ...]) -> TrainingConfig:
    """The augmentation of TARS's preset: the small collections that `compact` is for need it."""
    own = base.training
    return replace(training, stages=stages, flip=own.flip, color_jitter=own.color_jitter, crop_jitter=own.crop_jitter)


def _sphere_radius(base: Preset) -> float:
    """Of the sphere from which TARS starts on these data."""
    return next((stage.radius for stage in base.training.stages if stage.kind == "sphere"), 0.5)
