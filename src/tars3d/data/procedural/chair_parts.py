"""Seats and arms of chairs, built on a `Frame`. Called by `chair`; they add labelled solids and keypoints."""

import numpy as np

from tars3d.data.procedural import parts as solid
from tars3d.data.procedural.assembly import Assembly
from tars3d.data.procedural.chair_frame import Frame, Rng


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
