"""The soft rasteriser against a plain twin that visits every pixel and every face, its gradients, and cases with known answers."""

import math

import pytest
import torch
import trimesh
from torch import Tensor

from helpers import close
from tars3d.geometry import soft_rasterizer
from tars3d.geometry.soft_rasterizer import nearest_faces, soft_colors, soft_silhouette


def plain_square_distance(p: Tensor, a: Tensor, b: Tensor) -> Tensor:
    edge = b - a
    along = ((p - a) @ edge / (edge @ edge).clamp_min(1e-20)).clamp(0, 1)
    return (p - a - along * edge) @ (p - a - along * edge)


def plain_weights(p: Tensor, corners: Tensor) -> Tensor:
    """w = [x; y; 1]⁻¹ (p, 1), FACTS §3."""
    matrix = torch.cat([corners.T, torch.ones(1, 3, dtype=p.dtype)])
    return torch.linalg.solve(matrix, torch.cat([p, torch.ones(1, dtype=p.dtype)]))


def plain_render(
    points: Tensor, depth: Tensor, faces: Tensor, colors: Tensor, size: int, *, sigma, gamma, near, far, smallest,
    perspective=True,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """One mesh, in loops, with the product of FACTS §3."""
    rows, alphas = [], []
    reach = sigma * math.log(1 / smallest - 1)
    for i in range(size):
        for j in range(size):
            p = torch.tensor([(2 * j + 1) / size - 1, (2 * i + 1) / size - 1], dtype=points.dtype)
            empty, shares, shades, closeness = torch.ones((), dtype=points.dtype), [], [], []
            for face in faces:
                corners = points[face]
                w = plain_weights(p, corners)
                inside = bool(((w > 0) & (w < 1)).all())
                square = torch.stack(
                    [plain_square_distance(p, corners[k], corners[(k + 1) % 3]) for k in range(3)]
                ).min()
                if not inside and square >= reach:
                    continue
                share = torch.sigmoid((1 if inside else -1) * square / sigma)
                empty = empty * (1 - share)
                clipped = w.clamp(0, 1)
                clipped = clipped / clipped.sum().clamp_min(1e-5)
                z = 1 / (clipped / depth[face]).sum() if perspective else (clipped * depth[face]).sum()
                if near <= z <= far:
                    shares.append(share)
                    closeness.append((far - z) / (far - near))
                    shades.append(clipped @ colors[face])
            epsilon = 1e-3
            m = max([epsilon, *(value.item() for value in closeness)])
            ground = math.exp(epsilon / gamma) * math.exp((epsilon - m) / gamma)
            above = ground * torch.ones(colors.shape[1], dtype=points.dtype)
            below = torch.tensor(ground, dtype=points.dtype)
            for share, value, shade in zip(shares, closeness, shades, strict=True):
                weight = share * torch.exp((value - m) / gamma)
                above, below = above + weight * shade, below + weight
            rows.append(above / below)
            alphas.append(1 - empty)
    return torch.stack(rows).view(size, size, -1), torch.stack(alphas).view(size, size)


def scene(batch: int = 2) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Crumpled octahedra in front of a camera: faces from both sides, over each other, partly outside the picture."""
    generator = torch.Generator().manual_seed(0)
    mesh = trimesh.creation.icosahedron()
    vertices = torch.tensor(mesh.vertices).expand(batch, -1, -1)
    vertices = vertices * 0.8 + 0.2 * torch.randn(vertices.shape, generator=generator, dtype=torch.float64)
    depth = 3 + vertices[..., 2]
    colors = torch.rand(vertices.shape, generator=generator, dtype=torch.float64)
    return vertices[..., :2] * 2.4 / depth[..., None], depth, torch.tensor(mesh.faces), colors


SETTINGS = {"sigma": 3e-3, "gamma": 1e-2, "near": 1.0, "far": 10.0, "smallest": 1e-6}


@pytest.mark.parametrize("perspective", [True, False])
def test_pictures_and_gradients_are_those_of_the_plain_twin(perspective):
    points, depth, faces, colors = scene()
    inputs = [values.requires_grad_() for values in (points, depth, colors)]
    generator = torch.Generator().manual_seed(1)
    cotangent = torch.randn(2, 8, 8, 4, generator=generator, dtype=torch.float64)
    found, alpha = soft_colors(points, depth, faces, colors, 8, perspective=perspective, **SETTINGS)
    expected = [
        plain_render(points[i], depth[i], faces, colors[i], 8, perspective=perspective, **SETTINGS) for i in range(2)
    ]
    close(found, torch.stack([rgb for rgb, _ in expected]))
    close(alpha, torch.stack([silhouette for _, silhouette in expected]))
    both = torch.cat([found, alpha[..., None]], -1)
    twin = torch.stack([torch.cat([rgb, silhouette[..., None]], -1) for rgb, silhouette in expected])
    gradients = torch.autograd.grad((both * cotangent).sum(), inputs)
    for ours, plain in zip(gradients, torch.autograd.grad((twin * cotangent).sum(), inputs), strict=True):
        close(ours, plain, 1e-7)
    assert gradients[0].abs().max() > 0.1
    close(soft_silhouette(points, faces, 8, sigma=3e-3, smallest=1e-6), alpha)


def test_gradients_are_those_of_finite_differences():
    """Among points from where nothing jumps: no face's reach ends at a pixel (`smallest` is tiny), no edge crosses one."""
    points, depth, faces, colors = (
        values[:1] if values.dim() > 2 or len(values) == 2 else values for values in scene()
    )
    settings = {**SETTINGS, "smallest": 1e-300}

    def render(moved: Tensor, far: Tensor, shade: Tensor) -> tuple[Tensor, Tensor]:
        return soft_colors(moved, far, faces, shade, 4, **settings)

    inputs = tuple(values.clone().requires_grad_() for values in (points, depth, colors))
    assert torch.autograd.gradcheck(render, inputs, eps=1e-7, atol=1e-4, rtol=1e-3)


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
    points, _, faces, _ = scene()
    expected = soft_silhouette(points, faces, 32, sigma=1e-3)
    monkeypatch.setattr(soft_rasterizer, "_PAIRS_AT_ONCE", 50)
    assert torch.equal(soft_silhouette(points, faces, 32, sigma=1e-3), expected)


def test_nearest_faces_are_those_of_the_z_buffer():
    from tars3d.geometry.rasterize import rasterize

    points, depth, faces, _ = scene(1)
    face, weights = nearest_faces(points, depth, faces, 24, perspective=torch.tensor([True]))
    pixels = ((points[0] + 1) * 12).numpy()
    expected, _, _ = rasterize(pixels, depth[0].numpy(), faces.numpy(), 24, 24, perspective=True)
    assert (face[0].numpy() == expected).all()
    place = torch.einsum("hwk,hwkc->hwc", weights[0], points[0][faces[face[0].clamp_min(0)]])
    hit = face[0] >= 0
    assert 0.2 < hit.double().mean() < 1
    steps = (2 * torch.arange(24, dtype=torch.float64) + 1) / 24 - 1
    close(place[hit], torch.stack(torch.meshgrid(steps, steps, indexing="xy"), -1)[hit])


def test_nothing_in_the_picture_is_an_empty_picture_with_zero_gradient():
    points, depth, faces, colors = scene(1)
    away = (points + 10).requires_grad_()
    found, alpha = soft_colors(away, depth, faces, colors, 8, **SETTINGS)
    assert not alpha.any()
    assert (found == 1).all()
    (alpha.sum() + found.sum()).backward()
    assert away.grad is None or not away.grad.any()


def test_degenerate_faces_give_no_nan():
    points = torch.tensor([[[0.0, 0.0], [0.0, 0.0], [0.5, 0.5], [1.0, 1.0]]], dtype=torch.float64, requires_grad=True)
    faces = torch.tensor([[0, 1, 2], [0, 1, 1], [0, 2, 3]])  # a doubled point, a single one, a line
    depth = torch.full((1, 4), 3.0, dtype=torch.float64)
    found, alpha = soft_colors(points, depth, faces, torch.rand(1, 4, 3, dtype=torch.float64), 16, **SETTINGS)
    (alpha.sum() + found.sum()).backward()
    assert torch.isfinite(found).all()
    assert torch.isfinite(points.grad).all()
    assert alpha.max() <= 1


def test_a_vertex_without_a_position_is_an_error():
    points, _, faces, _ = scene(1)
    points[0, 3, 1] = math.nan
    with pytest.raises(FloatingPointError, match="1 of 12 vertices"):
        soft_silhouette(points, faces, 8)
