"""A differentiable soft rasteriser in plain PyTorch (SoftRas: Liu et al., ICCV 2019).

It gives silhouettes of triangle meshes, and the nearest face at each pixel. Which face touches which pixel, and where
on its boundary the nearest point lies, is found without a graph, in chunks, within each face's bounding box. Only what
is left then is differentiated. The gradient is still exact, because the squared distance does not change to first
order when the nearest point slides along its edge. The mesh systems' stages call it.

Screen coordinates run from -1 to 1 over the picture, x right and y down; the centre of pixel j is at (2 j + 1) / size - 1.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

_PAIRS_AT_ONCE = 131_072  # fits the cache
_SMALLEST_AREA = 1e-10
"""Twice a face's area on the screen counts as at least this, as in SoftRas's published code."""


@dataclass(frozen=True)
class Pairs:
    """The (face, pixel) pairs of a batch that count.

    Attributes:
        image, face: whose.
        pixel: row * size + column.
        inside: the pixel's centre is strictly inside the face.
        start, end: vertices (image * vertices + vertex) of the edge on which the face's nearest boundary point lies.
        along: where on it, 0 at `start` to 1 at `end`.
    """

    image: Int[Tensor, "pairs"]
    face: Int[Tensor, "pairs"]
    pixel: Int[Tensor, "pairs"]
    inside: Bool[Tensor, "pairs"]
    start: Int[Tensor, "pairs"]
    end: Int[Tensor, "pairs"]
    along: Float[Tensor, "pairs"]


def soft_silhouette(
    points: Float[Tensor, "batch vertices 2"],
    faces: Int[Tensor, "faces 3"],
    size: int,
    *,
    sigma: float = 1e-4,
    smallest: float = 1e-10,
) -> Float[Tensor, "batch size size"]:
    """Probability that a pixel shows the mesh: 1 - Π (1 - D_j) over all faces, D_j = sigmoid(± d² / σ).

    Args:
        points: vertices on the screen.
        sigma: softness, squared screen units.
        smallest: a face is left out where its D would be under this.

    Raises:
        FloatingPointError: a vertex has no finite position.
    """
    pairs = find_pairs(points, faces, size, squared_reach(sigma, smallest))
    chances = torch.nn.functional.softplus(_signed_square(points, pairs, size) / sigma)
    sums = torch.zeros(len(points) * size * size, dtype=points.dtype, device=points.device)
    sums = sums.index_add(0, pairs.image * size * size + pairs.pixel, chances)
    # 1 - exp(-Σ softplus(x)): no product underflows, no logarithm of zero
    return -torch.expm1(-sums).view(-1, size, size)


@torch.no_grad()
def nearest_faces(
    points: Float[Tensor, "batch vertices 2"],
    depth: Float[Tensor, "batch vertices"],
    faces: Int[Tensor, "faces 3"],
    size: int,
    *,
    perspective: Bool[Tensor, "batch"],
) -> tuple[Int[Tensor, "batch size size"], Float[Tensor, "batch size size 3"]]:
    """The nearest face at each pixel's centre (-1: none) and its barycentric weights on the screen: the 'hard' colours' part.

    Args:
        perspective: which camera model each image has.

    Raises:
        FloatingPointError: a vertex has no finite position.
    """
    batch, vertices = points.shape[:2]
    pairs = find_pairs(points, faces, size, 0.0)
    corners = faces[pairs.face] + (vertices * pairs.image)[:, None]
    weights = barycentric(points.reshape(-1, 2)[corners], pixel_centres(pairs.pixel, size, points))
    z = _depth_at(weights, depth.reshape(-1)[corners], perspective[pairs.image])
    target = pairs.image * size * size + pairs.pixel
    nearest = torch.full((batch * size * size,), math.inf, dtype=z.dtype, device=z.device)
    nearest = nearest.scatter_reduce(0, target, z, "amin")
    first = (z == nearest[target]).nonzero()[:, 0].flip(0)  # of equal depths the lowest face stays
    face = torch.full((batch * size * size,), -1, dtype=torch.long, device=z.device)
    found = torch.zeros(batch * size * size, 3, dtype=z.dtype, device=z.device)
    face[target[first]], found[target[first]] = pairs.face[first], weights[first]
    return face.view(batch, size, size), found.view(batch, size, size, 3)


def squared_reach(sigma: float, smallest: float) -> float:
    """The squared distance from which on D = sigmoid(-d² / σ) is under `smallest`."""
    return sigma * math.log(1 / smallest - 1)


@torch.no_grad()
def find_pairs(
    points: Float[Tensor, "batch vertices 2"], faces: Int[Tensor, "faces 3"], size: int, reach: float
) -> Pairs:
    """Every pixel whose centre is inside a face, or outside it at a squared distance under `reach`.

    Raises:
        FloatingPointError: a vertex has no finite position.
    """
    if not torch.isfinite(points).all():
        bad = int((~torch.isfinite(points)).any(-1).sum())
        raise FloatingPointError(f"{bad} of {points.shape[0] * points.shape[1]} vertices have no finite position")
    corners = points[:, faces].flatten(0, 1)  # [batch * faces, 3, 2]
    edges = corners.roll(-1, 1) - corners
    inverse = 1 / edges.square().sum(-1).clamp_min(1e-20)
    table = torch.cat([corners.flatten(1), edges.flatten(1), inverse], dim=1).T.contiguous()  # [15, batch * faces]
    margin = math.sqrt(reach)
    # Screen to pixel indices: x = (2 j + 1) / size - 1. Clamped first, so that far-away vertices do not overflow.
    low = (((corners.amin(1) - margin).clamp(-2, 2) + 1) * size - 1) / 2
    high = (((corners.amax(1) + margin).clamp(-2, 2) + 1) * size - 1) / 2
    first = low.ceil().long().clamp(min=0)
    extent = (high.floor().long().clamp(max=size - 1) - first + 1).clamp(min=0)
    counts = extent[:, 0] * extent[:, 1]
    parts = [_pairs_of(part, table, first, extent, counts, size, reach) for part in _chunks(counts)]
    owner, pixel, inside, edge, along = (torch.cat(column) for column in zip(*parts, strict=True))
    image, face = owner // len(faces), owner % len(faces)
    base = image * points.shape[1]
    start, end = base + faces[face, edge], base + faces[face, (edge + 1) % 3]
    return Pairs(image, face, pixel, inside, start, end, along)


def _chunks(counts: Int[Tensor, "owners"]) -> list[Tensor]:
    """The faces with candidates, in parts of about `_PAIRS_AT_ONCE` of them; at least one part."""
    alive = counts.nonzero()[:, 0]
    part = counts[alive].cumsum(0) // _PAIRS_AT_ONCE
    sizes = torch.bincount(part).tolist() if len(alive) else [0]
    return list(alive.split(sizes))


def _pairs_of(
    owners: Tensor, table: Tensor, first: Tensor, extent: Tensor, counts: Tensor, size: int, reach: float
) -> tuple[Tensor, ...]:
    """Candidates of some faces, and which of them count: owner, pixel, inside, edge, place along the edge."""
    count = counts[owners]
    owner = owners.repeat_interleave(count)
    position = torch.arange(len(owner), device=owner.device) - (count.cumsum(0) - count).repeat_interleave(count)
    row = torch.div(position, extent[owner, 0], rounding_mode="floor")
    column = first[owner, 0] + position - row * extent[owner, 0]
    row = row + first[owner, 1]
    pixel = row * size + column
    values = table.index_select(1, owner)
    corner_x, corner_y, edge_x, edge_y = (values[i:12:2] for i in (0, 1, 6, 7))  # [3, pairs] each
    corner_x, corner_y, inverse = corner_x[:3], corner_y[:3], values[12:]
    x = (2 * column + 1).to(table.dtype) / size - 1 - corner_x
    y = (2 * row + 1).to(table.dtype) / size - 1 - corner_y
    cross = edge_x * y - edge_y * x
    inside = (cross > 0).all(0) | (cross < 0).all(0)
    along = ((edge_x * x + edge_y * y) * inverse).clamp(0, 1)
    square = (x - along * edge_x).square() + (y - along * edge_y).square()
    square, edge = square.min(0)
    keep = (inside | (square < reach)).nonzero()[:, 0]
    edge = edge[keep]
    return owner[keep], pixel[keep], inside[keep], edge, along[:, keep].gather(0, edge[None])[0]


def pixel_centres(pixel: Int[Tensor, "pairs"], size: int, like: Tensor) -> Float[Tensor, "pairs 2"]:
    """Centres of pixels on the screen."""
    place = torch.stack([pixel % size, torch.div(pixel, size, rounding_mode="floor")], dim=-1)
    return (2 * place + 1).to(like.dtype) / size - 1


def barycentric(corners: Float[Tensor, "pairs 3 2"], at: Float[Tensor, "pairs 2"]) -> Float[Tensor, "pairs 3"]:
    """Weights of a triangle's corners at a point of its plane; they add up to 1 unless it has hardly any area."""
    relative = corners - at[:, None]
    after = relative.roll(-1, 1)
    opposite = (relative[..., 0] * after[..., 1] - relative[..., 1] * after[..., 0]).roll(-1, 1)
    area = opposite.sum(1, keepdim=True)
    return opposite / torch.where(area < 0, area.clamp(max=-_SMALLEST_AREA), area.clamp(min=_SMALLEST_AREA))


def _signed_square(points: Tensor, pairs: Pairs, size: int) -> Float[Tensor, "pairs"]:
    """± squared distance to the face's boundary, positive inside, with a graph to the edge's two vertices."""
    flat = points.reshape(-1, 2)
    along = pairs.along[:, None]
    nearest = torch.lerp(flat.index_select(0, pairs.start), flat.index_select(0, pairs.end), along)
    square = (nearest - pixel_centres(pairs.pixel, size, points)).square().sum(-1)
    return torch.where(pairs.inside, square, -square)


def _depth_at(weights: Tensor, depth: Tensor, perspective: Bool[Tensor, "pairs"]) -> Float[Tensor, "pairs"]:
    inverse = (weights / torch.where(depth.abs() < 1e-9, 1e-9, depth)).sum(1)
    return torch.where(perspective, 1 / torch.where(inverse.abs() < 1e-9, 1e-9, inverse), (weights * depth).sum(1))
