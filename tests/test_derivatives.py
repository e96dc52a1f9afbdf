"""Spatial derivatives: exact ones and central differences against formulas and float64 autograd, and training through them."""

import pytest
import torch
from torch import Tensor

from helpers import AnalyticShape, close, plain_tars, tiny_method
from tars3d import objectives
from tars3d.training.derivatives import central_differences, exact_derivatives

MATRIX = torch.tensor([[0.1, 0.5, -0.2], [0.3, -0.4, 0.7], [-0.6, 0.2, 0.9]], dtype=torch.float64)


def cloud(batch: int = 2, count: int = 7, seed: int = 0) -> Tensor:
    return torch.rand(batch, count, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) - 0.5


def quadratic() -> AnalyticShape:
    """sdf = x² + 2 y² - 3 z² + x y, displacement = MATRIX p + (x y, 0, z²): central differences are exact on both."""

    def distance(p: Tensor) -> Tensor:
        x, y, z = p.unbind(-1)
        return x * x + 2 * y * y - 3 * z * z + x * y

    def displacement(p: Tensor) -> Tensor:
        x, y, z = p.unbind(-1)
        return p @ MATRIX.T + torch.stack([x * y, torch.zeros_like(x), z * z], dim=-1)

    return AnalyticShape(distance, displacement, batch=2)


@pytest.mark.parametrize("way", ["exact", "differences"])
def test_against_formulas(way):
    points = cloud()
    x, y, z = points.unbind(-1)
    shape = quadratic()
    found = exact_derivatives(shape, points) if way == "exact" else central_differences(shape, points, 0.01)
    close(found.sdf, shape.sdf(points))
    close(found.gradient, torch.stack([2 * x + y, 4 * y + x, -6 * z], dim=-1))
    expected = MATRIX.expand(2, 7, 3, 3).clone()  # row i is the gradient of component i
    expected[..., 0, 0] += y
    expected[..., 0, 1] += x
    expected[..., 2, 2] += 2 * z
    assert found.jacobian is not None
    close(found.jacobian, expected)
    if way == "differences":
        assert found.laplacian is not None
        close(found.laplacian, torch.zeros_like(x), 1e-8)
        sphere = AnalyticShape(lambda p: p.square().sum(-1))
        laplacian = central_differences(sphere, points, 0.01).laplacian
        assert laplacian is not None
        close(laplacian, torch.full_like(x, 6.0), 1e-8)
    else:
        assert found.laplacian is None


def test_no_jacobian_where_it_is_not_wanted_or_there_is_no_displacement():
    points = cloud()
    flat = AnalyticShape(lambda p: p.norm(dim=-1) - 0.5)
    for found in (
        exact_derivatives(quadratic(), points, jacobian=False),
        central_differences(quadratic(), points, 0.01, jacobian=False),
        exact_derivatives(flat, points),
        central_differences(flat, points, 0.01),
    ):
        assert found.jacobian is None


def test_a_sphere_has_unit_gradient():
    points = cloud() + 0.6
    sphere = AnalyticShape(lambda p: p.norm(dim=-1) - 0.5)
    for found, tolerance in (
        (exact_derivatives(sphere, points), 1e-20),
        (central_differences(sphere, points, 0.01), 1e-6),
    ):
        assert objectives.eikonal_loss(found.gradient) < tolerance


@pytest.mark.parametrize("deformed", [False, True])
def test_differences_approach_the_exact_derivatives(deformed):
    method = tiny_method(octaves=2)
    codes = torch.randn(2, 8, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    shape, points = method.shape(codes, deformed=deformed), cloud()
    exact = exact_derivatives(shape, points)
    errors = []
    for step in (2e-4, 1e-4):
        found = central_differences(shape, points, step)
        error = (found.gradient - exact.gradient).abs().median()
        if deformed:
            assert found.jacobian is not None
            assert exact.jacobian is not None
            error = torch.maximum(error, (found.jacobian - exact.jacobian).abs().median())
        errors.append(error.item())
    assert errors[0] < 1e-4
    assert errors[1] < 0.3 * errors[0], "halving the step should divide the error by four"


@pytest.mark.parametrize("deformed", [False, True])
def test_training_through_exact_derivatives_equals_the_plain_twin(deformed):
    method = tiny_method()
    codes = torch.randn(2, 8, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    points = cloud(count=5)
    parameters = [*method.generator.parameters(), method.canonical_code, *method.deform_net.parameters()]

    derivatives = exact_derivatives(method.shape(codes, deformed=deformed), points)
    loss = objectives.eikonal_loss(derivatives.gradient)
    if deformed:
        assert derivatives.jacobian is not None
        loss = loss + objectives.deformation_loss(derivatives.jacobian)

    expected = torch.zeros((), dtype=torch.float64)
    for b in range(2):
        for p in range(5):
            point = points[b, p].clone().requires_grad_(True)
            plain = plain_tars(method, codes[b], point[None], deformed=deformed)
            (gradient,) = torch.autograd.grad(plain.sdf[0], point, create_graph=True)
            expected = expected + (gradient.square().sum().sqrt() - 1) ** 2 / 10
            if deformed:
                for component in range(3):
                    moved = plain.canonical[0, component] - point[component]
                    (row,) = torch.autograd.grad(moved, point, create_graph=True)
                    expected = expected + row.square().sum() / 30
    close(loss, expected)
    found_gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
    expected_gradients = torch.autograd.grad(expected, parameters, allow_unused=True)
    assert sum(gradient is not None for gradient in expected_gradients) > 10
    for found, plain in zip(found_gradients, expected_gradients, strict=True):
        assert (found is None) == (plain is None)
        if found is not None:
            close(found, plain)


def test_training_through_differences_equals_six_plain_evaluations():
    method, step, axes = tiny_method(), 0.01, torch.eye(3, dtype=torch.float64)
    codes = torch.randn(2, 8, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    points = cloud(count=5)
    parameters = [*method.generator.trunk.parameters(), *method.deform_net.trunk.parameters()]
    found = central_differences(method.deformed_shape(codes), points, step)
    assert found.jacobian is not None
    assert found.laplacian is not None
    loss = (
        objectives.eikonal_loss(found.gradient)
        + objectives.deformation_loss(found.jacobian)
        + 1e-4 * objectives.magnitude_loss(found.laplacian)
    )
    expected = torch.zeros((), dtype=torch.float64)
    for b in range(2):
        at = {
            (axis, sign): plain_tars(method, codes[b], points[b] + sign * step * axes[axis], deformed=True)
            for axis in range(3)
            for sign in (-1, 1)
        }
        centre = plain_tars(method, codes[b], points[b], deformed=True)
        gradient = torch.stack([(at[i, 1].sdf - at[i, -1].sdf) / (2 * step) for i in range(3)], dim=-1)
        expected = expected + (gradient.norm(dim=-1) - 1).square().sum() / 10
        for i in range(3):
            stretch = (at[i, 1].canonical - at[i, -1].canonical) / (2 * step) - axes[i]
            expected = expected + stretch.square().sum() / 30
        bend = sum(at[key].sdf - centre.sdf for key in at) / step**2
        expected = expected + 1e-4 * bend.abs().sum() / 10
    close(loss, expected, 1e-6)
    for one, other in zip(
        torch.autograd.grad(loss, parameters), torch.autograd.grad(expected, parameters), strict=True
    ):
        torch.testing.assert_close(one, other, atol=1e-4 * other.abs().max().item(), rtol=1e-4)
