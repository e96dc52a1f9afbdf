"""Seats, backs, arms and bases of chairs, each built on one shared frame of dimensions. Called by `chair`.

Lengths are metres, the floor is y = 0, the front faces -Z; builders add labelled solids and keypoints.
"""

from dataclasses import dataclass

import numpy as np

from tars3d.data.procedural import parts as solid
from tars3d.data.procedural.assembly import Assembly

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


def seat(rng: Rng, chair: Assembly, frame: Frame, kind: str) -> None:
    """Seat of a kind: flat, cushion, round or saddle; with its keypoints."""
    d, low, high = frame.depth, frame.bottom, frame.seat
    if kind == "round":
        frame.round, frame.taper = True, 1.0
        frame.depth = d = frame.width * rng.uniform(0.92, 1.02)
        edge = frame.thickness * rng.uniform(0.15, 0.5)
        outline = solid.disc_outline(frame.width, d, rng.uniform(2.0, 2.6))
        chair.add("seat", solid.cushion(outline, low, high, edge + 0.004, edge, rng.uniform(0, 0.015)))
    elif kind == "saddle":
        a, b = np.meshgrid(np.linspace(-1, 1, 11), np.linspace(-1, 1, 11), indexing="ij")
        u, v = solid.round_square(a, b, rng.uniform(0.1, 0.45))
        x, z = u * frame.width / 2 * (1 + (frame.taper - 1) * (v + 1) / 2), v * d / 2
        dip = rng.uniform(0.008, 0.02) * (1 - a**4) * (1 - b**2) * (1 + 0.5 * np.abs(u))
        frame.thickness = max(frame.thickness, 0.035)
        top = np.stack([x, high - dip, z], -1)
        chair.add("seat", solid.slab(top, np.stack([0.96 * x, np.full_like(x, frame.bottom), 0.96 * z], -1)))
    else:
        corners = np.array([[sx * frame.half_width(z), z] for z in (-d / 2, d / 2) for sx in (-1, 1)])
        if kind == "cushion":
            frame.thickness = max(frame.thickness, rng.uniform(0.04, 0.09))
            edge, crown = frame.thickness * rng.uniform(0.3, 0.5), rng.uniform(0, 0.02)
        else:
            edge, crown = frame.thickness * rng.uniform(0.05, 0.4), 0.0
        radius = rng.uniform(edge + 0.003, edge + 0.045)
        chair.add("seat", solid.cushion(corners, frame.bottom, high, radius, edge, crown))
    _seat_keypoints(chair, frame)


def _seat_keypoints(chair: Assembly, frame: Frame) -> None:
    chair.keypoint("seat_centre", (0, frame.seat, 0))
    inset = 0.3 if frame.round else 0.5
    for name, z in (("front", -inset * frame.depth), ("back", inset * frame.depth)):
        chair.keypoint(f"seat_{name}", (frame.half_width(z), frame.seat, z), mirrored=True)


def back(rng: Rng, chair: Assembly, frame: Frame, kind: str, tube_posts: bool = False) -> None:
    """Back of a kind (see the branches), posts included; "none" adds nothing."""
    if kind == "none":
        return
    start = -0.6 * frame.thickness / frame.back  # inside the seat, so that the parts join
    if kind == "upholstered":
        thick = rng.uniform(0.05, 0.11)
        low = rng.choice([start, start, 0.02])
        roundness = rng.uniform(0, 0.35)
        chair.add(
            "back",
            back_panel(frame, (-1, 1), (min(low, start), 1), thick, roundness, rng.uniform(0.3, 0.8), (13, 11)),
        )
    elif kind == "panel" and rng.random() < 0.45:
        chair.add("back", back_panel(frame, (-1, 1), (start, 1), rng.uniform(0.014, 0.03), rng.uniform(0, 0.3)))
    else:
        _framed_back(rng, chair, frame, kind, start, tube_posts)
    chair.keypoint("back_top", frame.back_point(1.0, 1.0).tolist(), mirrored=True)
    chair.keypoint("back_top_centre", frame.back_point(0.0, 1.0).tolist())


def _framed_back(rng: Rng, chair: Assembly, frame: Frame, kind: str, start: float, tube_posts: bool) -> None:
    radius = rng.uniform(0.010, 0.015) if tube_posts else rng.uniform(0.012, 0.024)
    square = not tube_posts and rng.random() < 0.6
    h = np.linspace(start, 1.0, 7)
    inset = 1 - radius / float(frame.half_back(0.5))
    posts = frame.back_point(inset, h)
    top = rng.uniform(0.75, 1.0) if not square else 1.0
    chair.mirrored("back", solid.tube(posts, radius * np.linspace(1, top, 7), square=square))
    t = rng.uniform(0.012, 0.024)
    rail = rng.uniform(0.04, 0.1) / frame.back
    side = (-inset, inset)
    if kind in {"ladder", "spindles", "splat", "frame", "cross"}:
        overhang = float(rng.choice([1.0, 1.0, 1.06])) * inset
        chair.add("back", back_panel(frame, (-overhang, overhang), (1 - rail, 1 + 0.01), max(t, 1.7 * radius), 0.05))
    low = rng.uniform(0.1, 0.35)
    low_rail = (low, low + rng.uniform(0.03, 0.06) / frame.back)
    if kind == "ladder":
        count = int(rng.integers(1, 5))
        edges = np.linspace(rng.uniform(0.15, 0.4), 1 - rail, count + 1)
        fill = rng.uniform(0.3, 0.65)
        for i in range(count):
            span = (edges[i], edges[i] + fill * (edges[i + 1] - edges[i]))
            chair.add("back", back_panel(frame, side, span, t, grid=(9, 3)))
    elif kind == "spindles":
        to_seat = rng.random() < 0.5
        if not to_seat:
            chair.add("back", back_panel(frame, side, low_rail, t, grid=(9, 3)))
        bottom = start if to_seat else low
        spacing = rng.uniform(0.055, 0.12)
        count = max(int(2 * frame.half_back(0.5) / spacing), 2)
        thin = rng.uniform(0.005, 0.011)
        flat = rng.random() < 0.4
        for u in np.linspace(-inset, inset, count + 2)[1:-1]:
            if flat:
                wide = 0.3 * 2 * inset / (count + 1)
                chair.add(
                    "back",
                    back_panel(frame, (u - wide, u + wide), (bottom, 1 - rail / 2), 0.014, grid=(2, 6)),
                )
            else:
                chair.add(
                    "back",
                    solid.tube(frame.back_point(u, np.linspace(bottom, 1 - rail / 2, 5)), thin, sides=7),
                )
    elif kind == "splat":
        to_seat = rng.random() < 0.5
        if not to_seat:
            chair.add("back", back_panel(frame, side, low_rail, t, grid=(9, 3)))
        bottom = start if to_seat else low
        a, b = np.meshgrid(np.linspace(-1, 1, 4), np.linspace(0, 1, 12), indexing="ij")
        wide = rng.uniform(0.18, 0.36) * (1 + rng.uniform(0, 0.35) * np.sin(rng.uniform(3, 9) * b))
        us, hs = a * wide, bottom + b * (1 - rail / 2 - bottom)
        chair.add("back", solid.slab(frame.back_point(us, hs, -0.007), frame.back_point(us, hs, 0.007)))
    elif kind == "frame":
        chair.add("back", back_panel(frame, side, low_rail, t, grid=(9, 3)))
    elif kind == "cross":
        chair.add("back", back_panel(frame, side, low_rail, t, grid=(9, 3)))
        s = np.linspace(0, 1, 7)
        for sign in (-1, 1):
            u, h = sign * inset * (2 * s - 1), low + s * (1 - rail / 2 - low)
            chair.add("back", solid.tube(frame.back_point(u, h), rng.uniform(0.008, 0.013), square=True))
    elif kind == "mesh":
        chair.add("back", back_panel(frame, side, (rng.uniform(0.02, 0.15), 0.99), 0.010))
        chair.add("back", solid.tube(frame.back_point(np.linspace(-inset, inset, 9), 0.99), radius))
    elif kind == "hole":
        panel = back_panel(frame, side, (rng.uniform(0.05, 0.3), 1), t)
        centre = frame.back_point(0.0, rng.uniform(0.72, 0.82))
        hole = solid.disc_outline(rng.uniform(0.1, 0.2), rng.uniform(0.04, 0.09), 3)
        ring = np.stack([hole[:, 0], hole[:, 1], np.zeros(len(hole))], -1) + centre
        through = np.array([0, 0, 0.2])
        punch = solid.hull(np.concatenate([ring - through, ring + through]))
        chair.add("back", panel - punch)
    else:  # a panel, whole or in the upper part, between posts
        low = rng.uniform(0.3, 0.6) if kind == "top-panel" else rng.uniform(start, 0.12)
        roundness = rng.uniform(0, 0.12)
        chair.add("back", back_panel(frame, side, (low, 1), t * rng.uniform(1, 1.8), roundness))


def office_back(rng: Rng, chair: Assembly, frame: Frame, kind: str) -> None:
    """Back that floats above the seat on a spine (or, one time in three, grows from the seat)."""
    low = float(rng.choice([0.02, 0.08, 0.15, 0.22]))
    spine_h = np.array([low + 0.25, low + 0.1])
    spine = frame.back_point(0.0, spine_h, 0.02)
    y = frame.bottom - 0.01
    path = np.array([spine[0], spine[1] * [1, 0, 1] + [0, spine[1][1] - 0.02, 0.02], [0, y, frame.back_z], [0, y, 0]])
    wide = rng.uniform(0.014, 0.024)
    chair.add("back", solid.tube(solid.fillet(path, 0.06), wide, square=True))
    roundness = rng.uniform(0.05, 0.5)
    if kind == "upholstered":
        thick = rng.uniform(0.05, 0.09)
        chair.add("back", back_panel(frame, (-1, 1), (low, 1), thick, roundness, rng.uniform(0.3, 0.7), (13, 11)))
        if frame.back < 0.58 and rng.random() < 0.15:
            chair.add("back", back_panel(frame, (-0.5, 0.5), (1.12, 1.45), 0.05, 0.4, 0.4))
            chair.add("back", solid.tube(frame.back_point([-0.2, -0.2], [0.9, 1.2]), 0.009))
            chair.add("back", solid.tube(frame.back_point([0.2, 0.2], [0.9, 1.2]), 0.009))
    else:
        thick = 0.012 if kind == "mesh" else 0.022
        if kind != "frame":
            chair.add("back", back_panel(frame, (-0.98, 0.98), (low, 1), thick, roundness, grid=(11, 9)))
        t = np.linspace(0, 2 * np.pi, 36, endpoint=False)
        square = np.stack([np.cos(t), np.sin(t)]) / np.maximum(np.abs(np.cos(t)), np.abs(np.sin(t)))
        a, b = solid.round_square(square[0], square[1], max(roundness, 0.15))
        rim = frame.back_point(0.98 * a, low + (b + 1) / 2 * (1 - low))
        chair.add("back", solid.tube(rim, rng.uniform(0.011, 0.018), closed=True, sides=8))
        if kind == "frame":
            for h in np.linspace(low, 1, int(rng.integers(3, 6)))[1:-1]:
                chair.add("back", back_panel(frame, (-0.9, 0.9), (h - 0.05, h + 0.05), 0.014, grid=(9, 3)))
            chair.add("back", back_panel(frame, (-0.06, 0.06), (low, 1), 0.02, grid=(2, 6)))
    chair.keypoint("back_top", frame.back_point(1.0, 1.0).tolist(), mirrored=True)
    chair.keypoint("back_top_centre", frame.back_point(0.0, 1.0).tolist())


def arms(rng: Rng, chair: Assembly, frame: Frame, kind: str, reach_back: bool = True) -> None:
    """Arms of a kind: rail (post and rail), loop (bent tube), pads (office) or none.

    Loops join the back or, always where not `reach_back`, the seat.
    """
    if kind == "none":
        return
    height = min(rng.uniform(0.17, 0.24), 0.75 * frame.back)
    y = frame.seat + height
    front = -frame.depth * (rng.uniform(0.05, 0.2) if frame.round else rng.uniform(0.2, 0.42))
    side = frame.half_width(front)
    at_back = frame.back_point(0.97, height / frame.back)
    out = rng.uniform(0.0, 0.04)
    low = frame.bottom + 0.3 * frame.thickness
    if kind == "rail":
        r = rng.uniform(0.013, 0.024)
        foot, head = (side - 0.4 * r, low, front), (side + out, y, front - rng.uniform(-0.02, 0.03))
        chair.mirrored("arm", solid.post(foot, head, 2 * r, 1.7 * r, square=bool(rng.random() < 0.6)))
        tip = np.array([side + out, y, head[2] - rng.uniform(0.005, 0.05)])
        wide = rng.uniform(0.03, 0.075)
        chair.mirrored("arm", solid.bar(tip, at_back, rng.uniform(0.018, 0.032), wide))
        if rng.random() < 0.25:
            for s in np.linspace(0, 1, int(rng.integers(4, 7)))[1:-1]:
                head_s = tip * (1 - s) + at_back * s
                z = front + s * (frame.back_z - front) * 0.9
                chair.mirrored("arm", solid.rod((frame.half_width(z) - 0.012, low, z), head_s, 0.007))
    elif kind == "loop":
        r = rng.uniform(0.010, 0.016)
        rear = (frame.half_width(0.25 * frame.depth) - r, low, 0.25 * frame.depth)
        to_back = rng.random() < 0.5 and reach_back
        last = at_back if to_back else rear
        path = [(side - r, low, front), (side + out + r, low, front), (side + out + r, y, front - 0.02)]
        path += [tuple(at_back)] if to_back else [(side + out + r, y, rear[2]), (side + out + r, low, rear[2]), last]
        chair.mirrored("arm", solid.tube(solid.fillet(path, rng.uniform(0.04, 0.1)), r, sides=8))
        if rng.random() < 0.4:
            chair.mirrored("arm", solid.rounded_box((side + out + r, y + r, front + 0.13), (0.05, 0.025, 0.24), 0.01))
    else:
        x, z = side + rng.uniform(0.02, 0.05), rng.uniform(-0.05, 0.03)
        w = rng.uniform(0.025, 0.05)
        chair.mirrored("arm", solid.bar((0.5 * side, frame.bottom, z), (x + 0.01, frame.bottom, z), 0.025, w))
        chair.mirrored("arm", solid.bar((x, frame.bottom - 0.01, z), (x, y, z), w, 0.02))
        pad = (rng.uniform(0.06, 0.09), 0.03, rng.uniform(0.2, 0.28))
        chair.mirrored("arm", solid.rounded_box((x, y, z - 0.02), pad, 0.014))
        side, out, front = x, 0.0, z - 0.13
    chair.keypoint("arm_front", (side + out, y, front), mirrored=True)
