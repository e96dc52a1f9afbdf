"""Typed configurations: what a model is, what it learns from, and how. Presets are values of these (see `presets`).

A run's settings and a model file's header hold them as JSON.
"""

import dataclasses
import types
import typing
from dataclasses import dataclass, field
from typing import Any, Literal

from tars3d.errors import UserError
from tars3d.mesh_config import MeshNetworks, MeshTerms

T = typing.TypeVar("T")
FramingMode = Literal["full", "bbox", "annotated"]


@dataclass(frozen=True)
class ModelConfig:
    """The networks. Defaults are the published ShapeNet sizes (docs/paper-vs-code.md, C11)."""

    method: str = "tars"
    """Which file of `methods/` composes the fields."""
    picture_size: int = 64
    """Side of the framed picture, pixels."""
    encoder_input: int = 64
    """Side to which the picture is averaged down before the encoder, pixels; at most `picture_size`."""
    framing: FramingMode = "full"
    """`full` takes collection pictures as they are; `bbox` crops to the mask's bounding box; `annotated` takes the square that the
    collection names for a picture, and `bbox` where it names none. Cameras follow exactly.
    """
    padding: float = 1.2
    """Side of the crop over the longer side of the mask's bounding box. Photos are always framed by it."""
    encoder_widths: tuple[int, ...] = (64, 128, 256, 512)
    """Channels of the ResNet's stages."""
    encoder_depths: tuple[int, ...] = (2, 2, 2, 2)
    """Blocks of the ResNet's stages."""
    encoder_hub_id: str | None = "microsoft/resnet-18"
    """Pretrained backbone on the hub; None starts from random weights."""
    code_width: int = 512
    """Length of the image code and of the canonical code."""
    width: int = 128
    """Width of both coordinate networks' trunks."""
    hidden: int = 512
    """Width of the hypernetworks."""
    generator_depth: int = 5
    """Hidden layers in each hypernetwork of the SDF generator f."""
    deform_depth: int = 5
    """Hidden layers in each hypernetwork of the DeformNet g."""
    octaves: int = 5
    """Octaves of the point encoding."""
    octave_decay: float = 1.0
    """Octave l is multiplied by this to the power l. 1 is as published; 0.5 gives all octaves the same slope."""
    point_features: int = 4
    """k, the added dimensions of the canonical space; 0 for none."""
    feature_octaves: int = 3
    """Octaves of the point-feature encoding."""
    near_constant: bool = False
    """Start hypernetworks as well-scaled layers that the code perturbs; False is as published."""
    palette: int = 0
    """Cells a side of the picture's grid of mean colours that the colour heads see behind the code; 0 for none, as published."""
    camera_hidden: int = 0
    """Width of the hidden layers that read the picture's camera off the encoder's maps; 0 for no such head, as published."""
    camera_depth: int = 1
    """How many of them."""
    camera_rank: int = 0
    """Rank of the first of them, which has nearly all of the head's weights; 0: full."""
    camera_cells: tuple[int, ...] = (4, 2)
    """A side, of the encoder's last two maps as that head sees them, averaged where they have more."""
    hyper_activation: Literal["relu", "silu"] = "relu"
    """Of the hypernetworks' hidden units; ReLU is as published."""
    mirrored: bool = False
    """At reconstruction, the shape's code and the camera are means over the picture and its mirror image: for objects that mirror at x = 0, trained with `flip` (ours)."""
    symmetric: bool | None = None
    """Objects mirror at x = 0, so that outlines and textures of one side do for the other (ours); None: those of some categories do, see `photo.symmetry`."""
    bound: float = 0.6
    """Half side of the cube that is searched for a surface at reconstruction, world units."""
    mesh: MeshNetworks = field(default_factory=MeshNetworks)
    """What only SoftRas and CMR have."""

    @property
    def palette_width(self) -> int:
        """Entries of the code that are colours of the picture."""
        return 3 * self.palette**2

    @property
    def whole_code_width(self) -> int:
        """Length of the code with the picture's colours behind it."""
        return self.code_width + self.palette_width


@dataclass(frozen=True)
class LossWeights:
    """Weights of the loss terms (paper §3.4; docs/paper-vs-code.md, C5); a term of weight 0 is not computed."""

    render: float = 1.0
    """Squared error of the colour at the surface point, over all rays (paper §3.4). The background's target is white
    (docs/paper-vs-code.md, P8).
    """
    silhouette: float = 1.0
    """Distance-transform lower bound of the sdf along background rays."""
    intersection: float = 3.0
    """Sign of the sdf at the end of each march."""
    free_space: float = 0.1
    """Positive sdf at the points before the end."""
    eikonal: float = 0.01
    """Unit gradient of the sdf."""
    deformation: float = 0.0
    """Squared gradient of the deformation."""
    correction: float = 0.0
    """Absolute correction of the sdf, for methods that have one (DIF: Deng et al., CVPR 2021)."""
    symmetry: float = 0.0
    """Absolute difference of the sdf between mirrored points."""
    coverage: float = 0.0
    """Negative sdf somewhere on each foreground ray within the cube, out of which no march may lead then (ours; 0 as published)."""
    carving: float = 0.0
    """The sdf is at least the signed distance to the object's visual hull (ours; 0 as published)."""
    filling: float = 0.0
    """Inside the visual hull it is at most that (ours; 0 as published)."""
    thin_filling: float = 0.0
    """The same where the hull is thin, added to `filling` (ours; 0 as published)."""
    template_normal: float = 0.0
    """Angle between the canonical field's normals and the object's, for distillation and for deformed stages with hull points (DIF's; 0 as published)."""
    color: float = 0.0
    """Squared error of the colour at points of the visual hull that a picture sees, for stages with hull points (ours; 0 as published)."""
    camera: float = 0.0
    """Error of the predicted camera, for models with a camera head (ours; 0 as published)."""
    curvature: float = 0.0
    """Absolute Laplacian of the sdf near the surface, there its mean curvature up to a factor (Neuralangelo, CVPR 2023); needs `derivatives =
    "differences"`."""


@dataclass(frozen=True)
class Stage:
    """One step of the curriculum: what it trains, on what, for how long."""

    name: str
    """Shown in progress bars, logs and errors."""
    kind: Literal[
        "sphere",
        "reconstruct",
        "canonical_code",
        "sphere_deformation",
        "distill_deformation",
        "color",
        "camera",
        "softras",
        "cmr",
    ]
    """Its class, by `training.stages.KINDS` and `training.mesh_stages.MESH_KINDS`."""
    steps: int = 0
    """Optimiser steps (ignored by `canonical_code`)."""
    deformed: bool = False
    """False: the object-space field of stage 1. True: deformation into the canonical field (stage 2)."""
    losses: LossWeights = field(default_factory=LossWeights)
    """Loss weights of a `reconstruct` stage."""
    march_steps: int = 10
    """Steps of the ray marcher."""
    batch: int = 16
    """Codes per step."""
    recalled: int = 0
    """Pictures of earlier steps that a `camera` stage learns from once more in each step, as the encoder saw them then."""
    views: int = 1
    """Pictures that supervise each code: its own, and other pictures of the same object where the collection has them."""
    rays: int = 1024
    """Rays per supervising picture; 0 leaves out every loss term that lives on rays, and the marcher."""
    boundary_rays: float = 0.0
    """Share of the rays drawn near the silhouette; the rest is uniform (published: all uniform)."""
    points: int = 10_000
    """Points per code for the derivative terms (and for the sphere stages)."""
    point_range: float = 1.0
    """Half side of the cube in which those points are uniform, world units."""
    surface_points: float = 0.0
    """Share of those points drawn around the surface instead: the visual hull's where the stage has hull points, else the marched one."""
    hull_points: int = 0
    """Points per code for the carving and filling terms, most of them near the visual hull's surface (see `data.hull`)."""
    radius: float = 0.5
    """Radius of the sphere in the sphere stages."""
    learning_rate: float = 1e-4
    """Adam's step size at its highest."""
    cosine: bool = False
    """Warm up over 2% of the steps and decay along a cosine; False is constant, as published."""
    mesh: MeshTerms = field(default_factory=MeshTerms)
    """Rendering and losses of a `softras` or `cmr` stage."""
    anneal: float = 0.0
    """Share of the steps over which the encoding's octaves fade in; 0 is none, as published."""


@dataclass(frozen=True)
class TrainingConfig:
    """Everything that `tars3d train` does besides the networks."""

    stages: tuple[Stage, ...] = ()
    """The curriculum, in order."""
    near: float = -0.732
    """Where rays start, relative to the depth of the object's centre, world units."""
    far: float = 0.768
    """Where silhouette samples end, likewise."""
    silhouette_samples: int = 5
    """Depths per ray for the silhouette and coverage terms."""
    bisection_steps: int = 10
    """Halvings between the last two points of a march."""
    margin: float = 0.01
    """ε of the intersection and free-space terms, world units."""
    derivatives: Literal["exact", "differences"] = "exact"
    """Spatial derivatives by automatic differentiation, or central differences at six neighbours (first-order graphs only)."""
    difference_step: float = 0.01
    """Distance of those neighbours, world units."""
    symmetry_axis: int = 0
    """World axis whose sign the symmetry term flips."""
    category_hull: bool = False
    """Objects with few pictures borrow the sides that they lack from the category (see `data.category_hull`; ours)."""
    roll: float = 0.0
    """The encoder's pictures are turned in their plane by up to this many degrees, and framed anew; shape and targets stay (ours)."""
    cut: float = 0.0
    """Share of the encoder's pictures that lose one side of their object, and are framed anew; shape and targets stay (ours)."""
    flip: bool = False
    """Augment with mirrored pictures (and mirrored cameras)."""
    color_jitter: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    """Of the encoded picture alone: brightness, contrast, saturation (factors in 1 ± value) and hue (± value of the colour circle)."""
    recolor: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Random colours of each object, in the encoded picture and its targets alike: brightness and saturation (factors in 1 ± value)
    and hue (± value of the colour circle)."""
    crop_jitter: float = 0.0
    """The crop's side is scaled by 1 ± this."""
    switch_features: bool = True
    """The half-batch switch: unconditioned point features for the first half of each batch in stage 2
    (docs/paper-vs-code.md, P7).
    """
    seed: int = 0
    """Of every random choice: what is random at step t is a function of (seed, stage, t)."""
    validate_every: int = 2000
    """Steps between held-out measurements."""
    validate_instances: int = 8
    """Held-out objects per measurement."""
    validate_resolution: int = 48
    """Grid of those measurements."""

    @property
    def wants_hulls(self) -> bool:
        """Whether a stage draws points around the objects' visual hulls."""
        return any(stage.hull_points for stage in self.stages)


@dataclass(frozen=True)
class Preset:
    """A model and its training."""

    model: ModelConfig
    training: TrainingConfig


def to_dict(config: Any) -> dict[str, Any]:
    """A configuration as plain JSON values."""
    return dataclasses.asdict(config)


def from_dict(kind: type[T], values: dict[str, Any], source: str) -> T:
    """The inverse of `to_dict`, strict about names and types.

    Args:
        source: the file the values came from, for the error.

    Raises:
        UserError: a name is unknown or a value has another type.
    """
    hints = typing.get_type_hints(kind)
    unknown = sorted(set(values) - set(hints))
    if unknown:
        raise UserError(
            f"{source}: unknown setting {unknown[0]!r} of {kind.__name__}; was it written by a newer tars3d?"
        )
    try:
        return kind(**{name: _parse(hints[name], value, source) for name, value in values.items()})
    except TypeError as error:
        raise UserError(f"{source}: {kind.__name__} cannot be read ({error}); restore the file") from error


def _parse(hint: Any, value: Any, source: str) -> Any:
    if dataclasses.is_dataclass(hint) and isinstance(value, dict):
        return from_dict(typing.cast(type, hint), value, source)
    origin = typing.get_origin(hint)
    if origin is tuple:
        item = typing.get_args(hint)[0]
        return tuple(_parse(item, entry, source) for entry in value)
    if origin is Literal:
        if value not in typing.get_args(hint):
            raise UserError(f"{source}: {value!r} is none of {typing.get_args(hint)}")
        return value
    if origin in (types.UnionType, typing.Union):
        return value
    if hint is float and isinstance(value, int):
        return float(value)
    if isinstance(hint, type) and not isinstance(value, hint):
        raise UserError(f"{source}: {value!r} should be of type {hint.__name__}")
    return value
