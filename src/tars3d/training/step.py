"""One training step of a `reconstruct` stage: march, sample, differentiate, and add up the loss terms (paper §3.4).

Called by the `reconstruct` stages of `stages`, and part by part by `losses_in_parts`.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from tars3d import objectives
from tars3d.config import LossWeights, Stage, TrainingConfig
from tars3d.data.hull import HullBatch
from tars3d.data.ray_batches import RayBatch
from tars3d.geometry.rays import cube_chord
from tars3d.geometry.visual_hull import silhouette_bound
from tars3d.methods.base import Shape
from tars3d.methods.tars import DeformedShape
from tars3d.nn.ray_marcher import March, RayMarcher
from tars3d.training.derivatives import central_differences, exact_derivatives

ROUND = 0.5
"""What is seen is half as thick as it is wide there, at least: else one picture is explained by a thin sheet before the camera."""
DEEPEST = 0.04
"""World units up to which that is asked for."""
MOST_NORMALS = 24
"""Points of an object at which normals are compared with the template's: those nearest to the surface."""
SURFACE_REACH = 0.03
"""World units from the object's surface within which they count."""
TEMPLATE_STEP = 0.02
"""Canonical units to both sides over which the template's gradient is measured."""


@dataclass(frozen=True)
class StepLosses:
    """A step's loss terms before their weights, and the weighted total."""

    terms: dict[str, Float[Tensor, ""]]
    total: Float[Tensor, ""]
    march: March | None


def march_rays(shape: Shape, marcher: RayMarcher, batch: RayBatch, stage: Stage, training: TrainingConfig) -> March:
    """March all rays of a batch as the stage says."""
    return marcher(
        shape.probe,
        batch.origins,
        batch.directions,
        batch.object_depth + training.near,
        steps=stage.march_steps,
        bisection_steps=training.bisection_steps,
    )


def ray_terms(
    shape: Shape,
    marcher: RayMarcher,
    batch: RayBatch,
    stage: Stage,
    training: TrainingConfig,
    generator: torch.Generator,
    whole: RayBatch | None = None,
) -> tuple[dict[str, Tensor], March]:
    """The terms that live on rays: render, intersection, free space, silhouette, coverage; and the march.

    With `whole`, `batch` is a part of it and the terms are the part's share in the whole batch's means.
    """
    weight, share, totals = objectives.importance(batch.distance), 1.0, None
    if whole is not None:
        share = len(batch.images) / len(whole.images)
        totals = objectives.total_weights(objectives.importance(whole.distance), whole.foreground)
    march = march_rays(shape, marcher, batch, stage, training)
    last = march.levels[..., -1]
    if stage.losses.coverage:  # where a march has left the cube, it is called back, and no surface is asked for
        ends = batch.origins + march.depths[..., -1:] * batch.directions
        beyond = ends.abs().amax(dim=-1) - stage.point_range
        last = torch.where(batch.foreground & (beyond > 0), beyond, last)
    terms = {
        "intersection": objectives.intersection_loss(last, weight, batch.foreground, training.margin, totals),
        "free_space": share * objectives.free_space_loss(march.levels[..., :-1], training.margin),
    }
    if stage.losses.render:
        surface = batch.origins + march.surface_depth[..., None] * batch.directions
        terms["render"] = share * objectives.color_loss(2 * shape.color(surface) - 1, batch.rgb)
    if stage.losses.coverage:
        terms |= _sampled_terms(shape, batch, stage, training, generator, weight, totals)
    elif stage.losses.silhouette:
        uniform = torch.rand(*batch.distance.shape, training.silhouette_samples, generator=generator)
        offset = training.near + (training.far - training.near) * uniform.to(batch.distance.device)
        background = ~batch.foreground
        # Rays that show the object in every picture have no part in this term.
        some = background.any(dim=0).nonzero()[:, 0]
        depths = (batch.object_depth[..., None] + offset)[:, some]
        points = batch.origins[:, some, None] + depths[..., None] * batch.directions[:, some, None]
        sdf = shape.sdf(points.flatten(1, 2)).view_as(depths)
        plane, distance, perspective = batch.plane[:, some], batch.distance[:, some], batch.perspective[:, some]
        bound = silhouette_bound(plane, distance, depths, perspective)
        terms["silhouette"] = objectives.silhouette_loss(sdf, bound, weight[:, some], background[:, some], totals)
    return terms, march


def _sampled_terms(
    shape: Shape,
    batch: RayBatch,
    stage: Stage,
    training: TrainingConfig,
    generator: torch.Generator,
    weight: Float[Tensor, "batch rays"],
    totals: tuple[Tensor, Tensor] | None,
) -> dict[str, Tensor]:
    """Silhouette and coverage from the same depths, one in each of equal parts of a ray's way through the cube: no surface can hide outside."""
    enter, leave = cube_chord(batch.origins, batch.directions, stage.point_range)
    uniform = torch.rand(*batch.distance.shape, training.silhouette_samples, generator=generator).to(enter.device)
    step = torch.arange(training.silhouette_samples, device=enter.device)
    share = (step + uniform) / training.silhouette_samples
    depths = torch.lerp(enter[..., None], leave[..., None], share)
    points = batch.origins[:, :, None] + depths[..., None] * batch.directions[:, :, None]
    sdf = shape.sdf(points.flatten(1, 2)).view_as(depths)
    within = torch.where((leave > enter)[..., None], sdf, torch.inf)
    across = batch.distance * torch.where(batch.perspective, batch.object_depth, 1.0)
    deep = training.margin + (ROUND * across).clamp_max(DEEPEST)
    terms = {"coverage": objectives.coverage_loss(within, weight, batch.foreground, deep, totals)}
    if stage.losses.silhouette:
        bound = silhouette_bound(batch.plane, batch.distance, depths, batch.perspective)
        terms["silhouette"] = objectives.silhouette_loss(sdf, bound, weight, ~batch.foreground, totals)
    return terms


def regularisation_points(
    batch: RayBatch, march: March | None, stage: Stage, generator: torch.Generator
) -> Float[Tensor, "batch points 3"]:
    """Points uniform in the cube, and a share of them near the surface: hull points, or scattered (σ = 0.02) around what rays found."""
    codes = len(batch.index)
    near_surface = round(stage.points * stage.surface_points)
    uniform = stage.point_range * (2 * torch.rand(codes, stage.points - near_surface, 3, generator=generator) - 1)
    uniform = uniform.to(batch.images.device)
    if not near_surface:
        return uniform
    if batch.hull is not None:
        return torch.cat([uniform, batch.hull.points[:, :near_surface]], dim=1)
    assert march is not None, "points near the surface need rays or hull points"
    pick = torch.randint(batch.origins.shape[1], (codes, near_surface), generator=generator).to(uniform.device)
    rows = torch.arange(codes, device=uniform.device)[:, None]
    depth = march.surface_depth.detach()[rows, pick]
    noise = 0.02 * torch.randn(codes, near_surface, 3, generator=generator).to(uniform.device)
    found = batch.origins[rows, pick] + depth[..., None] * batch.directions[rows, pick] + noise
    return torch.cat([uniform, found.clamp(-stage.point_range, stage.point_range)], dim=1)


def derivative_terms(
    shape: Shape, points: Float[Tensor, "batch points 3"], stage: Stage, training: TrainingConfig
) -> dict[str, Tensor]:
    """The terms that regularise the field at points of space: eikonal, deformation, correction, curvature, symmetry."""
    losses, terms = stage.losses, {}
    if losses.eikonal or losses.deformation or losses.curvature or losses.correction:
        jacobian = bool(losses.deformation)
        if training.derivatives == "exact":
            found = exact_derivatives(shape, points, jacobian=jacobian)
        else:
            found = central_differences(shape, points, training.difference_step, jacobian=jacobian)
        if losses.eikonal:
            terms["eikonal"] = objectives.eikonal_loss(found.gradient)
        if losses.deformation and found.jacobian is not None:
            terms["deformation"] = objectives.deformation_loss(found.jacobian)
        if losses.correction and found.correction is not None:
            terms["correction"] = objectives.magnitude_loss(found.correction)
        if losses.curvature and found.laplacian is not None:
            near = torch.exp(-(found.sdf.detach() / 0.05).square())  # bending matters where the surface is
            terms["curvature"] = objectives.magnitude_loss(found.laplacian * near)
        sdf = found.sdf
    else:
        sdf = shape.sdf(points) if losses.symmetry else None
    if losses.symmetry and sdf is not None:
        mirror = torch.ones(3, device=points.device)
        mirror[training.symmetry_axis] = -1
        terms["symmetry"] = objectives.symmetry_loss(sdf, shape.sdf(points * mirror))
    return terms


def template_normal_term(
    shape: DeformedShape,
    teacher: Shape,
    points: Float[Tensor, "batch points 3"],
    level: Float[Tensor, "batch points"],
    difference_step: float,
) -> Float[Tensor, ""]:
    """`objectives.template_normal_loss` at those of the points that are nearest to the surface.

    Args:
        teacher: whose normals count: the shape itself, or the one it is to become.
        level: about the signed distance of the points.
    """
    nearest = level.abs().topk(min(MOST_NORMALS, level.shape[1]), dim=1, largest=False).indices
    points = points.gather(1, nearest[..., None].expand(-1, -1, 3))
    with torch.no_grad():
        found = central_differences(teacher, points, difference_step, jacobian=False)
        near = torch.exp(-(found.sdf / SURFACE_REACH).square())
    return objectives.template_normal_loss(shape.template_gradient(points, TEMPLATE_STEP), found.gradient, near)


def hull_terms(shape: Shape, hull: HullBatch, losses: LossWeights, difference_step: float) -> dict[str, Tensor]:
    """The terms that know the objects' visual hulls: carving, filling, colours on them, and normals near them."""
    sdf = shape.sdf(hull.points)
    terms = {
        "carving": objectives.carving_loss(sdf, hull.level),
        "filling": objectives.filling_loss(sdf, hull.level, hull.solid),
    }
    if losses.thin_filling:
        terms["thin_filling"] = objectives.filling_loss(sdf, hull.level, hull.solid, hull.thin)
    if losses.template_normal and isinstance(shape, DeformedShape):
        terms["template_normal"] = template_normal_term(shape, shape, hull.points, hull.level, difference_step)
    if losses.color:
        terms["color"] = objectives.color_loss(2 * shape.color(hull.seen) - 1, hull.rgb)
    return terms


def step_losses(
    shape: Shape,
    marcher: RayMarcher,
    batch: RayBatch,
    stage: Stage,
    training: TrainingConfig,
    generator: torch.Generator,
) -> StepLosses:
    """All loss terms of one batch of shapes; `total` is their weighted sum."""
    terms, march = ray_terms(shape, marcher, batch, stage, training, generator) if stage.rays else ({}, None)
    terms |= derivative_terms(shape, regularisation_points(batch, march, stage, generator), stage, training)
    if batch.hull is not None:
        terms |= hull_terms(shape, batch.hull, stage.losses, training.difference_step)
    return StepLosses(terms, objectives.weighted_sum(terms, stage.losses), march)
