"""The kinds of stages that a curriculum is made of. Each says what it trains, and what its loss is at step t.

The curriculum: paper §A.2 and docs/paper-vs-code.md, C6. `trainer` runs the stages in the order of the configuration;
they share nothing but the method that they train.
"""

import copy
import itertools

import torch
from jaxtyping import Float
from torch import Tensor

from tars3d import objectives
from tars3d.data.augment import jitter_colors, recolored
from tars3d.data.ray_batches import RayBatch
from tars3d.data.reframing import cut_pictures, turn_pictures
from tars3d.data.stream import Pictures, sampler_of
from tars3d.geometry.camera import Cameras
from tars3d.geometry.camera_parameters import placement
from tars3d.methods.tars import TARS, ObjectSpaceShape
from tars3d.nn.encoder import Encoding
from tars3d.nn.hypernetwork import HyperLayer, apply_layer
from tars3d.seeding import Stream, torch_generator
from tars3d.training.derivatives import central_differences
from tars3d.training.losses_in_parts import losses_in_parts
from tars3d.training.stage_runner import Losses, StageRunner
from tars3d.training.step import step_losses, template_normal_term
from tars3d.weights import unprefixed

CAMERA_ROLL = 5.0
"""Degrees by which pictures are turned at least while the camera's head learns."""
KEPT = 16_384
"""Pictures of which it remembers what the encoder made: 14 kB each in the preset `compact`."""


class FieldStage(StageRunner):
    """What a stage of the implicit systems trains."""

    method: TARS


class SphereStage(FieldStage):
    """f learns a sphere for any code, so that stage 1 starts from a closed surface."""

    def parameters(self):
        return self.method.generator.parameters()

    def losses(self, step: int) -> Losses:
        generator = self.generator(step)
        points = self.cube(generator)
        shape = self.method.object_space_shape(self.random_codes(generator))
        error = objectives.sphere_loss(shape.sdf(points), points, self.stage.radius)
        return Losses(error, {"sphere": error})


class SphereDeformationStage(FieldStage):
    """g learns, for any code, to deform a sphere into the initial canonical shape; f is frozen, as published.

    A correction head (DIF) is left as it starts, at zero.
    """

    def parameters(self):
        named = self.method.deform_net.named_parameters()
        return [value for name, value in named if not name.startswith("heads.correction.")]

    def losses(self, step: int) -> Losses:
        generator = self.generator(step)
        points = self.cube(generator)
        everyone = torch.ones(self.stage.batch, dtype=torch.bool)
        shape = self.method.deformed_shape(self.random_codes(generator), replace=everyone)
        error = objectives.sphere_loss(shape.sdf(points), points, self.stage.radius)
        return Losses(error, {"sphere": error})


class ReconstructStage(FieldStage):
    """Stage 1 and stage 2: pictures, masks and cameras alone."""

    def __init__(self, *arguments, **keywords):
        super().__init__(*arguments, **keywords)
        stage, training = self.stage, self.training
        self.sampler = sampler_of(
            self.bank,
            batch=stage.batch,
            views=stage.views,
            rays=stage.rays,
            boundary_rays=stage.boundary_rays,
            flip=training.flip,
            seed=self.seed,
            hulls=self.hulls,
            hull_points=stage.hull_points,
        )

    def parameters(self):
        method = self.method
        modules = [method.encoder, method.generator] + ([method.marcher] if self.stage.rays else [])
        modules += [method.camera_head] if self.stage.losses.camera else []
        if not self.stage.deformed:
            return itertools.chain(*(module.parameters() for module in modules))
        own = [method.canonical_code]
        return itertools.chain(own, *(module.parameters() for module in [*modules, method.deform_net]))

    def draw(self, step: int, generator: torch.Generator, roll: float) -> tuple[RayBatch, Tensor, Cameras]:
        """Step `step`'s batch, and the pictures that the encoder sees of it with their cameras, turned by up to `roll` degrees, some of them cut."""
        batch = recolored(self.sampler.draw(step), self.training.recolor, generator)
        images = jitter_colors(batch.images, self.training.color_jitter, generator)
        cameras = batch.cameras[:: self.stage.views]  # of the encoded pictures
        padding = self.method.config.padding
        turned = turn_pictures(images, cameras, roll, padding, generator)
        return batch, *cut_pictures(*turned, self.training.cut, padding, generator)

    def losses(self, step: int) -> Losses:
        generator = self.generator(step)
        batch, images, cameras = self.draw(step, generator, self.training.roll)
        encoding = self.method.read(images)
        replace = half_batch_switch(len(encoding.code), self.training.switch_features)
        shape = self.method.shape(encoding.code, deformed=self.stage.deformed, replace=replace)
        in_parts = self.training.derivatives == "exact"  # thousands of points, each with a large graph
        losses = losses_in_parts if in_parts else step_losses
        found = losses(shape, self.method.marcher, batch, self.stage, self.training, generator)
        if not self.stage.losses.camera:
            return Losses(found.total, found.terms)
        camera = self.camera_loss(encoding, cameras)
        return Losses(found.total + self.stage.losses.camera * camera, found.terms | {"camera": camera})

    def camera_loss(self, encoding: Encoding, cameras: Cameras) -> Float[Tensor, ""]:
        """How far the cameras that are read off pictures are from the true ones."""
        rotation, place = self.method.camera_head(encoding)
        return objectives.camera_loss(rotation, place, *self.camera_targets(cameras))

    def camera_targets(self, cameras: Cameras) -> tuple[Float[Tensor, "batch 3 3"], Float[Tensor, "batch 4"]]:
        """Rotations and placements that the head should find."""
        return cameras.extrinsics[:, :, :3], placement(cameras, self.bank.size)


class ColorStage(ReconstructStage):
    """Colour alone: its head learns colours of hull points, with codes and shapes as they are at reconstruction. No ray and little to
    differentiate, so steps are cheap.

    Codes say more of colour than the head has learned beside shapes; the encoder runs in evaluation mode, as it will.
    """

    @property
    def _head(self) -> HyperLayer:
        return (self.method.deform_net if self.stage.deformed else self.method.generator).head_layer("rgb")

    def parameters(self):
        return self._head.parameters()

    def losses(self, step: int) -> Losses:
        method = self.method
        batch = recolored(self.sampler.draw(step), self.training.recolor, self.generator(step))
        assert batch.hull is not None, "a color stage needs hull points"
        method.encoder.eval()
        with torch.no_grad():
            codes = method.encode(batch.images)
            features = method.shape(codes, deformed=self.stage.deformed).sample(batch.hull.seen).steering
        color = objectives.color_loss(torch.tanh(apply_layer(self._head(codes), features)), batch.hull.rgb)
        return Losses(color, {"color": color})


class CameraStage(ReconstructStage):
    """The camera alone: its head learns from the maps of a finished encoder, from many more pictures than beside shapes.

    The encoder takes nearly all the time of a step, and always makes the same of a picture. So what it made of the last pictures is kept, and a
    step learns from some of those, too, drawn at random: experience replay (Lin, Machine Learning, 1992). Objects lean in photos, so pictures are turned
    here even where shapes are not to learn that.
    """

    def __init__(self, *arguments, **keywords):
        super().__init__(*arguments, **keywords)
        self._kept: list[Tensor] = []
        self._next = 0  # the first step whose pictures were not looked at yet

    def parameters(self):
        return self.method.camera_head.parameters()

    def losses(self, step: int) -> Losses:
        stage = self.stage
        capacity = max(1, min(KEPT // stage.batch, stage.steps)) if stage.recalled else 1  # steps
        for earlier in range(max(self._next, step + 1 - capacity), step + 1):  # all of them where a run is resumed
            self._keep(self._look(earlier), earlier % capacity, capacity)
        self._next = step + 1
        generator = torch_generator(self.seed, Stream.RECALL, step)
        known = min(step + 1, capacity) * stage.batch
        chosen = torch.randint(known, (stage.recalled,), generator=generator)
        own = torch.arange(stage.batch) + step % capacity * stage.batch
        rows = torch.cat([own, chosen]).to(self.device)
        seen, rotation, place = (part[rows].float() for part in self._kept)
        camera = objectives.camera_loss(*self.method.camera_head.answer(seen), rotation, place)
        return Losses(camera, {"camera": camera})

    @torch.no_grad()
    def _look(self, step: int) -> list[Tensor]:
        """What the head sees of the pictures of a step, and what it should say of them."""
        _, images, cameras = self.draw(step, self.generator(step), max(self.training.roll, CAMERA_ROLL))
        self.method.encoder.eval()
        seen = self.method.camera_head.look(self.method.read(images))
        return [seen.half(), *self.camera_targets(cameras)]

    def _keep(self, found: list[Tensor], place: int, capacity: int) -> None:
        """Store what was found of a step in place of that of an earlier one."""
        count = len(found[0])
        if not self._kept:
            self._kept = [part.new_empty(capacity * count, *part.shape[1:]) for part in found]
        for kept, part in zip(self._kept, found, strict=True):
            kept[place * count : (place + 1) * count] = part


class CanonicalCodeStage(FieldStage):
    """The canonical code starts as the mean code of all training pictures; no steps are taken."""

    @torch.no_grad()
    def begin(self) -> None:
        self.method.canonical_code.copy_(encode_all(self.method, self.bank).double().mean(0))


class DistillDeformationStage(FieldStage):
    """g starts from what stage 1 knows, instead of from a sphere: it learns stage 1's shapes as deformations of their mean.

    Stage 1's field is the teacher, evaluated at random points: sdf, colour and steering features are regressed without
    any ray, so a few hundred cheap steps save most of stage 2. f, u and the canonical code learn along; the half-batch
    switch is on, so that deformation explains what it can before point features do.
    """

    def begin(self) -> None:
        self.teacher = copy.deepcopy(self.method.generator).requires_grad_(False)
        start_from_generator(self.method)
        with torch.no_grad():
            self.codes = encode_all(self.method, self.bank)

    def parameters(self):
        return [
            *self.method.deform_net.parameters(),
            *self.method.generator.parameters(),
            self.method.canonical_code,
        ]

    def memory(self) -> dict[str, Tensor]:
        return {f"teacher.{name}": value for name, value in self.teacher.state_dict().items()} | {"codes": self.codes}

    def remember(self, tensors: dict[str, Tensor]) -> None:
        self.teacher = copy.deepcopy(self.method.generator).requires_grad_(False)
        self.teacher.load_state_dict(unprefixed(tensors, "teacher."))
        self.codes = tensors["codes"].to(self.device)

    def losses(self, step: int) -> Losses:
        generator = self.generator(step)
        pick = torch.randint(len(self.codes), (self.stage.batch,), generator=generator).to(self.device)
        codes, points = self.codes[pick], self.cube(generator)
        with torch.no_grad():
            target = self.method.canonical_field(codes, self.teacher)
            field = target.field
            features = target.lifted(target.encode(points), None)
            sdf = field.head("level", features)[..., 0]
            rgb = torch.tanh(field.head("rgb", features))
        replace = half_batch_switch(len(codes), self.training.switch_features)
        shape = self.method.deformed_shape(codes, replace=replace)
        found = shape.sample(points)
        nearness = 1.0 / (sdf.abs() + 0.03)
        terms = {
            "distill_sdf": ((found.sdf - sdf).abs() * nearness).mean() / nearness.mean(),
            "distill_color": objectives.color_loss(torch.tanh(shape.deformation.head("rgb", found.steering)), rgb),
            "distill_steering": (found.steering - features).square().mean(),
        }
        few = points[:, : max(16, self.stage.points // 8)]
        jacobian = central_differences(shape, few, self.training.difference_step).jacobian
        assert jacobian is not None
        terms["deformation"] = objectives.deformation_loss(jacobian)
        weights = self.stage.losses
        total = (
            10 * terms["distill_sdf"]
            + terms["distill_color"]
            + 0.3 * terms["distill_steering"]
            + weights.deformation * terms["deformation"]
        )
        if weights.template_normal:
            terms["template_normal"] = template_normal_term(
                shape, ObjectSpaceShape(target), points, sdf, self.training.difference_step
            )
            total = total + weights.template_normal * terms["template_normal"]
        if found.correction is not None:
            terms["correction"] = objectives.magnitude_loss(found.correction)
            total = total + weights.correction * terms["correction"]
        return Losses(total, terms)


def half_batch_switch(batch: int, active: bool) -> Tensor:
    """Which codes of a batch take u's point features: the first half, rounded down (docs/paper-vs-code.md, P7)."""
    return torch.arange(batch) < (batch // 2 if active else 0)


@torch.no_grad()
def encode_all(method: TARS, bank: Pictures, chunk: int = 64) -> Float[Tensor, "pictures code"]:
    """Codes of all pictures of a bank (of some thousands of a stream), with the encoder in evaluation mode."""
    training = method.encoder.training
    method.encoder.eval()
    codes = torch.cat([method.encode(images) for images in bank.image_chunks(chunk)])
    method.encoder.train(training)
    return codes


def start_from_generator(method: TARS) -> None:
    """Copy f's hypernetworks into g's, so that g steers the marcher and colours as f does, and let g deform nothing yet.

    The first layer drops the inputs of point features, which g does not take.
    """
    f, g, config = method.generator, method.deform_net, method.config
    extra = 2 * config.feature_octaves * config.point_features
    for number, (source, target) in enumerate(zip(f.trunk_layers(), g.trunk_layers(), strict=True)):
        target.start_from(source, dropped=extra if number == 0 else 0)
    g.head_layer("rgb").start_from(f.head_layer("rgb"))
    g.head_layer("deformation").start_at_zero()
    if config.point_features:  # of codes that have grown, random layers make φ of hundreds, which their encoding hashes
        g.head_layer("features").start_at_zero()


KINDS: dict[str, type[StageRunner]] = {
    "sphere": SphereStage,
    "reconstruct": ReconstructStage,
    "canonical_code": CanonicalCodeStage,
    "sphere_deformation": SphereDeformationStage,
    "distill_deformation": DistillDeformationStage,
    "color": ColorStage,
    "camera": CameraStage,
}
