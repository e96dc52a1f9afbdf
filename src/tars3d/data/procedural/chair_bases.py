"""What chairs stand on: legs, rockers, star, pedestal, sled, cantilever, crossed legs. Called by `chair`."""

import numpy as np

from tars3d.data.procedural import parts as solid
from tars3d.data.procedural.assembly import Assembly, pick
from tars3d.data.procedural.chair_frame import Frame, Rng


def four_legs(rng: Rng, chair: Assembly, frame: Frame, rockers: bool = False) -> str:
    """Four straight legs, perhaps with apron, stretchers or rockers; returns the name in the topology."""
    square = bool(rng.random() < 0.55)
    size = rng.uniform(0.022, 0.05)
    foot = size * rng.uniform(0.5, 1.0)
    splay = rng.uniform(0, 0.09) if rng.random() < 0.6 else 0.0
    rear_splay = splay + rng.uniform(0, 0.07)
    inset = size / 2 + rng.uniform(0.002, 0.03)
    z_front, z_back = -frame.depth / 2 + inset + 0.01, frame.back_z - 0.005
    if frame.round:
        z_front, z_back = -0.3 * frame.depth, 0.3 * frame.depth
    x_front, x_back = frame.half_width(z_front) - inset, frame.half_width(z_back) - inset
    floor = rng.uniform(0.05, 0.08) if rockers else 0.0
    top = frame.bottom + min(0.5 * frame.thickness, 0.03)
    lift = 0.0 if splay == 0 else 1.0
    front_foot = np.array([x_front + splay * 0.6 * lift, floor, z_front - splay * 0.5])
    back_foot = np.array([x_back + splay * 0.6 * lift, floor, z_back + rear_splay])
    front_top, back_top = np.array([x_front, top, z_front]), np.array([x_back, top, z_back])
    chair.mirrored("leg", solid.post(front_foot, front_top, foot, size, square))
    chair.mirrored("leg", solid.post(back_foot, back_top, foot, size, square))
    chair.keypoint("leg_tip_front", front_foot.tolist(), mirrored=True)
    chair.keypoint("leg_tip_back", back_foot.tolist(), mirrored=True)

    def along(low, high, y):
        return low + (high - low) * (y - floor) / (top - floor)

    if not frame.round and rng.random() < 0.5:
        depth = rng.uniform(0.04, 0.08)
        y = frame.bottom - depth / 2 + 0.004
        f, b = along(front_foot, front_top, y), along(back_foot, back_top, y)
        chair.add("seat", solid.bar(f, f * [-1, 1, 1], depth, 0.018), solid.bar(b, b * [-1, 1, 1], depth, 0.018))
        chair.mirrored("seat", solid.bar(f, b, depth, 0.018))
    kind = pick(rng, {"none": 0.45, "H": 0.2, "box": 0.2, "sides": 0.15})
    if frame.seat > 0.58:
        kind = "box"
    name = "four-legs"
    if kind != "none":
        name = f"four-legs-{kind}"
        thin = rng.uniform(0.007, 0.013)
        y = frame.seat * rng.uniform(0.2, 0.5)
        f, b = along(front_foot, front_top, y), along(back_foot, back_top, y)
        bar = (lambda p, q: solid.bar(p, q, 3 * thin, 1.6 * thin)) if square else (lambda p, q: solid.rod(p, q, thin))
        chair.mirrored("leg", bar(f, b))
        if kind == "H":
            m = (f + b) / 2
            chair.add("leg", bar(m, m * [-1, 1, 1]))
        elif kind == "box":
            y2 = y + rng.uniform(-0.05, 0.05)
            f2, b2 = along(front_foot, front_top, y2), along(back_foot, back_top, y2)
            chair.add("leg", bar(f2, f2 * [-1, 1, 1]), bar(b2, b2 * [-1, 1, 1]))
    if rockers:
        t = np.linspace(-1, 1, 13)
        reach = frame.depth / 2 + rng.uniform(0.12, 0.22)
        centre = (front_foot[2] + back_foot[2]) / 2 + 0.05
        radius = rng.uniform(0.014, 0.02)
        sag = floor - radius
        # Height such that the rocker passes through both feet, about half-way out.
        x = np.interp(centre + t * reach, [front_foot[2], back_foot[2]], [front_foot[0], back_foot[0]])
        y = radius + sag * (t * reach / (0.5 * abs(back_foot[2] - front_foot[2]))) ** 2 * 0.75
        chair.mirrored("leg", solid.tube(np.stack([x, y, centre + t * reach], -1), radius, square=square, sides=8))
    return name


def star_base(rng: Rng, chair: Assembly, frame: Frame, castors: bool) -> str:
    """Column on four or five feet, with castors or glides."""
    count = 5 if castors or rng.random() < 0.5 else 4
    reach = rng.uniform(0.26, 0.33)
    hub = rng.uniform(0.08, 0.12) if castors else rng.uniform(0.05, 0.1)
    end = 0.065 if castors else 0.02
    column = rng.uniform(0.018, 0.03)
    chair.add("leg", solid.rod((0, hub - 0.035, 0), (0, hub + 0.05, 0), column * 1.6))
    chair.add("leg", solid.rod((0, hub, 0), (0, frame.seat - 0.5 * frame.thickness, 0), column))
    chair.add("leg", solid.box((0, frame.bottom - 0.012, 0), (0.2, 0.04, 0.22)))
    start = np.pi / 2 + (np.pi if rng.random() < 0.5 else 0.0) + (np.pi / 4 if count == 4 else 0)
    thick = rng.uniform(0.013, 0.02)
    for i in range(count):
        angle = start + 2 * np.pi * i / count
        direction = np.array([np.cos(angle), 0, np.sin(angle)])
        tip = reach * direction + [0, end, 0]
        chair.add("leg", solid.rod((0, hub, 0), tip, thick * 1.3, thick * 0.8))
        if castors:
            centre = reach * direction + [0, 0.028, 0]
            across = np.array([-direction[2], 0, direction[0]]) * 0.022
            chair.add("leg", solid.rod(centre - across, centre + across, 0.028), solid.rod(centre, tip, 0.012))
        else:
            chair.add("leg", solid.rod(tip * [1, 0, 1], tip, 0.016))
        chair.keypoint(f"leg_tip_{i}", (tip * [1, 0, 1]).tolist())
    return f"star-{count}" + ("-castors" if castors else "")


def pedestal(rng: Rng, chair: Assembly, frame: Frame) -> str:
    """Column that widens into a disc."""
    radius, column = rng.uniform(0.19, 0.27), rng.uniform(0.02, 0.045)
    flare = rng.uniform(0.02, 0.2)
    t = np.linspace(0, 1, 8)
    y = np.concatenate([[0, 0.012], 0.016 + flare * t, [frame.seat - 0.5 * frame.thickness]])
    r = np.concatenate([[radius, radius], column + (radius * 0.95 - column) * (1 - t) ** 3.5, [column]])
    chair.add("leg", solid.tube(np.stack([0 * y, y, 0 * y], -1), r, sides=24))
    chair.add("leg", solid.box((0, frame.bottom - 0.006, 0), (0.18, 0.03, 0.18)))
    return "pedestal"


def sled(rng: Rng, chair: Assembly, frame: Frame) -> str:
    """A closed loop of tube or flat bar on either side, tied by cross bars."""
    square = bool(rng.random() < 0.35)
    r = rng.uniform(0.009, 0.015)
    x, d = frame.half_width(0.0) * rng.uniform(0.75, 0.95), frame.depth
    out, y = rng.uniform(0, 0.04), frame.bottom + 0.3 * r
    front, rear = -d / 2 + rng.uniform(0.0, 0.06), d / 2 - rng.uniform(0.0, 0.05)
    tilt = rng.uniform(0, 0.08)
    path = [(x, y, front), (x + out, r, front - tilt * 0.3), (x + out, r, rear + tilt), (x, y, rear)]
    path = solid.fillet(path, rng.uniform(0.02, 0.08), closed=True)
    chair.mirrored("leg", solid.tube(path, r, closed=True, square=square, sides=8))
    for z in (front + 0.08, rear - 0.08):
        chair.add("leg", solid.rod((-x, y, z), (x, y, z), r))
    chair.keypoint("leg_tip_front", (x + out, 0, front), mirrored=True)
    chair.keypoint("leg_tip_back", (x + out, 0, rear + tilt), mirrored=True)
    return "sled"


def cantilever(rng: Rng, chair: Assembly, frame: Frame) -> str:
    """One bent tube: along the seat, down its front, back along the floor and across."""
    r = rng.uniform(0.010, 0.015)
    x, d, y = frame.half_width(0.0) - 0.6 * r, frame.depth, frame.bottom + 0.5 * r
    front, rear = -d / 2 - rng.uniform(0, 0.03), d / 2 + rng.uniform(-0.06, 0.02)
    lean = rng.uniform(-0.02, 0.05)
    half = [(x, y, frame.back_z), (x, y, front), (x, r, front + lean), (x, r, rear)]
    path = half + [(-px, py, pz) for px, py, pz in reversed(half)]
    chair.add("leg", solid.tube(solid.fillet(path, rng.uniform(0.05, 0.1)), r, square=bool(rng.random() < 0.15)))
    chair.add("leg", solid.rod((-x, y, 0), (x, y, 0), 0.8 * r))
    chair.keypoint("leg_tip_front", (x, 0, front + lean), mirrored=True)
    chair.keypoint("leg_tip_back", (x, 0, rear), mirrored=True)
    return "cantilever"


def crossed_legs(rng: Rng, chair: Assembly, frame: Frame) -> str:
    """Folding legs: one pair from the front floor to the back, one from the seat's front to the rear."""
    r = rng.uniform(0.010, 0.016)
    square = bool(rng.random() < 0.5)
    outer = frame.half_width(frame.back_z) - r
    inner = outer - 2.2 * r
    front, rear = -frame.depth / 2 - rng.uniform(0, 0.05), frame.depth / 2 + rng.uniform(0, 0.08)
    high = frame.seat + 0.02
    long = np.array([(outer, r, front), (outer, high, frame.back_z + frame.recline * 0.02)])
    short = np.array([(inner, r, rear), (inner, frame.bottom + 0.5 * frame.thickness, -frame.depth * 0.38)])
    chair.mirrored("leg", solid.tube(long, r, square=square), solid.tube(short, r, square=square))
    for line, s in ((long, 0.12), (short, 0.12), (short, 0.5)):
        point = line[0] + s * (line[1] - line[0])
        ends = point.copy()
        ends[0] = outer
        chair.add("leg", solid.rod(ends * [-1, 1, 1], ends, 0.7 * r))
    chair.keypoint("leg_tip_front", (outer, 0, front), mirrored=True)
    chair.keypoint("leg_tip_back", (inner, 0, rear), mirrored=True)
    return "crossed"


def shell_legs(rng: Rng, chair: Assembly, frame: Frame, kind: str) -> str:
    """Legs of a moulded shell, from a mount below its middle: dowels, thin wires or straight legs."""
    top = frame.bottom - 0.005
    near = rng.uniform(0.1, 0.14) if kind != "straight" else 0.17
    out = rng.uniform(0.06, 0.11) if kind != "straight" else 0.01
    radius = {"dowel": rng.uniform(0.012, 0.017), "wire": 0.006, "straight": rng.uniform(0.009, 0.012)}[kind]
    head_f, head_b = np.array([near, top, -near * 0.9]), np.array([near, top, near * 0.9])
    foot_f = np.array([near + out, 0, -near * 0.9 - out])
    foot_b = np.array([near + out, 0, near * 0.9 + out])
    foot = radius * (0.65 if kind == "dowel" else 1.0)
    for head, tip in ((head_f, foot_f), (head_b, foot_b)):
        chair.mirrored("leg", solid.post(tip, head, 2 * foot, 2 * radius, square=False))
    for head in (head_f, head_b):
        chair.add("leg", solid.box((0, top, head[2]), (2 * near + 0.03, 0.03, 0.03)))
    chair.add("leg", solid.box((0, top + 0.008, 0), (0.16, 0.05, 2 * near)))
    if kind in {"dowel", "wire"}:
        y = rng.uniform(0.45, 0.7)
        low_f, low_b = head_f + y * (foot_f - head_f), head_b + y * (foot_b - head_b)
        flip = np.array([-1, 1, 1])
        for p, q in ((low_f, head_b), (low_b, head_f), (low_f, head_f * flip), (low_b, head_b * flip)):
            chair.mirrored("leg", solid.rod(p, q, 0.0045))
    chair.keypoint("leg_tip_front", foot_f.tolist(), mirrored=True)
    chair.keypoint("leg_tip_back", foot_b.tolist(), mirrored=True)
    return f"shell-{kind}"
