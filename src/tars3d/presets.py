"""Named configurations: `compact` for two CPU cores, the published ones (`published_presets`), and how each method changes them.

`tars3d train` and `tars3d bench` take them by name; `convert` takes the published ones.
"""

from collections.abc import Sequence
from dataclasses import replace

from tars3d.arguments import Symmetric
from tars3d.config import LossWeights, ModelConfig, Preset, Stage, TrainingConfig
from tars3d.errors import UserError
from tars3d.mesh_presets import for_mesh
from tars3d.methods import MESH_METHODS, method_class
from tars3d.published_presets import paper_cub, paper_pascal3d, paper_pix3d, paper_shapenet, published_sdf_srn

COMPACT_MODEL = ModelConfig(
    picture_size=128,
    encoder_input=96,
    framing="bbox",
    padding=1.15,
    encoder_widths=(32, 64, 128, 256),
    encoder_hub_id=None,
    code_width=256,
    width=64,
    hidden=160,
    generator_depth=1,
    deform_depth=1,
    octaves=4,
    octave_decay=0.8,
    feature_octaves=1,
    near_constant=True,
    hyper_activation="silu",
    palette=3,
    camera_hidden=256,
    camera_depth=3,
    camera_rank=192,
    camera_cells=(6, 3),
    mirrored=True,
    bound=0.55,
)


def compact() -> Preset:
    """Small networks and first-order losses: a good model in one and a half to two hours on one core.

    Most steps are cheap: the `hull` stages fit the field to the objects' visual hulls at points of space, without a ray.
    The stages of the paper follow each of them and need few steps, for colour, marcher and what silhouettes do not show.
    """
    # Where a picture leaves the place of a part open, the field takes a quantile of what it may be, as filling and carving pull with their
    # weights: at 4 to 1 a part stays from a chance of one in five on. At equal weights legs and slats vanish.
    losses = LossWeights(
        render=0.3, silhouette=0.0, intersection=1.0, free_space=0.1, eikonal=0.4, carving=10.0, filling=40.0,
        color=0.5, camera=0.05,
    )  # fmt: skip
    hull = Stage(
        name="hull",
        kind="reconstruct",
        steps=14_000,
        losses=replace(losses, render=0.0, intersection=0.0, free_space=0.0),
        batch=16,
        rays=0,
        points=32,
        point_range=0.6,
        surface_points=0.5,
        hull_points=256,
        learning_rate=1.5e-3,
        cosine=True,
        anneal=0.5,
    )
    first = replace(
        hull, name="stage 1", steps=2_000, losses=losses, march_steps=8, batch=8, rays=128, boundary_rays=0.25,
        learning_rate=5e-4, anneal=0.0,
    )  # fmt: skip
    sphere = Stage(
        name="sphere", kind="sphere", steps=300, batch=8, points=512, point_range=0.8, radius=0.4,
        learning_rate=1e-3, cosine=True,
    )  # fmt: skip
    deformation = Stage(
        name="deformation", kind="distill_deformation", steps=1_500, batch=8, points=512, point_range=0.6,
        losses=LossWeights(deformation=0.05, template_normal=0.3), learning_rate=1e-3, cosine=True,
    )  # fmt: skip
    # Then the median where an object is thick, which 4 to 1 swells, and 8 to 1 where it is thin: a leg stays from one in nine on.
    finer = {"filling": 10.0, "thin_filling": 70.0, "deformation": 0.03, "template_normal": 0.5}
    deformed_hull = replace(
        hull, name="deformed hull", deformed=True, steps=8_000, learning_rate=1e-3, anneal=0.0,
        losses=replace(hull.losses, **finer),
    )  # fmt: skip
    second = replace(first, name="stage 2", deformed=True, steps=2_000, losses=replace(losses, render=1.5, **finer))
    color = Stage(
        name="color", kind="color", deformed=True, steps=3_000, batch=16, rays=0, hull_points=1024, learning_rate=1e-3, cosine=True
    )  # fmt: skip
    camera = Stage(
        name="camera", kind="camera", deformed=True, steps=8_000, batch=4, recalled=60, rays=0, learning_rate=1e-3, cosine=True
    )  # fmt: skip
    canonical = Stage(name="canonical code", kind="canonical_code")
    stages = (sphere, hull, first, canonical, deformation, deformed_hull, second, color, camera)
    training = TrainingConfig(
        stages=stages,
        near=-0.8,
        far=0.8,
        silhouette_samples=1,
        bisection_steps=3,
        derivatives="differences",
        flip=True,
        color_jitter=(0.1, 0.1, 0.1, 0.0),
        recolor=(0.3, 0.5, 0.5),
    )
    return Preset(COMPACT_MODEL, training)


def without_template_normals(stage: Stage) -> Stage:
    """The stage without a term that needs surfaces which are known from all sides."""
    return replace(stage, losses=replace(stage.losses, template_normal=0.0))


def compact_single_view() -> Preset:
    """`compact` for a small, symmetric category with one picture an object: its hulls are completed by the category's."""
    base = compact()

    def adapted(stage: Stage) -> Stage:
        stage = without_template_normals(stage)
        if stage.kind != "reconstruct":
            return stage
        # Completed hulls are guesses where no silhouette speaks, so carving and filling weigh nearly the same.
        return replace(
            stage,
            batch=8,
            losses=replace(stage.losses, filling=2 * stage.losses.carving, thin_filling=0.0, symmetry=1.0),
        )

    steps = {"hull": 6_000, "deformation": 1_000, "deformed hull": 4_000, "stage 2": 500}
    stages = tuple(
        replace(adapted(stage), steps=steps.get(stage.name, stage.steps))
        for stage in base.training.stages
        if stage.name != "stage 1"
    )
    model = replace(
        base.model,
        encoder_input=64,
        encoder_widths=(16, 32, 64, 128),
        camera_rank=0,
        camera_cells=(4, 2),
        mirrored=False,
    )
    return Preset(model, replace(base.training, stages=stages, category_hull=True, roll=15.0))


def compact_unpaired() -> Preset:
    """`compact` for pictures of which no two are known to show the same object, of a category of any shape: the paper's supervision.

    Their hulls are cones, so there are stages with rays alone, and these take more steps. Carving stays, which is the silhouette bound of the one
    picture. Coverage keeps surfaces in the cube, and solid: a marcher that knows nothing yet overshoots, and the intersection term alone
    then makes surfaces where it ends, behind the object, where nothing contradicts.
    """
    base = compact()
    stages = base.training.stages

    def adapted(stage: Stage) -> Stage:
        stage = without_template_normals(stage)
        if stage.kind != "reconstruct":
            return stage
        anneal = max(twin.anneal for twin in stages if twin.kind == stage.kind and twin.deformed == stage.deformed)
        losses = replace(
            stage.losses, filling=0.0, thin_filling=0.0, color=0.0, camera=0.0, intersection=3.0, coverage=1.0
        )
        return replace(
            stage, views=1, losses=losses,
            # 1e-3 learnt chairs from rays alone in a trial of 100 steps; 2e-3 ended without a surface (docs/notebook/quality.md).
            learning_rate=stage.learning_rate if stage.deformed else 1e-3,
            steps=7_500 if stage.deformed else 12_000, anneal=anneal,
        )  # fmt: skip

    kept = tuple(
        adapted(stage)
        for stage in stages
        if stage.kind not in ("color", "camera") and (stage.rays or stage.kind != "reconstruct")
    )
    # Four octaves answer few steps and one picture with an egg-box in the outline's box, two with a chair.
    model = replace(base.model, encoder_input=64, camera_hidden=0, octaves=2, mirrored=False)
    return Preset(model, replace(base.training, stages=kept, silhouette_samples=8))


PRESETS = {
    "compact": compact,
    "compact-single-view": compact_single_view,
    "compact-unpaired": compact_unpaired,
    "paper-shapenet": paper_shapenet,
    "paper-pascal3d": paper_pascal3d,
    "paper-cub": paper_cub,
    "paper-pix3d": paper_pix3d,
}


MOST_POINT_FEATURES = 64  # the paper finds no gain beyond 4
CORRECTION_PER_DEFORMATION = 10.0  # DIF's published code weighs |c| by 50 and deformation by 5 on chairs


def preset(name: str, method: str = "tars", point_features: int | None = None) -> Preset:
    """A preset by name, as `method` trains it.

    Raises:
        UserError: there is no preset of that name; see also `for_method`.
    """
    if name not in PRESETS:
        raise UserError(f"--preset {name}: no such preset; choose one of {', '.join(PRESETS)}")
    base = PRESETS[name]()
    if method == "sdf-srn" and name.startswith("paper-"):
        base = published_sdf_srn(base, name)
    return for_method(base, method, point_features, published=name.startswith("paper-"))


def for_method(base: Preset, method: str, point_features: int | None = None, *, published: bool = False) -> Preset:
    """TARS's settings as another system trains with them; what the paper leaves open is decided here.

    Without a canonical space there are a sphere and the stages of the object-space field alone, and these take the steps of
    their deformed twins too. A correction's term weighs ten times what the deformation's does in the same stage.

    Args:
        point_features: k, where it is not the preset's; 0 is "TARS without point features" of Table 2.
        published: a mesh system takes its published sizes, not the compact ones.

    Raises:
        UserError: there is no such method, or it takes no point features.
    """
    kind = None if method in MESH_METHODS else method_class(method)
    if point_features is not None and not 0 <= point_features <= MOST_POINT_FEATURES:
        raise UserError(f"--point-features {point_features}: choose a number from 0 to {MOST_POINT_FEATURES}")
    if point_features and not (kind and kind.takes_point_features):
        raise UserError(f"--point-features {point_features}: {method} has none; leave it out, or choose --method tars")
    if kind is None:
        return for_mesh(base, method, published=published)
    if not kind.takes_point_features:
        point_features = 0
    model = replace(base.model, method=method)
    if point_features is not None:
        model = replace(model, point_features=point_features)
    stages = base.training.stages
    if not kind.has_canonical_space:
        stages = _in_object_space(stages)
    if kind.correction:
        stages = tuple(
            replace(
                stage, losses=replace(stage.losses, correction=CORRECTION_PER_DEFORMATION * stage.losses.deformation)
            )
            for stage in stages
        )
    return Preset(model, replace(base.training, stages=stages))


def _in_object_space(stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
    """The curriculum of a system without a canonical space: deformed stages become stages of the object-space field, or lengthen it
    where there is one of their kind (with rays or without)."""
    reconstructing = [stage for stage in stages if stage.kind == "reconstruct"]
    deformed = [stage for stage in reconstructing if stage.deformed]
    plain = {bool(stage.rays) for stage in reconstructing if not stage.deformed}
    lengthening = [stage for stage in deformed if bool(stage.rays) in plain]

    def own(stage: Stage) -> Stage:
        twins = lengthening if stage.kind == "reconstruct" and not stage.deformed else []
        more = sum(twin.steps for twin in twins if bool(twin.rays) == bool(stage.rays))
        return replace(stage, deformed=False, steps=stage.steps + more)

    kinds = ("sphere", "reconstruct", "color", "camera")
    return tuple(own(stage) for stage in stages if stage.kind in kinds and stage not in lengthening)


def with_symmetry(preset: Preset, symmetric: Symmetric) -> Preset:
    """The preset for objects that are alike left and right, or not; `auto` leaves it as it is.

    Raises:
        UserError: they are not, and something of the preset relies on it.
    """
    if symmetric == "auto":
        return preset
    model, training = replace(preset.model, symmetric=symmetric == "yes"), preset.training
    if symmetric == "yes":
        return Preset(model, training)
    if training.category_hull:
        raise UserError("--symmetric no: hulls of single pictures are made symmetric here; choose another --preset")
    if model.method == "cmr":
        raise UserError("--symmetric no: cmr's mean shape is made symmetric here; choose another --method")
    stages = tuple(replace(stage, losses=replace(stage.losses, symmetry=0.0)) for stage in training.stages)
    return Preset(replace(model, mirrored=False), replace(training, flip=False, stages=stages))


def scaled(preset: Preset, factor: float) -> Preset:
    """The preset with the steps of every stage multiplied by `factor` (at least one step where there were any)."""
    stages = tuple(
        replace(stage, steps=max(1, round(stage.steps * factor)) if stage.steps else 0)
        for stage in preset.training.stages
    )
    return replace(preset, training=replace(preset.training, stages=stages))


def with_steps(preset: Preset, items: Sequence[str]) -> Preset:
    """The preset with other numbers of steps in some stages.

    Args:
        items: STAGE=STEPS each, the stage by its name; 0 leaves it out.

    Raises:
        UserError: there is no such stage, or no such number, or a stage is named twice.
    """
    known = [stage.name for stage in preset.training.stages if stage.steps]
    steps: dict[str, int] = {}
    for item in items:
        name, _, number = item.partition("=")
        if name not in known or not (number.isascii() and number.isdecimal()):
            raise UserError(f"--steps {item}: give STAGE=STEPS, 0 or more, of one of these stages: {', '.join(known)}")
        if name in steps:
            raise UserError(f"--steps {item}: {name} is named more than once; name each stage once")
        steps[name] = int(number)
    if known and not any(steps.get(name, 1) for name in known):
        raise UserError(
            f"--steps {' '.join(items)}: leaves nothing to train; keep one of these stages: {', '.join(known)}"
        )
    stages = tuple(
        replace(stage, steps=steps.get(stage.name, stage.steps))
        for stage in preset.training.stages
        if steps.get(stage.name) != 0
    )
    return replace(preset, training=replace(preset.training, stages=stages))
