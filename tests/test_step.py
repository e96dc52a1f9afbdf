"""One training step, term by term, of shapes whose every value is known; and that a stage draws and weighs what its settings say."""

from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from helpers import AnalyticShape, close, coded_bank, tiny_method
from tars3d import objectives
from tars3d.config import LossWeights, Stage, TrainingConfig
from tars3d.data.hull import HullBatch, hull_samples
from tars3d.data.ray_batches import BatchSampler
from tars3d.nn.ray_marcher import RayMarcher
from tars3d.training import stages
from tars3d.training.stage_runner import StageRunner
from tars3d.training.stages import CameraStage, ColorStage, DistillDeformationStage, ReconstructStage
from tars3d.training.step import (
    MOST_NORMALS,
    SURFACE_REACH,
    TEMPLATE_STEP,
    derivative_terms,
    hull_terms,
    ray_terms,
    template_normal_term,
)

NOTHING = LossWeights(**{field.name: 0.0 for field in fields(LossWeights)})


def rand(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def ball(points: Tensor) -> Tensor:
    return points.norm(dim=-1) - 0.3


def stage_with(**losses: float) -> Stage:
    return Stage(name="x", kind="reconstruct", losses=replace(NOTHING, **losses), march_steps=2, point_range=0.8)


def test_hull_points_are_compared_with_level_share_and_colour():
    hull = HullBatch(
        points=rand(2, 30, 3) - 0.5,
        level=rand(2, 30, seed=1) - 0.5,
        thin=rand(2, 30, seed=2),
        solid=torch.tensor([True, False]),
        seen=rand(2, 9, 3, seed=3) - 0.5,
        rgb=2 * rand(2, 9, 3, seed=4) - 1,
    )
    shape, losses = AnalyticShape(ball, batch=2), replace(NOTHING, thin_filling=1.0, color=1.0)
    terms = hull_terms(shape, hull, losses, 0.01)
    sdf = ball(hull.points)
    close(terms["carving"], objectives.carving_loss(sdf, hull.level))
    close(terms["filling"], objectives.filling_loss(sdf, hull.level, hull.solid))
    close(terms["thin_filling"], objectives.filling_loss(sdf, hull.level, hull.solid, hull.thin))
    shown = 2 * hull.seen  # the shape's colours are points + 0.5, from 0 to 1
    close(terms["color"], (shown - hull.rgb).square().mean())
    assert hull_terms(shape, replace(hull, rgb=shown), losses, 0.01)["color"] < 1e-12


def test_bending_costs_near_the_surface_alone():
    points = torch.nn.functional.normalize(rand(1, 20, 3) - 0.5, dim=-1)
    training = TrainingConfig(derivatives="differences")

    def curvature(radius: float) -> float:
        return float(
            derivative_terms(AnalyticShape(ball), radius * points, stage_with(curvature=1.0), training)["curvature"]
        )

    assert curvature(0.3) == pytest.approx(2 / 0.3, rel=0.01)  # the Laplacian of a distance to a point
    assert curvature(0.6) < 1e-3


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_symmetry_is_asked_across_the_named_axis(axis):
    points = rand(1, 20, 3) - 0.5
    slope = AnalyticShape(lambda points: points[..., axis])
    for named in range(3):
        training = TrainingConfig(derivatives="differences", symmetry_axis=named)
        found = derivative_terms(slope, points, stage_with(symmetry=1.0), training)["symmetry"]
        close(found, 2 * points[..., axis].abs().mean() if named == axis else torch.zeros_like(found))


def test_normals_are_compared_at_the_points_that_are_nearest_to_the_surface():
    shape = tiny_method().deformed_shape(rand(2, 8))
    level = 0.1 * (rand(2, 3 * MOST_NORMALS, seed=2) - 0.5)
    points = (
        torch.nn.functional.normalize(rand(2, 3 * MOST_NORMALS, 3, seed=1) - 0.5, dim=-1) * (0.3 + level)[..., None]
    )
    found = template_normal_term(shape, AnalyticShape(ball, batch=2), points, level, 0.001)
    nearest = [level[number].abs().argsort()[:MOST_NORMALS] for number in range(2)]
    some = torch.stack([own[rows] for own, rows in zip(points, nearest, strict=True)])
    near = torch.exp(-(ball(some) / SURFACE_REACH).square())
    expected = objectives.template_normal_loss(shape.template_gradient(some, TEMPLATE_STEP), some, near)
    close(found, expected, 1e-4)


@pytest.mark.parametrize("model", ["perspective", "orthographic"])
def test_what_is_seen_is_asked_to_be_half_as_thick_as_it_is_wide_up_to_a_limit(model):
    sampler = BatchSampler(coded_bank(model=model), batch=2, views=1, rays=40, boundary_rays=0.5, flip=False, seed=0)
    batch = sampler.draw(0)
    empty = AnalyticShape(lambda points: 0 * points[..., 0], batch=2)  # on the surface everywhere
    training = TrainingConfig(near=-0.8, far=0.8, silhouette_samples=2, bisection_steps=1, margin=0.01)
    terms, _ = ray_terms(empty, RayMarcher(3), batch, stage_with(coverage=1.0), training, torch.Generator())
    top = bottom = 0.0
    for b in range(2):
        for r in range(40):
            if batch.foreground[b, r]:
                weight, wide = 1 / (float(batch.distance[b, r]) + 1e-8), float(batch.distance[b, r])
                wide *= float(batch.object_depth[b, r]) if model == "perspective" else 1.0  # world units at the object
                top, bottom = top + weight * (0.01 + min(0.5 * wide, 0.04)), bottom + weight
    assert float(terms["coverage"]) == pytest.approx(top / bottom, rel=1e-4)


def runner_of(
    kind: type[StageRunner] = ReconstructStage, *, losses: LossWeights = NOTHING, rays: int = 16, **training: Any
):
    """A stage of tiny networks on pictures that name their pixels; two pictures supervise each code."""
    stage = Stage(
        name="x", kind="reconstruct", losses=losses, batch=3, views=2, rays=rays, boundary_rays=0.5, points=8, hull_points=8
    )  # fmt: skip
    bank = coded_bank(size=32)
    hulls = hull_samples(bank, samples=32, colored=16)
    settings = TrainingConfig(**{"derivatives": "differences", **training})
    return kind(tiny_method().float(), stage, settings, bank, 0, hulls)


def test_a_stage_draws_what_its_settings_say():
    runner = runner_of(flip=True)
    settings = {"batch": 3, "views": 2, "rays": 16, "hulls": runner.hulls, "hull_points": 8, "seed": runner.seed}
    expected = BatchSampler(runner.bank, boundary_rays=0.5, flip=True, **settings)
    plain = BatchSampler(runner.bank, boundary_rays=0.0, flip=False, **settings)
    for step in range(3):
        batch, images, cameras = runner.draw(step, runner.generator(step), 0.0)
        same = expected.draw(step)
        for name in ("images", "origins", "rgb", "distance", "foreground"):
            assert torch.equal(getattr(batch, name), getattr(same, name)), name
        assert torch.equal(images, same.images)
        assert torch.equal(cameras.extrinsics, same.cameras.extrinsics[[0, 2, 4]]), "cameras are of other pictures"
        assert torch.equal(cameras.intrinsics, same.cameras.intrinsics[[0, 2, 4]])
        assert not torch.equal(plain.draw(step).rgb, same.rgb)


@pytest.mark.parametrize(
    ("option", "targets", "camera"),
    [({"recolor": (0.3, 0.5, 0.5)}, True, False), ({"color_jitter": (0.3, 0.3, 0.3, 0.2)}, False, False), ({"cut": 1.0}, False, True)],
)  # fmt: skip
def test_what_changes_pictures_changes_their_targets_and_cameras_where_it_should(option, targets, camera):
    drawn = [runner.draw(0, runner.generator(0), 0.0) for runner in (runner_of(), runner_of(**option))]
    (plain, pictures, cameras), (batch, changed, moved) = drawn
    assert not torch.equal(changed, pictures)
    assert torch.equal(batch.rgb, plain.rgb) != targets
    assert torch.equal(batch.hull.rgb, plain.hull.rgb) != targets
    assert torch.equal(moved.intrinsics, cameras.intrinsics) != camera
    assert torch.equal(batch.origins, plain.origins)


@pytest.mark.parametrize(
    ("kind", "roll", "turned"),
    [(ReconstructStage, 0.0, False), (ReconstructStage, 15.0, True), (CameraStage, 0.0, True)],
)
def test_cameras_are_learned_from_turned_pictures_where_objects_lean(monkeypatch, kind, roll, turned):
    seen = []

    def noted(rotation, place, true_rotation, true_place):
        seen.append(true_rotation)
        return rotation.square().sum()

    runner = runner_of(kind, losses=replace(NOTHING, camera=1.0), rays=0, roll=roll)
    monkeypatch.setattr(objectives, "camera_loss", noted)
    runner.losses(0)
    straight = runner.sampler.draw(0).cameras.extrinsics[::2]
    assert (not torch.equal(seen[0], straight[:, :, :3])) == turned


def test_the_color_stage_learns_colours_as_they_are_drawn_anew(monkeypatch):
    seen = []

    def noted(color, target):
        seen.append(target)
        return color.sum()

    monkeypatch.setattr(objectives, "color_loss", noted)
    for recolor in ((0.0, 0.0, 0.0), (0.3, 0.5, 0.5)):
        runner_of(ColorStage, rays=0, recolor=recolor).losses(0)
    assert not torch.equal(*seen)


@pytest.mark.parametrize(
    ("kind", "names"),
    [(DistillDeformationStage, ("deformation", "template_normal")), (ReconstructStage, ("eikonal", "symmetry", "carving", "camera"))],
)  # fmt: skip
def test_a_terms_weight_is_its_share_in_the_total(kind, names):
    found = []
    for weight in (0.1, 0.4):
        runner = runner_of(kind, losses=replace(NOTHING, **dict.fromkeys(names, weight)), rays=0)
        with torch.no_grad():
            for value in runner.method.generator.head_layer("level").last.parameters():
                value.mul_(0.01)  # a surface is near everywhere
        runner.begin()
        with torch.no_grad():
            runner.method.deform_net.head_layer("deformation").last.bias.copy_(torch.linspace(-0.2, 0.2, 51))
        found.append(runner.losses(0))
    once, again = found
    added = sum(0.3 * float(once.terms[name].detach()) for name in names)
    assert added > 0
    assert float((again.total - once.total).detach()) == pytest.approx(added, rel=1e-3)


@pytest.mark.parametrize("room", [6, 100])
def test_the_camera_stage_recalls_earlier_pictures_and_does_so_after_it_was_stopped(monkeypatch, room):
    """Steps of three pictures; the room is for two steps, or for all."""
    monkeypatch.setattr(stages, "KEPT", room)

    def begun() -> CameraStage:
        runner = runner_of(CameraStage, rays=0, flip=True)
        runner.stage = replace(runner.stage, steps=5, recalled=4)
        return runner

    asked = []

    def noted(rotation, place, true_rotation, true_place):
        asked.append(true_rotation)
        return camera_loss(rotation, place, true_rotation, true_place)

    camera_loss = objectives.camera_loss
    monkeypatch.setattr(objectives, "camera_loss", noted)
    torch.manual_seed(0)
    whole, resumed = begun(), begun()
    resumed.method.load_state_dict(whole.method.state_dict())
    losses = [float(whole.losses(step).total.detach()) for step in range(5)]
    drawn = [whole._look(step)[1] for step in range(5)]
    for step, rotations in enumerate(asked):
        assert torch.equal(rotations[:3], drawn[step]), "its own pictures come first"
        known = torch.cat(drawn[max(0, step + 1 - room // 3) : step + 1])
        for rotation in rotations[3:]:
            assert any(torch.equal(rotation, one) for one in known)
    assert [float(resumed.losses(step).total.detach()) for step in (3, 4)] == losses[3:]
