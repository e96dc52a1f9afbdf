"""The configurations of the published code, exact to the parameter, by the names that `presets` gives them.

Their numbers are those of docs/paper-vs-code.md, C5, C6 and C11; steps: docs/methods.md.
"""

from dataclasses import replace

from tars3d.config import LossWeights, ModelConfig, Preset, Stage, TrainingConfig

SDF_SRN_CHAIRS = 200_000  # iterations on ShapeNet chairs; on Pascal3D+ as TARS's stage 1 (docs/methods.md, Steps)

SHAPENET_MODEL = ModelConfig()
ORTHOGRAPHIC_MODEL = ModelConfig(
    picture_size=128,
    encoder_input=128,
    framing="annotated",
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
    sphere = Stage(name="sphere", kind="sphere", steps=4000, batch=1, radius=sphere_radius, point_range=point_range)
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
        training=_orthographic_training(color_jitter=JITTER, crop_jitter=0.2),
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
        training=_orthographic_training(color_jitter=JITTER, crop_jitter=0.2),
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
        training=_orthographic_training(color_jitter=JITTER),
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


def _before_deformation(stages: tuple[Stage, ...]) -> tuple[Stage, Stage]:
    """The sphere and stage 1 of a curriculum."""
    sphere = next(stage for stage in stages if stage.kind == "sphere")
    return sphere, next(stage for stage in stages if stage.kind == "reconstruct" and not stage.deformed)


def published_sdf_srn(base: Preset, name: str) -> Preset:
    """SDF-SRN's own schedule on ShapeNet and Pascal3D+ chairs, from its published code (docs/methods.md, Steps).

    None is published for CUB and Pix3D, where the paper trained it too: there it is SDF-SRN's sphere, then stage 1 as TARS
    trains it.
    """
    sphere, first = _before_deformation(base.training.stages)
    sphere, model = replace(sphere, steps=1000, batch=16, radius=0.5), base.model
    if name == "paper-shapenet":
        losses = replace(first.losses, silhouette=3.0, intersection=1.0)
        first = replace(first, steps=SDF_SRN_CHAIRS, losses=losses)
    if name == "paper-pascal3d":
        model = replace(model, picture_size=64, encoder_input=64)
    return Preset(model, replace(base.training, stages=(sphere, first)))
