"""Muon against the singular value decomposition that it stands for."""

import pytest
import torch

from tars3d.training.muon import Muon, orthogonal


@pytest.mark.parametrize("shape", [(12, 12), (7, 40), (300, 16), (1, 5), (3, 1)])
def test_orthogonal_keeps_the_directions_and_levels_the_singular_values(shape):
    matrix = torch.randn(*shape, generator=torch.Generator().manual_seed(0))
    left, values, right = torch.linalg.svd(orthogonal(matrix), full_matrices=False)
    assert values.min() > 0.6
    assert values.max() < 1.25
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    torch.testing.assert_close(left @ right, u @ v, atol=2e-3, rtol=0)


def test_orthogonal_of_one_direction_is_that_direction_and_of_nothing_nothing():
    rng = torch.Generator().manual_seed(1)
    column, row = torch.randn(30, 1, generator=rng), torch.randn(1, 8, generator=rng)
    one = orthogonal(column @ row)
    torch.testing.assert_close(one / one.norm(), column @ row / (column @ row).norm(), atol=1e-3, rtol=0)
    assert 0.6 < one.norm() < 1.25
    assert torch.equal(orthogonal(torch.zeros(4, 6)), torch.zeros(4, 6))


@pytest.mark.parametrize("scale", [1e-12, 1e6])
def test_steps_are_as_large_as_adams_whatever_the_gradient(scale):
    start = torch.randn(24, 3, 3, 3, generator=torch.Generator().manual_seed(2))
    parameter = torch.nn.Parameter(start.clone())
    parameter.grad = scale * torch.randn(start.shape, generator=torch.Generator().manual_seed(3))
    Muon([parameter], learning_rate=0.01).step()
    step = (parameter.detach() - start).square().mean().sqrt()
    assert 0.7 * 0.002 < step < 1.3 * 0.002


def test_a_convolution_is_the_matrix_of_its_output_channels():
    rng = torch.Generator().manual_seed(4)
    kernel = torch.nn.Parameter(torch.randn(5, 2, 3, 3, generator=rng))
    matrix = torch.nn.Parameter(kernel.detach().flatten(1).clone())
    for _ in range(3):
        kernel.grad = torch.randn(5, 2, 3, 3, generator=rng)
        matrix.grad = kernel.grad.flatten(1)
        Muon([kernel], 0.1).step()
        Muon([matrix], 0.1).step()
    assert torch.equal(kernel.detach().flatten(1), matrix.detach())
