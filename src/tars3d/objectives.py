"""The loss terms, one pure function each: means over rays or points, before any weight (paper §3.4).

Computed as in the published code (docs/paper-vs-code.md, C5). `training.step` puts them together; the weights are
`config.LossWeights`.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from tars3d.config import LossWeights
from tars3d.mesh_config import MeshTerms


def weighted_sum(terms: Mapping[str, Tensor], weights: LossWeights | MeshTerms) -> Float[Tensor, ""]:
    """The total of a step: its terms, each times the weight of its name."""
    return torch.stack([getattr(weights, name) * value for name, value in terms.items()]).sum()


def importance(distance: Float[Tensor, "batch rays"]) -> Float[Tensor, "batch rays"]:
    """Weight 1 / (dt + 1e-8) of a ray whose pixel is dt from the silhouette: rays near the outline count most."""
    return 1.0 / (distance + 1e-8)


def total_weights(
    weights: Float[Tensor, "*any"], foreground: Bool[Tensor, "*any"]
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Sums of the weights of foreground and background rays: the denominators of weighted means, for a batch in parts."""
    return (weights * foreground).sum(), (weights * ~foreground).sum()


def weighted_mean(
    values: Float[Tensor, "*any"],
    weights: Float[Tensor, "*any"],
    selected: Bool[Tensor, "*any"],
    total: Float[Tensor, ""] | None = None,
) -> Float[Tensor, ""]:
    """Σ w v / Σ w over the selected entries; 0 where none is selected. `total` stands in for the denominator."""
    weights = torch.where(selected, weights, torch.zeros_like(weights))
    total = weights.sum() if total is None else total
    return (weights * values).sum() / torch.where(total > 0, total, torch.ones_like(total))


def sphere_loss(
    sdf: Float[Tensor, "batch points"], points: Float[Tensor, "batch points 3"], radius: float
) -> Float[Tensor, ""]:
    """Mean squared error of an sdf that is to be a sphere's about the origin."""
    return (sdf - (points.norm(dim=-1) - radius)).square().mean()


def color_loss(color: Float[Tensor, "batch points 3"], target: Float[Tensor, "batch points 3"]) -> Float[Tensor, ""]:
    """Mean squared error of colours in [-1, 1]: the terms `render` (all rays; the background's target is white) and `color`."""
    return (color - target).square().mean()


def silhouette_loss(
    sdf: Float[Tensor, "batch rays samples"],
    bound: Float[Tensor, "batch rays samples"],
    weight: Float[Tensor, "batch rays"],
    background: Bool[Tensor, "batch rays"],
    totals: tuple[Tensor, Tensor] | None = None,
) -> Float[Tensor, ""]:
    """How far the sdf along background rays falls short of its lower bound.

    Args:
        totals: of `total_weights`, where the rays are a part of the batch.
    """
    shortfall = F.relu(bound - sdf)
    total = None if totals is None else totals[1] * sdf.shape[-1]
    return weighted_mean(shortfall, weight[..., None].expand_as(sdf), background[..., None].expand_as(sdf), total)


def coverage_loss(
    sdf: Float[Tensor, "batch rays samples"],
    weight: Float[Tensor, "batch rays"],
    foreground: Bool[Tensor, "batch rays"],
    depth: Float[Tensor, "batch rays"],
    totals: tuple[Tensor, Tensor] | None = None,
) -> Float[Tensor, ""]:
    """Each foreground ray enters the object somewhere: the least of its sampled values lies below zero, by some depth.

    Args:
        sdf: infinite where a sample does not count.
        depth: how deep inside the object a ray comes at least, world units.
        totals: of `total_weights`, where the rays are a part of the batch.
    """
    reached = F.relu(sdf.amin(dim=-1) + depth)
    reached = torch.where(reached.isfinite(), reached, torch.zeros_like(reached))
    return weighted_mean(reached, weight, foreground, None if totals is None else totals[0])


def intersection_loss(
    last: Float[Tensor, "batch rays"],
    weight: Float[Tensor, "batch rays"],
    foreground: Bool[Tensor, "batch rays"],
    margin: float,
    totals: tuple[Tensor, Tensor] | None = None,
) -> Float[Tensor, ""]:
    """The march ends inside the object on foreground rays and outside on background rays, by a margin.

    Args:
        totals: of `total_weights`, where the rays are a part of the batch.
    """
    inside_total, outside_total = (None, None) if totals is None else totals
    inside = weighted_mean(F.relu(last + margin), weight, foreground, inside_total)
    outside = weighted_mean(F.relu(margin - last), weight, ~foreground, outside_total)
    return inside + outside


def free_space_loss(levels: Float[Tensor, "batch rays steps"], margin: float) -> Float[Tensor, ""]:
    """All points of the march but the last lie outside the object, on every ray."""
    return F.relu(margin - levels).mean()


def eikonal_loss(gradient: Float[Tensor, "batch points 3"]) -> Float[Tensor, ""]:
    """The sdf's gradient has length 1 with respect to points of object space (docs/paper-vs-code.md, P1)."""
    return (gradient.norm(dim=-1) - 1.0).square().mean()


def deformation_loss(jacobian: Float[Tensor, "batch points 3 3"]) -> Float[Tensor, ""]:
    """Mean of ‖∇Δ_i‖² over the three components of the deformation (docs/paper-vs-code.md, P2)."""
    return jacobian.square().sum(-1).mean()


def magnitude_loss(values: Float[Tensor, "batch points"]) -> Float[Tensor, ""]:
    """Mean absolute value: of the sdf's correction in the term `correction`, of its Laplacian in the term `curvature`."""
    return values.abs().mean()


def symmetry_loss(sdf: Float[Tensor, "batch points"], mirrored: Float[Tensor, "batch points"]) -> Float[Tensor, ""]:
    """Mean |s(x) - s(x')| between points and their mirror images."""
    return (sdf - mirrored).abs().mean()


def carving_loss(sdf: Float[Tensor, "batch points"], level: Float[Tensor, "batch points"]) -> Float[Tensor, ""]:
    """How far the sdf falls short of the signed distance to the visual hull, which is a lower bound of it everywhere."""
    return F.relu(level - sdf).mean()


def filling_loss(
    sdf: Float[Tensor, "batch points"],
    level: Float[Tensor, "batch points"],
    solid: Bool[Tensor, "batch"],
    share: Float[Tensor, "batch points"] | None = None,
) -> Float[Tensor, ""]:
    """How far the sdf exceeds the signed distance to the visual hull inside it: of the shapes that explain the masks, the
    solid one rather than sheets within. A concavity that no silhouette shows is filled too, so rays must weigh against it.

    Args:
        solid: objects that have pictures enough for this; the others do not count.
        share: how much each point counts, 0 to 1; None for 1.
    """
    excess = F.relu(sdf - level) * ((level < 0) & solid[:, None])
    return (excess if share is None else excess * share).mean()


def template_normal_loss(
    template_gradient: Float[Tensor, "batch points 3"],
    normals: Float[Tensor, "batch points 3"],
    near: Float[Tensor, "batch points"],
) -> Float[Tensor, ""]:
    """Parts face on the canonical shape where they face on the object: mean of 1 - cos between the template's gradient and the object's
    normal, over points near the surface (DIF: Deng et al., CVPR 2021).

    Args:
        template_gradient: of the template's sdf at the points' canonical places, see `DeformedShape.template_gradient`.
        normals: of the object's sdf, of any length.
        near: how much each point counts, 0 to 1.
    """
    apart = 1 - F.cosine_similarity(template_gradient, normals, dim=-1)
    return (near * apart).sum() / near.sum().clamp_min(1e-6)


def camera_loss(
    rotation: Float[Tensor, "batch 3 3"],
    place: Float[Tensor, "batch 4"],
    true_rotation: Float[Tensor, "batch 3 3"],
    true_place: Float[Tensor, "batch 4"],
) -> Float[Tensor, ""]:
    """How far predicted cameras of framed pictures are from the true ones, in the mean over pictures: the chordal distance of the rotations, and
    the summed squared differences of the object's placement (see `geometry.camera_parameters.placement`).

    The distance, not its square: a picture that may be of the front or the back gets one of the two, and not the mean of both.
    """
    turned = ((rotation - true_rotation).square().sum(dim=(1, 2)) + 1e-4).sqrt() - 1e-2  # smooth at 0
    return (turned + (place - true_place).square().sum(dim=-1)).mean()
