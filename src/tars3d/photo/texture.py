"""The pictures themselves on the surface that their cameras see, at its vertices or baked (`--texture photo`); the mirrored side and the
colour field on the rest.

`colors` makes `PhotoColors` of a reconstruction.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import trimesh
from jaxtyping import Bool, Float, UInt8
from scipy.ndimage import distance_transform_edt, map_coordinates, maximum_filter, minimum_filter
from scipy.spatial import KDTree

from tars3d.appearance import SurfaceColors
from tars3d.data.framing import apply_crop, bbox_crop, crop_intrinsics
from tars3d.data.pictures import Picture
from tars3d.geometry.rasterize import project, rasterize
from tars3d.geometry.triangles import sample_faces
from tars3d.photo.camera import PhotoCamera

LARGEST = 1024
"""Side of the square that is cut from the picture, pixels, at most."""
FACING = (0.15, 0.45)
"""Cosines between the normal and the direction to the camera: at the first and below, the picture is not used; from the second
on, fully. Between them it fades, as what is seen from the side is smeared over the surface."""
REACH = 0.03
"""Picture sides outside the mask at which the picture has faded: there the mesh sticks out of its picture."""
SHARPNESS = 4
"""Power of the trust by which pictures that see the same point are blended: less blurs, more shows seams."""
BEHIND = 0.015
"""World units that a point may lie behind what the camera sees there and still count as seen."""
SAMPLES = 20_000
KNOWN = 4000
"""Samples of the seen surface that lend the rest their difference from the field, and how many of them to a vertex."""
NEIGHBOURS = 64
ALIKE = 100.0
"""Difference of the field's colours, of 255, that counts as much as a world unit of distance between a place and those that lend it theirs."""
MIRROR = np.array([-1.0, 1.0, 1.0])


@dataclass(frozen=True)
class Shares:
    """Which part of a surface, in per cent of its area, wears what."""

    photo: float
    mirrored: float
    field: float


class Sight:
    """A picture as a source of colours for the surface that its camera sees.

    Args:
        picture: at its full resolution.
        mesh: in the object frame, faces outward.
        camera: of the picture.
    """

    def __init__(self, picture: Picture, mesh: trimesh.Trimesh, camera: PhotoCamera):
        crop = bbox_crop(picture.mask, 1.3)  # the mesh may stick out
        size = int(np.clip(np.ceil(crop.side), 64, LARGEST))
        self._rgb, mask = apply_crop(picture.rgb, picture.mask, crop, size)
        self._size = size
        self._rgb, self._trust = extended(self._rgb, mask)
        intrinsics = np.asarray(crop_intrinsics(camera.intrinsics, crop, size))
        self._camera = (intrinsics, camera.extrinsics, camera.perspective)
        rotation, shift = camera.extrinsics[:, :3], camera.extrinsics[:, 3]
        self._eye = -rotation.T @ shift
        self._ahead = rotation[2]
        self._perspective = camera.perspective
        pixels, depth = project(mesh.vertices, *self._camera)
        depth_map = rasterize(pixels, depth, mesh.faces, size, size, perspective=camera.perspective)[2]
        # The nearest of the neighbourhood: beside an outline the pixels belong half to what is in front.
        self._depth = minimum_filter(depth_map, size=3)

    def seen(
        self, points: Float[np.ndarray, "points 3"], normals: Float[np.ndarray, "points 3"]
    ) -> tuple[Float[np.ndarray, "points 3"], Float[np.ndarray, " points"]]:
        """The picture's colours (0 to 255) of surface points, and how far they are to be trusted, 0 to 1."""
        pixels, depth = project(points, *self._camera)
        to_eye = self._eye - points if self._perspective else np.broadcast_to(-self._ahead, points.shape)
        cosine = np.einsum("nk,nk->n", normals, to_eye) / np.maximum(np.linalg.norm(to_eye, axis=1), 1e-9)
        index = (pixels[:, ::-1] - 0.5).T
        inside = ((index > -0.5) & (index < self._size - 0.5)).all(axis=0)
        row, column = np.clip(np.round(np.nan_to_num(index)), 0, self._size - 1).astype(int)
        # A slanted surface is nearer a pixel further on, and the depth map holds the nearest of three.
        pixel = (np.maximum(depth, 0) if self._perspective else 1.0) / self._camera[0][0, 0]
        slope = np.sqrt(1 - np.clip(cosine, 0, 1) ** 2) / np.maximum(cosine, FACING[0])
        visible = inside & (depth <= self._depth[row, column] + BEHIND + 2 * pixel * slope)
        trust = visible * ramp(cosine, *FACING) * map_coordinates(self._trust, index, order=1, mode="nearest")
        channels = [map_coordinates(self._rgb[..., k], index, order=1, mode="nearest") for k in range(3)]
        return np.stack(channels, axis=1), trust


class PhotoColors:
    """Colours of surface points: from the pictures that see them, else from their mirror images, else from the field.

    Args:
        pictures: one of the object or several, at their full resolution.
        mesh: in the object frame, faces outward.
        cameras: of the pictures.
        field: points [n, 3] to colours in 0 to 255 [n, 3], for what no picture shows. It is shifted by the difference of
            pictures and field at the nearest places where both are known: no step in brightness marks the seam, and the back
            of a brown leg is brown.
        mirror: whether the object mirrors at x = 0.
    """

    def __init__(
        self,
        pictures: Sequence[Picture],
        mesh: trimesh.Trimesh,
        cameras: Sequence[PhotoCamera],
        field: Callable[[np.ndarray], np.ndarray],
        *,
        mirror: bool,
    ):
        self._sights = [Sight(picture, mesh, camera) for picture, camera in zip(pictures, cameras, strict=True)]
        self._mesh, self._field, self._mirror = mesh, field, mirror
        self._normals = np.asarray(mesh.vertex_normals)
        self._guessed = field(np.asarray(mesh.vertices))
        self._shift = np.zeros((len(mesh.vertices), 3))
        samples = sample_faces(np.asarray(mesh.triangles), SAMPLES, np.random.default_rng(0))
        self._shift = self._differences(*samples)
        self._samples = samples

    @cached_property
    def shares(self) -> Shares:
        """What the surface wears."""
        _, share, mirrored = self._blend(*self._samples)
        photo, mirror = 100 * float(share.mean()), 100 * float(mirrored.mean())
        return Shares(photo, mirror, 100 - photo - mirror)

    @property
    def mirrors(self) -> bool:
        """Whether one side is coloured by the other."""
        return self._mirror

    def __call__(self, face: np.ndarray, weights: Float[np.ndarray, "points 3"]) -> UInt8[np.ndarray, "points 3"]:
        """sRGB bytes of points in faces, with barycentric weights: what `texture.bake` asks."""
        colors, _, _ = self._blend(face, weights)
        return np.round(np.clip(colors, 0, 255)).astype(np.uint8)

    def at_vertices(self) -> SurfaceColors:
        """Colours of the mesh's vertices, with how much of each a picture shows."""
        count = len(self._mesh.vertices)
        face, weights = np.zeros(count, int), np.zeros((count, 3))
        corner = np.arange(self._mesh.faces.size)
        face[self._mesh.faces.ravel()] = corner // 3
        weights[np.arange(count)] = self._mesh.faces[face] == np.arange(count)[:, None]
        colors, share, mirrored = self._blend(face, weights, self._guessed)
        return SurfaceColors(np.clip(colors, 0, 255), share + mirrored)

    def seen(
        self, points: Float[np.ndarray, "points 3"], normals: Float[np.ndarray, "points 3"]
    ) -> tuple[Float[np.ndarray, "points 3"], Float[np.ndarray, " points"]]:
        """The pictures' colours (0 to 255) of surface points, and how far they are to be trusted, 0 to 1.

        Where several see a point, the one that it faces most prevails.
        """
        colors, trusts = zip(*(sight.seen(points, normals) for sight in self._sights), strict=True)
        trust = np.stack(trusts)
        weights = np.maximum(trust, 1e-6) ** SHARPNESS
        weights /= weights.sum(axis=0)
        return np.einsum("sn,snk->nk", weights, np.stack(colors)), trust.max(axis=0)

    def _places(self, face: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        corners = self._mesh.faces[face]
        points = np.einsum("nk,nkc->nc", weights, np.asarray(self._mesh.vertices)[corners])
        normals = np.einsum("nk,nkc->nc", weights, self._normals[corners])
        return points, normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)

    def _blend(
        self, face: np.ndarray, weights: np.ndarray, guessed: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Colours, and the shares of the picture and of its mirror image in them; `guessed`: the field there, where that is known."""
        points, normals = self._places(face, weights)
        colors = (self._field(points) if guessed is None else guessed) + np.einsum(
            "nk,nkc->nc", weights, self._shift[self._mesh.faces[face]]
        )
        mirrored = np.zeros(len(points))
        if self._mirror:
            other, mirrored = self.seen(points * MIRROR, normals * MIRROR)
            colors = colors + mirrored[:, None] * (other - colors)
        own, share = self.seen(points, normals)
        colors = colors + share[:, None] * (own - colors)
        return colors, share, mirrored * (1 - share)

    def _differences(self, face: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Picture minus field at each vertex: the mean over sampled places that the picture shows, near it and alike in the field's eyes. What
        a picture adds to a brown field says nothing of a grey one beside it."""
        points, normals = self._places(face, weights)
        own, trust = self.seen(points, normals)
        known = np.flatnonzero(trust > 0.5)[:KNOWN]
        if len(known) < NEIGHBOURS:  # too few to say anything about an object's colour
            return self._shift
        guessed = self._field(points[known])
        difference, places = own[known] - guessed, points[known]
        if self._mirror:
            places, difference = np.concatenate([places, places * MIRROR]), np.tile(difference, (2, 1))
            guessed = np.tile(guessed, (2, 1))
        asked = np.hstack([self._mesh.vertices, self._guessed / ALIKE])
        distance, nearest = KDTree(np.hstack([places, guessed / ALIKE])).query(asked, k=NEIGHBOURS)
        weight = 1 / (np.asarray(distance) + 0.02) ** 2  # world units; nearer than that, all count alike
        weight /= weight.sum(axis=1, keepdims=True)
        return np.einsum("nk,nkc->nc", weight, difference[nearest])


def ramp(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """0 up to `low`, 1 from `high` on, smooth between (Hermite)."""
    share = np.clip((values - low) / (high - low), 0, 1)
    return share * share * (3 - 2 * share)


def extended(
    rgb: UInt8[np.ndarray, "size size 3"], mask: Bool[np.ndarray, "size size"]
) -> tuple[Float[np.ndarray, "size size 3"], Float[np.ndarray, "size size"]]:
    """The picture with the object's colours drawn on beyond its outline, and how far to trust each pixel.

    The outermost pixels of the object are half ground; they, too, take the colour of the nearest pixel that is not.
    """
    size = len(mask)
    depth_inside = np.asarray(distance_transform_edt(mask))
    # Around each pixel: a leg has a middle of its own, next to a seat as well.
    deepest = maximum_filter(depth_inside, 5)
    core = mask & (depth_inside > np.minimum(2.0, deepest - 0.5))
    rows, columns = np.asarray(distance_transform_edt(~core, return_distances=False, return_indices=True))
    outside = np.asarray(distance_transform_edt(~mask)) / size
    return rgb[rows, columns].astype(np.float64), 1 - ramp(outside, 0.0, REACH)
