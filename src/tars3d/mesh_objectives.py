"""The loss terms of SoftRas and CMR, after their published code, one pure function each.

`training.mesh_stages` weighs and adds them.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

_EPSILON = 1e-6


@dataclass(frozen=True, eq=False)
class MeshTopology:
    """What the losses need of a closed mesh's faces; the same for all its deformations.

    Attributes:
        edges: each once, [v0, v1].
        opposite: the two vertices that complete an edge's faces, [v2, v3].
        vertices: how many.
    """

    edges: Int[Tensor, "edges 2"]
    opposite: Int[Tensor, "edges 2"]
    vertices: int

    @classmethod
    def of(cls, faces: Int[Tensor, "faces 3"], vertices: int) -> "MeshTopology":
        """Of a closed, consistently wound mesh (`geometry.templates.check_template`)."""
        table = np.asarray(faces.cpu())
        directed = np.concatenate([table[:, [k, (k + 1) % 3]] for k in range(3)])
        third = np.concatenate([table[:, (k + 2) % 3] for k in range(3)])
        key = directed.min(1) * vertices + directed.max(1)
        order = np.argsort(key, kind="stable").reshape(-1, 2)  # the two faces of each edge
        edges = np.sort(directed[order[:, 0]], axis=1)
        device = faces.device
        return cls(torch.from_numpy(edges).to(device), torch.from_numpy(third[order]).to(device), vertices)


def silhouette_iou_loss(
    alpha: Float[Tensor, "batch height width"], mask: Bool[Tensor, "batch height width"]
) -> Float[Tensor, ""]:
    """1 - mean over pictures of ΣPT / (Σ(P + T - PT) + 1e-6) (SoftRas)."""
    truth = mask.to(alpha.dtype)
    overlap = alpha * truth
    union = (alpha + truth - overlap).sum((1, 2)) + 1e-6
    return 1 - (overlap.sum((1, 2)) / union).mean()


def uniform_laplacian_loss(vertices: Float[Tensor, "batch vertices 3"], topology: MeshTopology) -> Float[Tensor, ""]:
    """Σ over vertices of ‖v - mean of its neighbours‖² per mesh, mean over the batch (SoftRas)."""
    first, second = topology.edges.T
    degree = torch.bincount(topology.edges.flatten(), minlength=topology.vertices).to(vertices.dtype)
    sums = torch.zeros_like(vertices).index_add(1, first, vertices[:, second]).index_add(1, second, vertices[:, first])
    return (vertices - sums / degree[:, None]).square().sum((1, 2)).mean()


def flatten_loss(vertices: Float[Tensor, "batch vertices 3"], topology: MeshTopology) -> Float[Tensor, ""]:
    """Σ over edges of (cos θ + 1)², θ between the edge's two faces; 0 if flat. Mean over the batch (SoftRas)."""
    start = vertices[:, topology.edges[:, 0]]
    edge = vertices[:, topology.edges[:, 1]] - start
    length = edge.square().sum(-1, keepdim=True) + _EPSILON

    def rising(side: int) -> Tensor:
        towards = vertices[:, topology.opposite[:, side]] - start
        return towards - edge * (edge * towards).sum(-1, keepdim=True) / length

    one, other = rising(0), rising(1)
    norms = (one.square().sum(-1) + _EPSILON).sqrt() * (other.square().sum(-1) + _EPSILON).sqrt()
    return ((one * other).sum(-1) / (norms + _EPSILON) + 1).square().sum(1).mean()


def cotangent_laplacian(
    vertices: Float[Tensor, "vertices 3"], faces: Int[Tensor, "faces 3"]
) -> Float[Tensor, "vertices vertices"]:
    """Sparse L with (L v)_i = Σ_j w_ij (v_j - v_i), w half the cotangents of the two angles opposite the edge (CMR)."""
    rows, columns, weights = [], [], []
    for k in range(3):
        corner, i, j = faces[:, k], faces[:, (k + 1) % 3], faces[:, (k + 2) % 3]
        to_i, to_j = vertices[i] - vertices[corner], vertices[j] - vertices[corner]
        sine = torch.linalg.cross(to_i, to_j).norm(dim=-1).clamp_min(1e-12)
        half = 0.5 * (to_i * to_j).sum(-1) / sine
        rows += [i, j, i, j]
        columns += [j, i, i, j]
        weights += [half, half, -half, -half]
    index = torch.stack([torch.cat(rows), torch.cat(columns)])
    return torch.sparse_coo_tensor(
        index, torch.cat(weights), (len(vertices), len(vertices)), check_invariants=False
    ).coalesce()


def smoothness_loss(
    vertices: Float[Tensor, "batch vertices 3"], laplacian: Float[Tensor, "vertices vertices"]
) -> Float[Tensor, ""]:
    """Mean over vertices of ‖(L V)_i‖: CMR's "triangle" term."""
    flat = vertices.transpose(0, 1).flatten(1)  # [vertices, batch * 3]
    moved = torch.sparse.mm(laplacian, flat).view(len(flat), -1, 3)
    return torch.linalg.vector_norm(moved, dim=-1).mean()


def camera_loss(found: Float[Tensor, "batch 7"], truth: Float[Tensor, "batch 7"]) -> Float[Tensor, ""]:
    """1 - |<q, q*>| plus the squared error of scale and shift (CMR).

    A camera is [s, tx, ty, q], and q a quaternion with its real part first.
    """
    turn = 1 - (found[:, 3:] * truth[:, 3:]).sum(-1).abs()
    return turn.mean() + (found[:, :3] - truth[:, :3]).square().mean()


def silhouette_barrier(
    distance: Float[Tensor, "batch height width"], mask: Bool[Tensor, "batch height width"]
) -> Float[Tensor, "batch height width"]:
    """0 well inside the mask, 1 well outside (CMR): sigmoid(50 d / longer side).

    d is the distance to the mask's edge in pixels, negative inside.
    """
    signed = torch.where(mask, -distance, distance)
    return torch.sigmoid(50 * signed / max(mask.shape[1:]))
