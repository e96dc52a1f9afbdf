"""The mesh systems' loss terms against loops and against shapes whose loss is known."""

import numpy as np
import pytest
import torch
import trimesh

from helpers import close
from tars3d import mesh_objectives as objectives
from tars3d.geometry.camera import Cameras, look_at_origin
from tars3d.geometry.templates import icosphere
from tars3d.geometry.weak_perspective import screen, weak_perspective
from tars3d.mesh_objectives import MeshTopology


@pytest.fixture(scope="module")
def ball() -> tuple[torch.Tensor, torch.Tensor, MeshTopology]:
    template = icosphere(1)
    generator = torch.Generator().manual_seed(0)
    vertices = torch.from_numpy(template.vertices) + 0.05 * torch.randn(
        2, 42, 3, generator=generator, dtype=torch.float64
    )
    faces = torch.from_numpy(template.faces)
    return vertices, faces, MeshTopology.of(faces, 42)


def test_topology_has_every_edge_once_with_its_two_faces(ball):
    _, faces, topology = ball
    assert len(topology.edges) == 120
    for (v0, v1), opposite in zip(topology.edges.tolist(), topology.opposite.tolist(), strict=True):
        found = [set(face) - {v0, v1} for face in faces.tolist() if {v0, v1} <= set(face)]
        assert sorted(v for rest in found for v in rest) == sorted(opposite)


def test_laplacian_and_flatten_are_those_of_loops(ball):
    vertices, _, topology = ball
    smooth = bent = 0.0
    for mesh in vertices.numpy():
        for number in range(42):
            near = [a + b - number for a, b in topology.edges.tolist() if number in (a, b)]
            smooth += ((mesh[number] - mesh[near].mean(0)) ** 2).sum()
        for (v0, v1), (v2, v3) in zip(topology.edges.tolist(), topology.opposite.tolist(), strict=True):
            axis = (mesh[v1] - mesh[v0]) / np.linalg.norm(mesh[v1] - mesh[v0])
            sides = [mesh[v] - mesh[v0] - axis * (axis @ (mesh[v] - mesh[v0])) for v in (v2, v3)]
            bent += (sides[0] @ sides[1] / np.linalg.norm(sides[0]) / np.linalg.norm(sides[1]) + 1) ** 2
    close(objectives.uniform_laplacian_loss(vertices, topology), torch.tensor(smooth / 2, dtype=torch.float64))
    found = objectives.flatten_loss(vertices, topology)
    assert found.item() == pytest.approx(bent / 2, rel=1e-3)  # the published epsilons


def test_flatten_of_a_cube_counts_its_twelve_edges():
    box = trimesh.creation.box()
    faces = torch.from_numpy(np.asarray(box.faces, dtype=np.int64))
    vertices = torch.tensor(np.asarray(box.vertices))[None]
    # cos 90° + 1 = 1 at each of the 12 edges; 0 at the 6 diagonals, which are flat.
    assert objectives.flatten_loss(vertices, MeshTopology.of(faces, 8)).item() == pytest.approx(12, abs=1e-3)


def test_intersection_over_union():
    mask = torch.zeros(2, 4, 4, dtype=torch.bool)
    mask[:, :2] = True
    alpha = torch.zeros(2, 4, 4)
    alpha[0, :2], alpha[1, 1:3] = 1, 1
    assert objectives.silhouette_iou_loss(alpha, mask).item() == pytest.approx(1 - (1 + 1 / 3) / 2)


def test_cotangent_laplacian_of_a_sphere_points_inward_and_ignores_shifts():
    template = icosphere(3)
    vertices, faces = torch.from_numpy(template.vertices), torch.from_numpy(template.faces)
    laplacian = objectives.cotangent_laplacian(vertices, faces)
    found = torch.sparse.mm(laplacian, vertices)
    close(torch.sparse.mm(laplacian, torch.ones_like(vertices)), torch.zeros_like(vertices))
    inward = -torch.nn.functional.cosine_similarity(found, vertices)
    assert inward.min() > 0.999
    # Σ over vertices of mean curvature times area: 2 H A with H = 1 (CMR's L is not divided by areas).
    assert found.norm(dim=1).sum().item() == pytest.approx(2 * 4 * np.pi, rel=0.01)
    expected = found.norm(dim=1).mean()
    close(objectives.smoothness_loss(vertices.expand(2, -1, -1) + 3.0, laplacian), expected)


@pytest.mark.parametrize("perspective", [True, False])
def test_weak_perspective_is_the_camera_near_the_origin(perspective):
    focal = 100.0 if perspective else 40.0
    intrinsics = torch.tensor([[focal, 0.0, 30.0], [0.0, focal, 35.0], [0.0, 0.0, 1.0]])[None].expand(3, -1, -1)
    extrinsics = torch.tensor(np.array([look_at_origin(70.0 * i, 20.0 * i, 2.7, 15.0 * i) for i in range(3)])).float()
    cameras = Cameras(intrinsics, extrinsics, torch.full((3,), perspective))
    s, shift, q = weak_perspective(cameras, 64).split([1, 2, 4], dim=1)
    points = 1e-3 * torch.randn(3, 10, 3, generator=torch.Generator().manual_seed(0))
    w, x, y, z = q.T[:, :, None]
    px, py, pz = points.unbind(-1)
    u = (1 - 2 * (y * y + z * z)) * px + 2 * (x * y - w * z) * py + 2 * (x * z + w * y) * pz
    v = 2 * (x * y + w * z) * px + (1 - 2 * (x * x + z * z)) * py + 2 * (y * z - w * x) * pz
    found = s[:, :, None] * torch.stack([u, v], -1) + shift[:, None]
    torch.testing.assert_close(found, screen(cameras, points, 64)[0], atol=5e-6, rtol=0)


def test_camera_loss_knows_no_sign_of_the_quaternion():
    truth = torch.tensor([[1.5, 0.1, -0.2, 0.5, 0.5, 0.5, 0.5]])
    turned = truth * torch.tensor([1.0, 1, 1, -1, -1, -1, -1])
    assert objectives.camera_loss(turned, truth).item() == pytest.approx(0, abs=1e-6)
    shifted = truth + torch.tensor([0.3, 0, 0, 0, 0, 0, 0])
    assert objectives.camera_loss(shifted, truth).item() == pytest.approx(0.03, abs=1e-6)


def test_the_barrier_rises_across_the_silhouette():
    mask = torch.zeros(1, 8, 8, dtype=torch.bool)
    mask[:, :, :4] = True
    distance = torch.tensor([3.5, 2.5, 1.5, 0.5, 0.5, 1.5, 2.5, 3.5]).expand(1, 8, 8)
    barrier = objectives.silhouette_barrier(distance, mask)
    assert barrier[0, 0, 0] < 1e-6 < barrier[0, 0, 3] < 0.5 < barrier[0, 0, 4]
    assert barrier[0, 0, 7] > 1 - 1e-6
