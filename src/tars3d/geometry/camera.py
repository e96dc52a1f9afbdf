"""The one camera convention: OpenCV axes, world-to-camera extrinsics, perspective and orthographic models in one batch.

Training casts rays with it, `data check` projects with it, importers convert to it once.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

SHAPENET_FOCAL = 1.8660254037844388
"""Focal length of the NMR renderings in picture widths, 1 / (2 tan 15°) (docs/paper-vs-code.md, C7)."""
SHAPENET_DISTANCE = 2.732
"""Of their cameras from the origin, object units."""
MARGIN = 1.03
"""Room around the bounding sphere that a picture holds."""


@dataclass(frozen=True)
class Cameras:
    """A batch of pinhole and orthographic cameras: x right, y down, z forward, pixel centres at +0.5.

    Attributes:
        intrinsics: maps a camera point to pixels; applied to (x/z, y/z, 1) in a perspective and to (x, y, 1) in an
            orthographic camera, whose focal entries are then pixels per world unit.
        extrinsics: [R | t] with x_camera = R x_world + t.
        perspective: which of the two models each camera is.
    """

    intrinsics: Float[Tensor, "batch 3 3"]
    extrinsics: Float[Tensor, "batch 3 4"]
    perspective: Bool[Tensor, "batch"]

    def __len__(self) -> int:
        return len(self.intrinsics)

    def __getitem__(self, index) -> "Cameras":
        """The cameras that `index` (a slice, mask or integer tensor) selects, as a batch."""
        return Cameras(self.intrinsics[index], self.extrinsics[index], self.perspective[index])

    def to(self, device: torch.device | str) -> "Cameras":
        """The same cameras on another device."""
        return Cameras(self.intrinsics.to(device), self.extrinsics.to(device), self.perspective.to(device))

    def project(
        self, points: Float[Tensor, "batch points 3"]
    ) -> tuple[Float[Tensor, "batch points 2"], Float[Tensor, "batch points"]]:
        """Pixels (u right, v down) of world points, and their depth along the camera's z axis in world units."""
        rotation, translation = self.extrinsics[:, :, :3], self.extrinsics[:, :, 3]
        camera = points @ rotation.transpose(1, 2) + translation[:, None]
        depth = camera[..., 2]
        divisor = torch.where(self.perspective[:, None], depth, torch.ones_like(depth))
        plane = torch.cat([camera[..., :2] / divisor[..., None], torch.ones_like(depth)[..., None]], dim=-1)
        return (plane @ self.intrinsics.transpose(1, 2))[..., :2], depth

    def project_shared(
        self, points: Float[Tensor, "points 3"]
    ) -> tuple[Float[Tensor, "batch points"], Float[Tensor, "batch points"], Float[Tensor, "batch points"]]:
        """u, v and depth as `project` gives them, of the same points in every camera: one large product instead of many thin ones."""
        rotation, translation = self.extrinsics[:, :, :3], self.extrinsics[:, :, 3]
        focal, center = self.intrinsics[:, :2, :2], self.intrinsics[:, :2, 2:]
        perspective = self.perspective[:, None]
        turned = focal @ rotation[:, :2] + torch.where(perspective[..., None], center @ rotation[:, 2:], 0)
        height = torch.where(perspective, translation[:, 2:], 1)
        moved = (focal @ translation[:, :2, None])[..., 0] + center[..., 0] * height
        matrix = torch.cat([turned.transpose(0, 1), rotation[None, :, 2]]).flatten(0, 1)
        offset = torch.cat([moved.T, translation[None, :, 2]]).flatten()
        u, v, depth = torch.addmm(offset[:, None], matrix, points.T).view(3, len(self.extrinsics), -1)
        divisor = torch.where(perspective, depth, 1)
        return u / divisor, v / divisor, depth

    def image_plane(self, pixels: Float[Tensor, "batch rays 2"]) -> Float[Tensor, "batch rays 2"]:
        """Pixels on the camera's own plane: (x/z, y/z) in a perspective camera, (x, y) in an orthographic one."""
        homogeneous = torch.cat([pixels, torch.ones_like(pixels[..., :1])], dim=-1)
        inverse = torch.linalg.inv_ex(self.intrinsics).inverse  # on a GPU `inv` would wait for its check
        return (homogeneous @ inverse.transpose(1, 2))[..., :2]

    def rays(
        self, pixels: Float[Tensor, "batch rays 2"]
    ) -> tuple[Float[Tensor, "batch rays 3"], Float[Tensor, "batch rays 3"]]:
        """Origins and directions, in the world frame, of the rays through pixels.

        Directions have length 1 along the camera's z axis (docs/paper-vs-code.md, C7), so a ray's parameter is the
        depth.
        """
        plane = self.image_plane(pixels)
        ones, zeros = torch.ones_like(plane[..., :1]), torch.zeros_like(plane[..., :1])
        ahead = torch.cat([torch.zeros_like(plane), ones], dim=-1)
        slanted = torch.cat([plane, ones], dim=-1)
        perspective = self.perspective[:, None, None]
        origin_camera = torch.where(perspective, torch.zeros_like(slanted), torch.cat([plane, zeros], dim=-1))
        direction_camera = torch.where(perspective, slanted, ahead)
        rotation, translation = self.extrinsics[:, :, :3], self.extrinsics[:, :, 3]
        return (origin_camera - translation[:, None]) @ rotation, direction_camera @ rotation

    @property
    def object_depth(self) -> Float[Tensor, "batch"]:
        """Depth of the world's origin, where objects are centred."""
        return self.extrinsics[:, 2, 3]

    @property
    def focal(self) -> Float[Tensor, "batch"]:
        """Pixels per unit on the camera's own plane (horizontal)."""
        return self.intrinsics[:, 0, 0]

    @property
    def largest_focal(self) -> Float[Tensor, "batch"]:
        """The larger of the horizontal and the vertical focal: what turns pixels into distances that are never too long."""
        return torch.maximum(self.intrinsics[:, 0, 0].abs(), self.intrinsics[:, 1, 1].abs())

    @property
    def smallest_focal(self) -> Float[Tensor, "batch"]:
        """The smaller of the two: what turns pixels into distances that are never too short."""
        return torch.minimum(self.intrinsics[:, 0, 0].abs(), self.intrinsics[:, 1, 1].abs())

    def mirrored(self, width: float) -> "Cameras":
        """The cameras of left-right flipped pictures, `width` pixels wide, of objects mirrored at x = 0."""
        flip = torch.tensor([-1.0, 1.0, 1.0], dtype=self.extrinsics.dtype, device=self.extrinsics.device)
        rotation = flip[:, None] * self.extrinsics[:, :, :3] * flip
        extrinsics = torch.cat([rotation, (flip * self.extrinsics[:, :, 3])[..., None]], dim=-1)
        intrinsics = self.intrinsics.clone()
        intrinsics[:, 0, 1:] *= -1  # the skew, too, changes sides
        intrinsics[:, 0, 2] += width
        return Cameras(intrinsics, extrinsics, self.perspective)

    def mirrored_where(self, flipped: Bool[Tensor, "batch"], width: float) -> "Cameras":
        """The cameras of pictures of which some are flipped: `mirrored` there, unchanged elsewhere."""
        mirror, where = self.mirrored(width), flipped[:, None, None]
        return Cameras(
            torch.where(where, mirror.intrinsics, self.intrinsics),
            torch.where(where, mirror.extrinsics, self.extrinsics),
            self.perspective,
        )


def pixel_centres(size: int, device: torch.device) -> Float[Tensor, "size size 2"]:
    """u and v of the pixels of a square picture, row after row."""
    centre = torch.arange(size, device=device) + 0.5
    return torch.stack(torch.meshgrid(centre, centre, indexing="xy"), dim=-1)


def look_at_origin(azimuth: float, elevation: float, distance: float, roll: float = 0.0) -> Float[np.ndarray, "3 4"]:
    """World-to-camera matrix of a camera on a sphere around the origin, with +Y up in the picture.

    Args:
        azimuth: degrees; at 0 the camera stands at -Z (it sees the front of a category whose front faces -Z), at 90 at +X.
        elevation: degrees above the ground plane.
        distance: of the camera centre from the origin, world units.
        roll: degrees of rotation about the viewing direction, clockwise as seen in the picture.
    """
    azimuth, elevation, roll = np.deg2rad([azimuth, elevation, roll])
    towards = np.array([np.sin(azimuth) * np.cos(elevation), np.sin(elevation), -np.cos(azimuth) * np.cos(elevation)])
    forward = -towards
    # The horizontal direction that `forward` leaves undefined when looking straight down follows from the azimuth alone.
    right = np.array([-np.cos(azimuth), 0.0, -np.sin(azimuth)])
    down = np.cross(forward, right)
    turn = np.array([[np.cos(roll), -np.sin(roll), 0], [np.sin(roll), np.cos(roll), 0], [0, 0, 1]])
    rotation = turn @ np.stack([right, down, forward])
    return np.concatenate([rotation, (-rotation @ (distance * towards))[:, None]], axis=1)


def pinhole(focal: float, centre: Sequence[float] | np.ndarray) -> Float[np.ndarray, "3 3"]:
    """Intrinsics from focal length (or orthographic scale) and principal point, in pixels."""
    return np.array([[focal, 0, centre[0]], [0, focal, centre[1]], [0, 0, 1]], dtype=np.float64)


def fitting_focal(radius: float, distance: float, focal: float = SHAPENET_FOCAL) -> float:
    """Focal length in picture widths: `focal`, or shorter so that a sphere of `radius` around the origin fits."""
    return min(focal, 0.5 / float(np.tan(np.arcsin(min(MARGIN * radius / distance, 0.99)))))
