"""Named configurations: `compact` for two CPU cores, and the published ones, exact to the parameter (FACTS §1.2 - §1.5)."""

from dataclasses import replace

from tars3d.config import LossWeights, ModelConfig, Preset, Stage, TrainingConfig
from tars3d.errors import UserError

COMPACT_MODEL = ModelConfig(
    picture_size=128,
    encoder_input=64,
    framing="bbox",
    padding=1.15,
    encoder_widths=(32, 64, 128, 256),
    encoder_hub_id=None,
    code_width=256,
    width=64,
    hidden=160,
    generator_depth=1,
    deform_depth=1,
    feature_octaves=1,
    near_constant=True,
    bound=0.55,
)


def compact() -> Preset:
    """Small networks and first-order losses: a good model in about two hours on two cores."""
    losses = LossWeights(
        render=1.0,
        silhouette=1.0,
        intersection=3.0,
        free_space=0.1,
        eikonal=0.1,
        symmetry=0.5,
        curvature=0.003,
    )
    reconstruct = Stage(
        name="stage 1",
        kind="reconstruct",
        steps=7_000,
        losses=losses,
        march_steps=8,
        batch=8,
        views=2,
        rays=64,
        boundary_rays=0.5,
        points=96,
        point_range=0.6,
        surface_points=0.5,
        learning_rate=7e-4,
        cosine=True,
        anneal=0.4,
    )
    stages = (
        Stage(
            name="sphere", kind="sphere", steps=300, batch=8, points=512, point_range=0.8, radius=0.4,
            learning_rate=1e-3, cosine=True,
        ),
        reconstruct,
        Stage(name="canonical code", kind="canonical_code"),
        Stage(
            name="deformation", kind="distill_deformation", steps=1_200, batch=8, points=512, point_range=0.6,
            losses=LossWeights(deformation=0.05), learning_rate=7e-4, cosine=True,
        ),
        replace(
            reconstruct, name="stage 2", deformed=True, steps=7_000, learning_rate=5e-4, anneal=0.0,
            losses=replace(losses, deformation=0.05),
        ),
    )  # fmt: skip
    training = TrainingConfig(
        stages=stages,
        near=-0.8,
        far=0.8,
        silhouette_samples=4,
        bisection_steps=3,
        derivatives="differences",
        flip=True,
        color_jitter=(0.2, 0.2, 0.2, 0.1),
    )
    return Preset(COMPACT_MODEL, training)


SHAPENET_MODEL = ModelConfig()
ORTHOGRAPHIC_MODEL = ModelConfig(
    picture_size=128,
    encoder_input=128,
    framing="bbox",
    padding=1.2,
    code_width=256,
    width=64,
    hidden=256,
    generator_depth=1,
    deform_depth=3,
    feature_octaves=1,
    bound=1.2,
)
PASCAL3D_MODEL = ORTHOGRAPHIC_MODEL
CUB_MODEL = replace(ORTHOGRAPHIC_MODEL, deform_depth=1, padding=3.0)
PIX3D_MODEL = replace(ORTHOGRAPHIC_MODEL, code_width=512, generator_depth=3, deform_depth=3)

JITTER = (0.2, 0.2, 0.2, 0.5)


def _published(
    *,
    first: Stage,
    second: Stage,
    sphere_radius: float,
    deformation_radius: float,
    point_range: float,
    training: TrainingConfig,
    model: ModelConfig,
) -> Preset:
    """The five steps of the published curriculum around its two reconstruct stages."""
    sphere = Stage(
        name="sphere", kind="sphere", steps=4000, batch=1, radius=sphere_radius, point_range=point_range
    )
    canonical = Stage(name="canonical code", kind="canonical_code")
    deformation = replace(sphere, name="deformation", kind="sphere_deformation", radius=deformation_radius)
    first = replace(first, name="stage 1", point_range=point_range)
    second = replace(second, name="stage 2", point_range=point_range, deformed=True)
    return Preset(model, replace(training, stages=(sphere, first, canonical, deformation, second)))


def paper_shapenet() -> Preset:
    """ShapeNet chairs as published; 413k and 285k iterations to the checkpoints used."""
    return _published(
        model=SHAPENET_MODEL,
        training=TrainingConfig(),
        sphere_radius=0.5,
        deformation_radius=0.5,
        point_range=1.0,
        first=Stage(name="", kind="reconstruct", steps=413_000),
        second=Stage(
            name="", kind="reconstruct", steps=285_000,
            losses=LossWeights(silhouette=3, intersection=1, eikonal=0.1, deformation=0.01),
        ),
    )  # fmt: skip


def _orthographic_training(**changes) -> TrainingConfig:
    return replace(TrainingConfig(near=-1.3, far=1.3), **changes)


def paper_pascal3d() -> Preset:
    """Pascal3D+ chairs as published; 29.7k and 63k iterations."""
    return _published(
        model=PASCAL3D_MODEL,
        training=_orthographic_training(color_jitter=JITTER, crop_jitter=0.2, symmetry_axis=2),
        sphere_radius=1.0,
        deformation_radius=0.5,
        point_range=2.0,
        first=Stage(
            name="", kind="reconstruct", steps=29_700,
            losses=LossWeights(render=10, silhouette=3, intersection=1, eikonal=1),
        ),
        second=Stage(
            name="", kind="reconstruct", steps=63_000, march_steps=20,
            losses=LossWeights(render=10, silhouette=3, intersection=3, eikonal=0.1, deformation=0.1),
        ),
    )  # fmt: skip


def paper_cub() -> Preset:
    """CUB birds as published; 59.5k and 112k iterations."""
    return _published(
        model=CUB_MODEL,
        training=_orthographic_training(color_jitter=JITTER, crop_jitter=0.2, symmetry_axis=2),
        sphere_radius=1.0,
        deformation_radius=1.0,
        point_range=2.0,
        first=Stage(
            name="", kind="reconstruct", steps=59_500, march_steps=20, rays=2048,
            losses=LossWeights(render=10, silhouette=3, intersection=1, eikonal=1),
        ),
        second=Stage(
            name="", kind="reconstruct", steps=112_000, march_steps=20, rays=2048,
            losses=LossWeights(render=5, silhouette=3, intersection=3, eikonal=1, deformation=0.1),
        ),
    )  # fmt: skip


def paper_pix3d() -> Preset:
    """Pix3D + Pascal3D+ chairs as published; 51k and 204k iterations."""
    return _published(
        model=PIX3D_MODEL,
        training=_orthographic_training(color_jitter=JITTER, symmetry_axis=2),
        sphere_radius=1.0,
        deformation_radius=0.5,
        point_range=2.0,
        first=Stage(
            name="", kind="reconstruct", steps=51_000, march_steps=20, rays=2048,
            losses=LossWeights(render=10, silhouette=3, intersection=10, free_space=1, eikonal=2, symmetry=1),
        ),
        second=Stage(
            name="", kind="reconstruct", steps=204_000, march_steps=20, rays=2048,
            losses=LossWeights(
                render=10, silhouette=3, intersection=3, eikonal=0.1, deformation=0.1, symmetry=1
            ),
        ),
    )  # fmt: skip


PRESETS = {
    "compact": compact,
    "paper-shapenet": paper_shapenet,
    "paper-pascal3d": paper_pascal3d,
    "paper-cub": paper_cub,
    "paper-pix3d": paper_pix3d,
}


def preset(name: str) -> Preset:
    """A preset by name.

    Raises:
        UserError: there is none of that name.
    """
    if name not in PRESETS:
        raise UserError(f"--preset {name}: no such preset; choose one of {', '.join(PRESETS)}")
    return PRESETS[name]()


def scaled(preset: Preset, factor: float) -> Preset:
    """The preset with the steps of every stage multiplied by `factor` (at least one step where there were any)."""
    stages = tuple(
        replace(stage, steps=max(1, round(stage.steps * factor)) if stage.steps else 0)
        for stage in preset.training.stages
    )
    return replace(preset, training=replace(preset.training, stages=stages))
