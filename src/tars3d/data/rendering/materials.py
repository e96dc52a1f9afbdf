"""How rendered objects look: which faces share a material, its finish, the light around. All seeded.

Called by `tars3d.data.rendering.scene`, which turns these descriptions into a Mitsuba scene.
"""

import colorsys
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.ndimage import gaussian_filter
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from tars3d.data.rendering.meshes import SourceMesh

ENVIRONMENT_SIZE = (32, 64)
"""Rows and columns of the light from all around."""
TEXTURE_SIZE = 64
TEXTURE_SIDE = 0.5  # object units that one texture tile covers


@dataclass(frozen=True)
class Material:
    """One surface finish: `texture` is linear RGB in [0, 1], [1, 1, 3] where the colour is uniform."""

    kind: str
    """diffuse, plastic or metal"""
    texture: Float[np.ndarray, "height width 3"]
    roughness: float


def part_index(mesh: SourceMesh, rng: np.random.Generator) -> Int[np.ndarray, "faces"]:
    """Which faces look alike: all, or by part label, connected component or height; values 0..k-1, k <= 6."""
    if rng.random() < 0.4:
        return np.zeros(len(mesh.faces), np.int64)
    if mesh.labels is not None:
        # labels may share a material, as the legs and arms of most real chairs do
        shared = rng.integers(0, 6, int(mesh.labels.max()) + 1)
        return np.unique(shared[mesh.labels], return_inverse=True)[1]
    component = face_components(mesh)
    if component.max() > 0 and rng.random() < 0.6:
        shared = rng.integers(0, 4, int(component.max()) + 1)
        return np.unique(shared[component], return_inverse=True)[1]
    height = mesh.vertices[mesh.faces].mean(1)[:, 1]
    edges = np.sort(rng.uniform(-0.3, 0.3, rng.integers(1, 3)))
    return np.unique(np.digitize(height, edges), return_inverse=True)[1]


def face_components(mesh: SourceMesh) -> Int[np.ndarray, "faces"]:
    """Connected component of each face; vertices at one place count as one (files repeat them)."""
    _, welded = np.unique(np.round(mesh.vertices, 6), axis=0, return_inverse=True)
    faces = welded.reshape(-1)[mesh.faces]
    rows = np.concatenate([faces[:, 0], faces[:, 1]])
    columns = np.concatenate([faces[:, 1], faces[:, 2]])
    graph = coo_matrix((np.ones(len(rows), bool), (rows, columns)), shape=(len(mesh.vertices),) * 2)
    label = connected_components(graph, directed=False)[1][faces[:, 0]]
    return np.unique(label, return_inverse=True)[1]


def random_material(rng: np.random.Generator) -> Material:
    """A finish drawn at random: half of them diffuse, most of them plain."""
    kind = str(rng.choice(["diffuse", "plastic", "metal"], p=[0.5, 0.35, 0.15]))
    texture = random_color(rng)[None, None] if kind == "metal" or rng.random() < 0.65 else random_pattern(rng)
    return Material(kind, texture, float(rng.uniform(0.15, 0.45)))


def random_color(rng: np.random.Generator) -> Float[np.ndarray, "3"]:
    """Linear RGB: greys, browns and saturated colours, none quite black or white."""
    family = rng.random()
    if family < 0.3:
        hue, saturation = rng.random(), rng.uniform(0, 0.1)
    elif family < 0.6:
        hue, saturation = rng.uniform(0.02, 0.12), rng.uniform(0.2, 0.7)
    else:
        hue, saturation = rng.random(), rng.uniform(0.3, 0.9)
    color = colorsys.hsv_to_rgb(hue, saturation, rng.uniform(0.2, 0.95))
    return np.asarray(color) ** 2.2


def random_pattern(rng: np.random.Generator) -> Float[np.ndarray, "64 64 3"]:
    """A tile of checks, stripes or blotches in two colours; its edges meet when repeated."""
    first, second = random_color(rng), random_color(rng)
    row, column = np.meshgrid(np.arange(TEXTURE_SIZE), np.arange(TEXTURE_SIZE), indexing="ij")
    cell = TEXTURE_SIZE // int(rng.choice([2, 4, 8]))
    kind = rng.integers(3)
    if kind == 0:
        blend = (row // cell + column // cell) % 2
    elif kind == 1:
        blend = ((row if rng.random() < 0.5 else column) // cell) % 2
    else:
        noise = gaussian_filter(rng.standard_normal((TEXTURE_SIZE, TEXTURE_SIZE)), rng.uniform(1.5, 6), mode="wrap")
        blend = np.clip(0.5 + 0.5 * noise / noise.std(), 0, 1)
    return first + blend[..., None] * (second - first)


def box_uv(corners: Float[np.ndarray, "faces 3 3"]) -> Float[np.ndarray, "faces 3 2"]:
    """Texture coordinates by projection along the axis that each face looks along most: works on any soup."""
    normal = np.abs(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]))
    axis = normal.argmax(1)
    kept = np.array([[2, 1], [0, 2], [0, 1]])[axis]
    return np.take_along_axis(corners, np.repeat(kept[:, None], 3, axis=1), axis=2) / TEXTURE_SIDE


def random_environment(rng: np.random.Generator) -> Float[np.ndarray, "height width 3"]:
    """Light from all around as a latitude-longitude picture (row 0 up, linear RGB): a sky and 1-3 soft lamps.

    Scaled so that a white diffuse surface facing the brightest lamp comes out near 1.
    """
    height, width = ENVIRONMENT_SIZE
    theta = (np.arange(height) + 0.5) / height * np.pi
    phi = (np.arange(width) + 0.5) / height * np.pi
    direction = np.stack(
        [
            np.sin(theta)[:, None] * np.sin(phi)[None],
            np.repeat(np.cos(theta)[:, None], width, 1),
            -np.sin(theta)[:, None] * np.cos(phi)[None],
        ],
        axis=-1,
    )
    sky = rng.uniform(0.25, 0.6) * (1 + rng.uniform(0, 0.5) * direction[..., 1:2])
    light = sky * (1 + rng.uniform(-0.08, 0.08, 3))
    for _ in range(rng.integers(1, 4)):
        towards = rng.standard_normal(3)
        towards[1] = abs(towards[1]) + 0.2
        towards /= np.linalg.norm(towards)
        sharpness = np.exp(rng.uniform(np.log(8), np.log(80)))
        # a lobe exp(k (cos - 1)) of height k / 2 lights a facing white surface with radiance about 1
        strength = rng.uniform(0.2, 0.7) * sharpness / 2
        light = light + strength * np.exp(sharpness * (direction @ towards - 1))[..., None] * (
            1 + rng.uniform(-0.1, 0.1, 3)
        )
    return light
