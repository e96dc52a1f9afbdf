"""Each loss term against a loop that says what it means, and the silhouette bound against the geometry that it bounds."""

import math

import pytest
import torch
from torch import Tensor

from tars3d import objectives
from tars3d.geometry.visual_hull import silhouette_bound


def rand(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def close(found: Tensor, expected: float | Tensor) -> None:
    torch.testing.assert_close(found, torch.as_tensor(expected, dtype=found.dtype), atol=1e-12, rtol=1e-9)


def plain_weighted_mean(values, weights, selected) -> float:
    top = bottom = 0.0
    for value, weight, chosen in zip(
        values.flatten().tolist(), weights.flatten().tolist(), selected.flatten().tolist(), strict=True
    ):
        if chosen:
            top, bottom = top + weight * value, bottom + weight
    return top / bottom if bottom else 0.0


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_weighted_mean(share):
    values, weights = (rand(4, 6) - 0.5).requires_grad_(True), rand(4, 6, seed=1)
    selected = rand(4, 6, seed=2) < share
    found = objectives.weighted_mean(values, weights, selected)
    close(found, plain_weighted_mean(values, weights, selected))
    (gradient,) = torch.autograd.grad(found, values)
    assert torch.isfinite(gradient).all()
    assert (gradient[~selected] == 0).all()


def test_importance_weighs_the_outline_most():
    weight = objectives.importance(torch.tensor([[0.5, 2.0, 0.0]]).double())
    close(weight, torch.tensor([[1 / (0.5 + 1e-8), 1 / (2 + 1e-8), 1e8]], dtype=torch.float64))


def test_color_loss():
    predicted, target = rand(2, 5, 3), rand(2, 5, 3, seed=1)
    errors = [(predicted[b, r, c] - target[b, r, c]).item() ** 2 for b in range(2) for r in range(5) for c in range(3)]
    close(objectives.color_loss(predicted, target), sum(errors) / 30)


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_coverage_loss(share):
    sdf, weight, foreground = rand(3, 8, 5) - 0.3, 1 + rand(3, 8, seed=1), rand(3, 8, seed=2) < share
    sdf[0, 0], sdf[1, :, 2:] = torch.inf, torch.inf  # a ray that misses the cube, and samples outside it
    least = [[min(ray) for ray in rays] for rays in sdf.tolist()]
    depth = 0.05 * rand(3, 8, seed=3)
    reached = [
        [max(value + deep, 0.0) if math.isfinite(value) else 0.0 for value, deep in zip(row, asked, strict=True)]
        for row, asked in zip(least, depth.tolist(), strict=True)
    ]
    expected = plain_weighted_mean(torch.tensor(reached, dtype=torch.float64), weight, foreground)
    close(objectives.coverage_loss(sdf, weight, foreground, depth), expected)


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_intersection_loss(share):
    last, weight, foreground = 0.1 * (rand(3, 8) - 0.5), 1 + rand(3, 8, seed=1), rand(3, 8, seed=2) < share
    margin = 0.01
    expected = plain_weighted_mean((last + margin).clamp_min(0), weight, foreground)
    expected += plain_weighted_mean((margin - last).clamp_min(0), weight, ~foreground)
    close(objectives.intersection_loss(last, weight, foreground, margin), expected)


def test_intersection_loss_is_zero_where_signs_are_right_by_the_margin():
    foreground = torch.tensor([[True, False]])
    loss = objectives.intersection_loss(torch.tensor([[-0.011, 0.011]]), torch.ones(1, 2), foreground, 0.01)
    assert loss == 0


def test_free_space_loss():
    levels = 0.1 * (rand(2, 3, 4) - 0.5)
    expected = sum(max(0.01 - level, 0.0) for level in levels.flatten().tolist()) / 24
    close(objectives.free_space_loss(levels, 0.01), expected)


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_silhouette_loss(share):
    sdf, bound = rand(2, 6, 5) - 0.5, rand(2, 6, 5, seed=1)
    weight, background = 1 + rand(2, 6, seed=2), rand(2, 6, seed=3) < share
    top = bottom = 0.0
    for b in range(2):
        for r in range(6):
            for s in range(5):
                if background[b, r]:
                    top += weight[b, r].item() * max((bound - sdf)[b, r, s].item(), 0.0)
                    bottom += weight[b, r].item()
    close(objectives.silhouette_loss(sdf, bound, weight, background), top / bottom if bottom else 0.0)


def test_derivative_losses():
    gradient, jacobian, laplacian = rand(2, 4, 3) - 0.5, rand(2, 4, 3, 3, seed=1), rand(2, 4, seed=2) - 0.5
    eikonal = deformation = 0.0
    for b in range(2):
        for p in range(4):
            eikonal += (math.sqrt(sum(v * v for v in gradient[b, p].tolist())) - 1) ** 2 / 8
            for row in range(3):
                deformation += sum(v * v for v in jacobian[b, p, row].tolist()) / 24
    close(objectives.eikonal_loss(gradient), eikonal)
    close(objectives.deformation_loss(jacobian), deformation)
    close(objectives.magnitude_loss(laplacian), sum(abs(v) for v in laplacian.flatten().tolist()) / 8)


def test_a_flat_field_has_finite_eikonal_gradients():
    gradient = torch.zeros(1, 3, 3, requires_grad=True)
    (found,) = torch.autograd.grad(objectives.eikonal_loss(gradient), gradient)
    assert torch.isfinite(found).all()


def test_symmetry_carving_and_filling_loss():
    sdf, other = rand(2, 4) - 0.5, rand(2, 4, seed=1) - 0.5
    pairs = list(zip(sdf.flatten().tolist(), other.flatten().tolist(), strict=True))
    close(objectives.symmetry_loss(sdf, other), sum(abs(a - b) for a, b in pairs) / 8)
    close(objectives.carving_loss(sdf, other), sum(max(b - a, 0.0) for a, b in pairs) / 8)
    levels, solid = rand(2, 4, seed=2) - 0.5, torch.tensor([True, False])
    filled = [max(a - b, 0.0) for a, b in zip(sdf[0].tolist(), levels[0].tolist(), strict=True) if b < 0]
    assert filled
    close(objectives.filling_loss(sdf, levels, solid), sum(filled) / 8)
    assert objectives.filling_loss(sdf, levels, torch.zeros_like(solid)) == 0
    assert objectives.filling_loss(sdf, levels.abs(), solid) == 0
    share = rand(2, 4, seed=3)
    excess = zip(sdf[0].tolist(), levels[0].tolist(), share[0].tolist(), strict=True)
    shared = [max(a - b, 0.0) * c for a, b, c in excess if b < 0]
    close(objectives.filling_loss(sdf, levels, solid, share), sum(shared) / 8)


def test_template_normal_loss_compares_directions_near_the_surface():
    template, normals, near = rand(2, 4, 3) - 0.5, rand(2, 4, 3, seed=1) - 0.5, rand(2, 4, seed=2)
    total = 0.0
    for b in range(2):
        for p in range(4):
            one, other = template[b, p].tolist(), normals[b, p].tolist()
            cosine = sum(x * y for x, y in zip(one, other, strict=True)) / math.hypot(*one) / math.hypot(*other)
            total += near[b, p].item() * (1 - cosine)
    close(objectives.template_normal_loss(template, normals, near), total / near.sum())
    close(objectives.template_normal_loss(3 * normals, normals, near), 0.0)
    assert objectives.template_normal_loss(template, normals, 0 * near) == 0


def bound_of(plane: Tensor, distance: float, depth: float, perspective: bool) -> float:
    found = silhouette_bound(
        plane[None, None].double(),
        torch.tensor([[distance]]).double(),
        torch.tensor([[[depth]]]).double(),
        torch.tensor([[perspective]]),
    )
    return found.item()


def nearest_hidden_point(plane: Tensor, distance: float, depth: float, perspective: bool) -> float:
    """Brute force: distance from the point at `depth` on the pixel's ray to the rays of all pixels that may show the object."""
    angle = torch.linspace(0, 2 * math.pi, 721, dtype=torch.float64)
    circle = torch.stack([angle.cos(), angle.sin()], dim=-1)
    radii = distance * torch.linspace(1, 8, 60, dtype=torch.float64)
    others = (plane.double() + radii[:, None, None] * circle).flatten(0, 1)
    ones = torch.ones(len(others), 1, dtype=torch.float64)
    if perspective:
        point = depth * torch.cat([plane.double(), torch.ones(1).double()])
        rays = torch.nn.functional.normalize(torch.cat([others, ones], dim=-1), dim=-1)
        along = (rays @ point).clamp_min(0)
        return (point - along[:, None] * rays).norm(dim=-1).min().item()
    point = torch.cat([plane.double(), torch.tensor([depth]).double()])
    return (point - torch.cat([others, depth * ones], dim=-1)).norm(dim=-1).min().item()


@pytest.mark.parametrize("perspective", [False, True])
@pytest.mark.parametrize("distance", [0.004, 0.05, 0.3])
@pytest.mark.parametrize("plane", [(0.0, 0.0), (0.1, 0.02), (-0.25, 0.3), (0.0, -0.45)])
def test_silhouette_bound_is_the_nearest_hidden_point(plane, distance, perspective):
    plane = torch.tensor(plane)
    for depth in (2.0, 2.7, 3.5):
        bound = bound_of(plane, distance, depth, perspective)
        truth = nearest_hidden_point(plane, distance, depth, perspective)
        if plane.norm() > 0 or not perspective:
            assert bound == pytest.approx(truth, rel=1e-4)
        else:  # on the axis there is no outward direction: the formula gives no evidence there
            assert 0 <= bound <= truth + 1e-9


def sphere_outline(centre: Tensor, radius: float) -> Tensor:
    """The outline of a sphere on the plane z = 1: the circle of tangent rays, by its definition."""
    length = centre.norm()
    axis = centre / length
    helper = torch.linalg.cross(axis, torch.tensor([1.0, 0.3, 0.0]).double())
    first = helper / helper.norm()
    second = torch.linalg.cross(axis, first)
    angle = torch.linspace(0, 2 * math.pi, 2000, dtype=torch.float64)[:, None]
    tilt = math.asin(radius / length)
    rays = math.cos(tilt) * axis + math.sin(tilt) * (angle.cos() * first + angle.sin() * second)
    return rays[:, :2] / rays[:, 2:]


@pytest.mark.parametrize("centre", [(0.0, 0.0, 2.7), (0.2, -0.1, 2.6), (-0.4, 0.3, 2.9)])
def test_perspective_bound_never_exceeds_the_distance_to_a_sphere(centre):
    centre, radius = torch.tensor(centre).double(), 0.4
    outline = sphere_outline(centre, radius)
    plane = 1.2 * (rand(300, 2, seed=3) - 0.5)
    rays = torch.cat([plane, torch.ones(300, 1).double()], dim=-1)
    along = (rays @ centre) / rays.square().sum(-1)
    missed = (along[:, None] * rays - centre).norm(dim=-1) > radius
    plane, rays = plane[missed], rays[missed]
    assert len(plane) > 50
    distance = torch.cdist(plane, outline).amin(dim=1)
    depths = torch.linspace(1.8, 3.6, 7, dtype=torch.float64).expand(len(plane), 7)
    perspective = torch.ones(1, len(plane), dtype=torch.bool)
    bound = silhouette_bound(plane[None], distance[None], depths[None], perspective)[0]
    sdf = (depths[..., None] * rays[:, None] - centre).norm(dim=-1) - radius
    assert (bound <= sdf + 1e-3).all()
    closest = (sdf - bound).amin()
    assert closest < 0.02, "the bound is so loose that it would teach nothing"
