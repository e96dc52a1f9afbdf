"""The dimensions that all parts of one chair agree on, and pieces of its back's surface. Seats, backs, arms and bases are built on it.

Lengths are metres, the floor is y = 0, the front faces -Z.
"""

from dataclasses import dataclass

import numpy as np

from tars3d.data.procedural import parts as solid

Rng = np.random.Generator


@dataclass
class Frame:
    """Dimensions that all parts of one chair agree on."""

    width: float
    """Of the seat's front."""
    taper: float
    """Seat's back width over its front width."""
    depth: float
    seat: float
    """Height of the seat's top above the floor."""
    thickness: float
    """Of the seat."""
    back: float
    """Height of the back above the seat."""
    recline: float
    """Slope of the back: horizontal over vertical."""
    bow: float
    """How far the back's sides stand in front of its middle."""
    flare: float
    """Back's top width over its bottom width."""
    crest: float
    """How far the top rail rises in the middle."""
    round: bool = False

    @property
    def bottom(self) -> float:
        """Height of the seat's underside."""
        return self.seat - self.thickness

    @property
    def back_z(self) -> float:
        return self.depth * (0.36 if self.round else 0.5) - 0.02

    def half_width(self, z: float) -> float:
        """Half the seat's width at a depth."""
        if self.round:
            return self.width / 2 * max(1 - abs(2 * z / self.depth) ** 2.6, 0.05) ** (1 / 2.6)
        front_to_back = z / self.depth + 0.5
        return self.width / 2 * (1 + (self.taper - 1) * front_to_back)

    def half_back(self, h: float | np.ndarray) -> np.ndarray | float:
        """Half the back's width at the relative height h."""
        return self.half_width(self.back_z) * (1 + (self.flare - 1) * h)

    def back_point(self, u, h, offset: float | np.ndarray = 0.0) -> np.ndarray:
        """Point of the back's mid surface: u in [-1, 1] sideways, h in [0, 1] upwards; `offset` along +Z."""
        u, h = np.broadcast_arrays(np.asarray(u, dtype=float), np.asarray(h, dtype=float))
        x = u * self.half_back(h)
        y = self.seat + h * self.back + self.crest * np.cos(np.pi * u / 2) * np.clip(h, 0, 1) ** 3
        z = (
            self.back_z
            + self.recline * self.back * h * (0.7 + 0.3 * h)
            + self.bow * (1 - u**2) * np.clip(h, 0, 1) ** 0.5
        )
        return np.stack([x, y, z + offset], -1)


def back_panel(
    frame: Frame,
    u: tuple[float, float],
    h: tuple[float, float],
    thickness: float,
    roundness: float = 0.0,
    puff: float = 0.0,
    grid: tuple[int, int] = (9, 7),
):
    """Piece of the back's surface made thick. `puff` in [0, 1] thins it to its edges, like upholstery."""
    a, b = np.meshgrid(np.linspace(-1, 1, grid[0]), np.linspace(-1, 1, grid[1]), indexing="ij")
    if puff > 0:  # more rows near the edges, where the surface turns
        a, b = np.sign(a) * (1 - (1 - np.abs(a)) ** 1.6), np.sign(b) * (1 - (1 - np.abs(b)) ** 1.6)
    profile = 1 - puff + puff * np.sqrt(np.clip((1 - np.abs(a) ** 5) * (1 - np.abs(b) ** 5), 0, 1))
    a, b = solid.round_square(a, b, roundness)
    us, hs = u[0] + (a + 1) / 2 * (u[1] - u[0]), h[0] + (b + 1) / 2 * (h[1] - h[0])
    half = thickness / 2 * profile
    return solid.slab(frame.back_point(us, hs, -half), frame.back_point(us, hs, half))
