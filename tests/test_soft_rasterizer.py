"""The soft rasteriser against a plain twin that visits every pixel and every face, its gradients, and cases with known answers."""

import math

import pytest
import torch
import trimesh
from torch import Tensor

from helpers import close
from tars3d.geometry import soft_rasterizer
from tars3d.geometry.soft_rasterizer import nearest_faces, soft_silhouette


def plain_square_distance(p: Tensor, a: Tensor, b: Tensor) -> Tensor:
    edge = b - a
    along = ((p - a) @ edge / (edge @ edge).clamp_min(1e-20)).clamp(0, 1)
    return (p - a - along * edge) @ (p - a - along * edge)


def plain_silhouette(points: Tensor, faces: Tensor, size: int, *, sigma: float, smallest: float) -> Tensor:
    """SoftRas's product over one mesh's faces, in loops; w = [x; y; 1]⁻¹ (p, 1): on which side of the edges p is."""
    alphas = []
    reach = sigma * math.log(1 / smallest - 1)
    one = torch.ones(1, 3, dtype=points.dtype)
    for i in range(size):
        for j in range(size):
            p = torch.tensor([(2 * j + 1) / size - 1, (2 * i + 1) / size - 1], dtype=points.dtype)
            empty = torch.ones((), dtype=points.dtype)
            for face in faces:
                corners = points[face]
                w = torch.linalg.solve(torch.cat([corners.T, one]), torch.cat([p, one[0, :1]]))
                inside = bool(((w > 0) & (w < 1)).all())
                square = torch.stack(
                    [plain_square_distance(p, corners[k], corners[(k + 1) % 3]) for k in range(3)]
                ).min()
                if inside or square < reach:
                    empty = empty * (1 - torch.sigmoid((1 if inside else -1) * square / sigma))
            alphas.append(1 - empty)
    return torch.stack(alphas).view(size, size)


def scene(batch: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    """Crumpled octahedra in front of a camera: faces from both sides, over each other, partly outside the picture."""
    generator = torch.Generator().manual_seed(0)
    mesh = trimesh.creation.icosahedron()
    vertices = torch.tensor(mesh.vertices).expand(batch, -1, -1)
    vertices = vertices * 0.8 + 0.2 * torch.randn(vertices.shape, generator=generator, dtype=torch.float64)
    depth = 3 + vertices[..., 2]
    return vertices[..., :2] * 2.4 / depth[..., None], depth, torch.tensor(mesh.faces)


SETTINGS = {"sigma": 3e-3, "smallest": 1e-6}


def test_silhouettes_and_gradients_are_those_of_the_plain_twin():
    points, _, faces = scene()
    points.requires_grad_()
    cotangent = torch.randn(2, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = soft_silhouette(points, faces, 8, **SETTINGS)
    twin = torch.stack([plain_silhouette(mesh, faces, 8, **SETTINGS) for mesh in points])
    close(found, twin)
    (ours,), (plain,) = (torch.autograd.grad((picture * cotangent).sum(), points) for picture in (found, twin))
    close(ours, plain, 1e-7)
    assert ours.abs().max() > 0.1


def test_gradients_are_those_of_finite_differences():
    """Among points from where nothing jumps: no face's reach ends at a pixel (`smallest` is tiny), no edge crosses one."""
    points, _, faces = scene(1)

    def render(moved: Tensor) -> Tensor:
        return soft_silhouette(moved, faces, 4, sigma=3e-3, smallest=1e-300)

    assert torch.autograd.gradcheck(render, points.requires_grad_(), eps=1e-7, atol=1e-4, rtol=1e-3)


def test_one_half_plane_has_the_probability_of_its_distance():
    """A triangle so large that only one edge is near: D = sigmoid(± d² / σ) with d the distance to that edge."""
    points = torch.tensor([[[0.1, -50.0], [0.1, 50.0], [90.0, 0.0]]], dtype=torch.float64)
    alpha = soft_silhouette(points, torch.tensor([[0, 1, 2]]), 16, sigma=1e-2)
    x = (2 * torch.arange(16, dtype=torch.float64) + 1) / 16 - 1
    expected = torch.sigmoid((x - 0.1).abs() * (x - 0.1) / 1e-2)
    expected[(x < 0.1) & ((0.1 - x) ** 2 >= 1e-2 * math.log(1e10 - 1))] = 0
    close(alpha[0], expected.expand(16, 16))


def test_chances_multiply():
    points = torch.tensor([[[0.3, -60.0], [0.3, 60.0], [90.0, 0.0]]], dtype=torch.float64)
    once = soft_silhouette(points, torch.tensor([[0, 1, 2]]), 8, sigma=0.05)
    twice = soft_silhouette(points, torch.tensor([[0, 1, 2], [2, 1, 0]]), 8, sigma=0.05)
    close(twice, 1 - (1 - once) ** 2)


def test_the_loss_of_a_shifted_silhouette_pulls_it_back():
    points = torch.tensor([[[-0.5, -0.5], [0.5, -0.5], [0.0, 0.5]]], dtype=torch.float64, requires_grad=True)
    faces = torch.tensor([[0, 1, 2]])
    target = soft_silhouette(points.detach() + torch.tensor([0.1, 0.0]), faces, 32, sigma=1e-3)
    loss = (soft_silhouette(points, faces, 32, sigma=1e-3) - target).square().sum()
    (gradient,) = torch.autograd.grad(loss, points)
    assert gradient[..., 0].sum() < 0, "moving right would not lower the loss"


def test_chunks_change_nothing(monkeypatch):
    points, _, faces = scene()
    expected = soft_silhouette(points, faces, 32, sigma=1e-3)
    monkeypatch.setattr(soft_rasterizer, "_PAIRS_AT_ONCE", 50)
    assert torch.equal(soft_silhouette(points, faces, 32, sigma=1e-3), expected)


@pytest.mark.parametrize("perspective", [True, False])
def test_nearest_faces_are_those_of_the_z_buffer(perspective):
    from tars3d.geometry.rasterize import rasterize

    points, depth, faces = scene(1)
    face, weights = nearest_faces(points, depth, faces, 24, perspective=torch.tensor([perspective]))
    pixels = ((points[0] + 1) * 12).numpy()
    expected, _, _ = rasterize(pixels, depth[0].numpy(), faces.numpy(), 24, 24, perspective=perspective)
    assert (face[0].numpy() == expected).all()
    place = torch.einsum("hwk,hwkc->hwc", weights[0], points[0][faces[face[0].clamp_min(0)]])
    hit = face[0] >= 0
    assert 0.2 < hit.double().mean() < 1
    steps = (2 * torch.arange(24, dtype=torch.float64) + 1) / 24 - 1
    close(place[hit], torch.stack(torch.meshgrid(steps, steps, indexing="xy"), -1)[hit])


def test_nothing_in_the_picture_is_an_empty_picture_with_zero_gradient():
    points, _, faces = scene(1)
    away = (points + 10).requires_grad_()
    alpha = soft_silhouette(away, faces, 8, **SETTINGS)
    assert not alpha.any()
    alpha.sum().backward()
    assert away.grad is None or not away.grad.any()


def test_degenerate_faces_give_no_nan():
    points = torch.tensor([[[0.0, 0.0], [0.0, 0.0], [0.5, 0.5], [1.0, 1.0]]], dtype=torch.float64, requires_grad=True)
    faces = torch.tensor([[0, 1, 2], [0, 1, 1], [0, 2, 3]])  # a doubled point, a single one, a line
    alpha = soft_silhouette(points, faces, 16, **SETTINGS)
    alpha.sum().backward()
    assert torch.isfinite(points.grad).all()
    assert alpha.max() <= 1


def test_a_vertex_without_a_position_is_an_error():
    points, _, faces = scene(1)
    points[0, 3, 1] = math.nan
    with pytest.raises(FloatingPointError, match="1 of 12 vertices"):
        soft_silhouette(points, faces, 8)
