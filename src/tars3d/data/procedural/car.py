"""Cars: a lofted body with wheel arches, a tapered greenhouse with windows, wheels and fittings; metres.

Called by `make_object`. A type fixes the side profile as fractions of the length from nose (0) to tail (1).
"""

from dataclasses import dataclass

import numpy as np

from tars3d.data.procedural import parts as solid
from tars3d.data.procedural.assembly import Assembly, LabelledMesh, pick

LABELS = ("body", "window", "wheel", "mirror")
Rng = np.random.Generator
Range = tuple[float, float]


@dataclass(frozen=True)
class CarType:
    """Ranges of one type: lengths in metres, `profile` in fractions of the car's length."""

    weight: float
    length: Range
    width: Range
    roof: Range
    """Height of the roof above the ground."""
    belt: Range
    """Height of the lower edge of the side windows."""
    clearance: Range
    wheel: Range
    """Wheel radius."""
    nose: Range
    """Height of the bonnet's front edge over the belt's height."""
    tail: Range
    """Height of the boot's rear edge over the belt's height."""
    profile: tuple[float, float, float, float]
    """Windscreen base and top, rear window top and base."""


TYPES = {
    "sedan": CarType(
        0.24, (4.4, 5.0), (1.72, 1.88), (1.4, 1.5), (0.9, 0.98), (0.17, 0.2),
        (0.3, 0.34), (0.74, 0.84), (0.9, 1.04), (0.28, 0.43, 0.68, 0.84)
    ),
    "hatchback": CarType(
        0.2, (3.5, 4.3), (1.62, 1.8), (1.42, 1.56), (0.9, 0.98), (0.16, 0.2),
        (0.28, 0.33), (0.74, 0.86), (0.92, 1.0), (0.24, 0.40, 0.84, 0.97)
    ),
    "suv": CarType(
        0.2, (4.2, 5.0), (1.8, 1.98), (1.62, 1.85), (1.06, 1.16), (0.22, 0.3),
        (0.34, 0.4), (0.82, 0.94), (0.94, 1.0), (0.27, 0.39, 0.87, 0.975)
    ),
    "pickup": CarType(
        0.1, (5.0, 5.6), (1.82, 2.0), (1.72, 1.88), (1.08, 1.18), (0.24, 0.32),
        (0.36, 0.41), (0.86, 0.95), (0.96, 1.02), (0.26, 0.36, 0.55, 0.6)
    ),
    "van": CarType(
        0.08, (4.4, 5.6), (1.8, 2.02), (1.85, 2.4), (1.05, 1.2), (0.18, 0.26),
        (0.31, 0.36), (0.72, 0.86), (0.96, 1.0), (0.13, 0.26, 0.95, 0.99)
    ),
    "sports": CarType(
        0.12, (4.0, 4.7), (1.78, 1.98), (1.14, 1.3), (0.76, 0.86), (0.12, 0.15),
        (0.31, 0.35), (0.68, 0.82), (0.98, 1.1), (0.34, 0.49, 0.63, 0.88)
    ),
    "convertible": CarType(
        0.06, (3.9, 4.6), (1.7, 1.9), (1.2, 1.34), (0.82, 0.92), (0.14, 0.18),
        (0.3, 0.34), (0.74, 0.84), (0.94, 1.04), (0.32, 0.44, 0.6, 0.72)
    ),
}  # fmt: skip


def make_car(seed: int) -> LabelledMesh:
    """One car; the same seed gives the same car."""
    rng = np.random.default_rng([seed, 2])
    name = pick(rng, {key: kind.weight for key, kind in TYPES.items()})
    kind, car = TYPES[name], Assembly()
    drawn = {
        key: float(rng.uniform(*getattr(kind, key)))
        for key in ("length", "width", "roof", "belt", "clearance", "wheel", "nose", "tail")
    }
    length, half, belt = drawn["length"], drawn["width"] / 2, drawn["belt"]
    cuts = np.array(kind.profile) + rng.uniform(-0.015, 0.015, 4) * [1, 1, 1, 0.5]
    glass = (cuts - 0.5) * length
    radius = drawn["wheel"]
    front_axle = -length / 2 + rng.uniform(0.75, 0.95) * (0.8 if name in {"van", "hatchback"} else 1.0)
    rear_axle = length / 2 - rng.uniform(0.75, 1.0) * (0.8 if name == "hatchback" else 1.0)
    body, rings = _body(rng, drawn, glass)
    cutters = []
    for z in (front_axle, rear_axle):
        for sign in (-1, 1):
            inner, outer = sign * (half - 0.23), sign * (half + 0.2)
            cutters.append(solid.tube(np.array([[inner, radius, z], [outer, radius, z]]), radius * 1.13, sides=24))
    if name == "pickup":
        start, end = glass[3] + 0.05, length / 2 - 0.09
        floor = 2.13 * radius + 0.04  # above the wheel arches
        size = (2 * half - 0.28, 2 * (belt + 0.1 - floor), end - start)
        cutters.append(solid.box((0, belt + 0.1, (start + end) / 2), size))
    if name == "convertible":
        start, end = glass[0] + 0.12, glass[3]
        cutters.append(solid.box((0, belt, (start + end) / 2), (2 * half - 0.36, 0.66, end - start)))
    for cutter in cutters:
        body = body - cutter
    car.add("body", body)
    _wheels(car, (front_axle, rear_axle), half, radius)
    if name == "convertible":
        _open_cabin(rng, car, drawn, glass)
    else:
        _greenhouse(rng, car, drawn, glass, windows=name != "van" or rng.random() < 0.5)
    fittings = _fittings(rng, car, name, drawn, glass)
    car.keypoint("nose", rings[0].mean(axis=0).tolist())
    car.keypoint("tail", rings[-1].mean(axis=0).tolist())
    return car.build(LABELS, "/".join([name, *fittings]))


def _body(rng: Rng, drawn: dict[str, float], glass: np.ndarray):
    """Lower body below the belt, lofted along Z; returns the solid and its rings."""
    length, half, belt = drawn["length"], drawn["width"] / 2, drawn["belt"]
    ease = np.sin(np.linspace(0, 1, 5) * np.pi / 2)
    s = np.concatenate([0.035 * (1 - np.cos(np.linspace(0, 1, 6) * np.pi / 2)), np.linspace(0.06, 0.94, 19)])
    s = np.concatenate([s, 1 - 0.03 * (1 - np.cos(np.linspace(1, 0, 6) * np.pi / 2))])
    z = (s - 0.5) * length
    nose, tail = drawn["nose"] * belt, drawn["tail"] * belt
    cowl, deck = glass[0] / length + 0.5, min(glass[3] / length + 0.5, 0.97)
    top = np.interp(
        s,
        [0, 0.04, cowl * 0.6, cowl, deck, 1],
        [nose * 0.94, nose, 0.4 * nose + 0.6 * belt, belt, belt, tail],
    )
    end = np.ones_like(s)  # how far both ends are drawn in, as seen from above and from the side
    end[:5], end[-5:] = 0.55 + 0.45 * ease, (0.62 + 0.38 * ease)[::-1]
    pointed = rng.uniform(0.06, 0.16)
    plan = half * (1 - pointed * np.clip(1 - s / 0.22, 0, 1) ** 2 - 0.06 * np.clip((s - 0.85) / 0.15, 0, 1) ** 2)
    plan = plan * (0.82 + 0.18 * end)
    low = drawn["clearance"] * np.ones_like(s) + 0.12 * np.clip(1 - s / 0.08, 0, 1) ** 2
    low = low + 0.14 * np.clip((s - 0.9) / 0.1, 0, 1) ** 2
    middle = 0.5 * (low + top)
    low, top = middle + (low - middle) * end, middle + (top - middle) * end
    crown, shoulder, sill = rng.uniform(0.02, 0.07), rng.uniform(0.86, 0.95), rng.uniform(0.9, 0.97)
    # Right half of the section from the floor's middle to the roof's middle, as (x, y) in [0, 1]^2.
    section = np.array(
        [
            (0.0, 0.0),
            (sill - 0.12, 0.0),
            (sill - 0.03, 0.03),
            (sill, 0.1),
            (0.985, 0.35),
            (1.0, 0.55),
            (0.99, 0.75),
            (shoulder + 0.02, 0.93),
            (shoulder - 0.06, 0.985),
            (shoulder - 0.3, 1.0 + 0.6 * crown),
            (0.0, 1.0 + crown),
        ]
    )
    ring = np.concatenate([section, section[-2:0:-1] * [-1, 1]])
    x = plan[:, None] * ring[None, :, 0]
    y = low[:, None] + (top - low)[:, None] * ring[None, :, 1]
    rings = np.stack([x, y, np.broadcast_to(z[:, None], x.shape)], -1)
    return solid.loft(rings), rings


def _greenhouse(rng: Rng, car: Assembly, drawn: dict[str, float], glass: np.ndarray, windows: bool) -> None:
    """Cabin above the belt: windscreen, roof, rear window, side windows between pillars."""
    belt, roof = drawn["belt"], drawn["roof"]
    base, top, rear_top, rear = glass
    z = np.concatenate(
        [np.linspace(base, top, 6), np.linspace(top, rear_top, 15)[1:], np.linspace(rear_top, rear, 6)[1:]]
    )
    arch = rng.uniform(0.02, 0.05)
    height = np.interp(z, [base, top, rear_top, rear], [0.012, 1.0, rng.uniform(0.93, 0.99), 0.012])
    height = np.minimum(height + arch * np.sin(np.pi * np.clip((z - base) / (rear - base), 0, 1)), 1.0 + 0.3 * arch)
    height = np.clip(height, 0.012, None) * (roof - belt)
    lean = rng.uniform(0.1, 0.2) if roof < 1.9 else rng.uniform(0.04, 0.08)
    foot = drawn["width"] / 2 * rng.uniform(0.86, 0.91)
    levels = np.array([-0.3, 0.0, 0.12, 0.45, 0.8, 0.93, 0.985])
    inset = np.array([0.0, 0.0, 0.1, 0.42, 0.8, 1.0, 1.35])
    half_x = foot - lean * inset[None] * (height[:, None] / (roof - belt))
    half_x[:, -1] -= 0.06
    y = belt - 0.01 + levels[None] * height[:, None]
    y[:, 0] = belt - 0.12
    crown = belt - 0.01 + 1.01 * height
    right = np.stack([half_x, y], -1)
    middle = np.stack([0 * crown, crown], -1)[:, None]
    ring = np.concatenate([right, middle, right[:, ::-1] * [-1, 1]], axis=1)
    rings = np.concatenate([ring, np.broadcast_to(z[:, None, None], (*ring.shape[:2], 1))], -1)
    count = ring.shape[1]
    cells = np.full((len(z) - 1, count), "body", dtype=object)
    side = [2, 3, count - 4 - 1, count - 4]
    cells[0:4, 6:8] = cells[-4:-1, 6:8] = "window"  # windscreen and rear window
    cells[1:4, 4:10] = cells[-4:-1, 4:10] = "window"
    if windows:
        middle = int(rng.integers(10, 13))
        pillars = {5, middle, len(z) - 6} if glass[2] - glass[1] > 0.8 else {5, len(z) - 6}
        for row in range(2, len(z) - 3):
            if row not in pillars:
                cells[row, side] = "window"
    else:
        cells[2:10, side] = "window"
        cells[-5:] = "body"
    car.add_pieces(*solid.labelled_loft(rings, cells.astype(str), caps=("body", "body")))
    car.keypoint("roof_front", (foot - lean, roof, top), mirrored=True)
    car.keypoint("roof_back", (foot - lean, roof, rear_top), mirrored=True)


def _open_cabin(rng: Rng, car: Assembly, drawn: dict[str, float], glass: np.ndarray) -> None:
    """A convertible's windscreen and seats."""
    belt, roof, foot = drawn["belt"], drawn["roof"], drawn["width"] / 2 * 0.84
    low, high = np.array([foot, belt - 0.05, glass[0] + 0.06]), np.array([foot - 0.13, roof, glass[1] + 0.05])
    flip = np.array([-1, 1, 1])
    car.mirrored("body", solid.rod(low, high, 0.035, 0.03))
    car.add("body", solid.rod(high * flip, high, 0.03))
    depth = np.array([0, 0, 0.012])
    pane = np.array([low, high, high * flip, low * flip])
    car.add("window", solid.hull(np.concatenate([pane - depth, pane + depth])))
    for z in [glass[0] + 0.95] + ([glass[0] + 1.65] if glass[3] - glass[0] > 1.9 else []):
        car.mirrored("body", solid.rounded_box((0.36, belt - 0.22, z - 0.2), (0.5, 0.3, 0.5), 0.08))
        car.mirrored("body", solid.rounded_box((0.36, belt - 0.02, z + 0.06), (0.48, 0.56, 0.16), 0.07))
        car.mirrored("body", solid.rounded_box((0.36, belt + 0.28, z + 0.08), (0.26, 0.16, 0.1), 0.045))
        car.mirrored("body", solid.rod((0.36, belt, z + 0.08), (0.36, belt + 0.25, z + 0.08), 0.03))


def _wheels(car: Assembly, axles: tuple[float, float], half: float, radius: float) -> None:
    for name, z in zip(("front", "back"), axles, strict=True):
        width, rim = 0.235, 0.66 * radius
        x = np.array([-width, -width + 0.001, -width + 0.02, -0.03, -0.008, 0.0, 0.0]) + half - 0.008
        r = np.array([0.9, 0.93, 1.0, 1.0, 0.95, 0.88, 0.87]) * radius
        x[-1] += 1e-3
        path = np.stack([x, np.full_like(x, radius), np.full_like(x, z)], -1)
        tyre = solid.tube(path, r, sides=24)
        dish = solid.tube(path[-1] + np.array([[-0.03, 0, 0], [0.05, 0, 0]]), np.array([0.9, 1.05]) * rim, sides=20)
        hub = solid.rod(path[-1] - [0.06, 0, 0], path[-1] - [0.006, 0, 0], 0.34 * rim)
        axle = solid.rod(path[0] + [0.02, 0, 0], path[0] - [0.12, 0, 0], 0.3 * radius)
        car.mirrored("wheel", tyre - dish, hub, axle)
        car.keypoint(f"wheel_{name}", (half, radius, z), mirrored=True)


def _fittings(rng: Rng, car: Assembly, name: str, drawn: dict[str, float], glass: np.ndarray) -> list[str]:
    """Mirrors, bumpers, roof rack, spoiler and spare wheel; returns those that change the topology."""
    belt, roof, half, length = drawn["belt"], drawn["roof"], drawn["width"] / 2, drawn["length"]
    z = glass[0] + 0.3 * (glass[1] - glass[0]) + 0.12
    size = (rng.uniform(0.16, 0.22), rng.uniform(0.11, 0.16), rng.uniform(0.09, 0.13))
    car.mirrored("mirror", solid.rounded_box((half + 0.06, belt + 0.07, z), size, 0.04))
    car.mirrored("mirror", solid.rod((half - 0.16, belt - 0.03, z), (half + 0.05, belt + 0.04, z), 0.025))
    car.keypoint("mirror", (half + 0.06, belt + 0.07, z), mirrored=True)
    low = drawn["clearance"] + rng.uniform(0.12, 0.2)
    if rng.random() < 0.7:
        out, tall = rng.uniform(0.0, 0.05), rng.uniform(0.14, 0.22)
        car.add(
            "body",
            solid.rounded_box((0, low + 0.08, -length / 2 + 0.1 - out), (1.7 * half, tall, 0.24), 0.07),
        )
        car.add("body", solid.rounded_box((0, low + 0.1, length / 2 - 0.1 + out), (1.72 * half, tall, 0.24), 0.07))
    found = []
    rail = 0.62 * half
    if name in {"suv", "van", "hatchback"} and rng.random() < 0.4:
        found.append("rack")
        start, end, y = glass[1] + 0.25, glass[2] - 0.15, roof + 0.07
        car.mirrored("body", solid.rod((rail, y, start), (rail, y, end), 0.022))
        for at in (start + 0.04, 0.5 * (start + end), end - 0.04):
            car.mirrored("body", solid.rod((rail, roof - 0.2, at), (rail, y, at), 0.022))
    spoiler = {"sports": 0.55, "hatchback": 0.3, "sedan": 0.15}.get(name, 0.0)
    if rng.random() < spoiler:
        found.append("spoiler")
        if name == "hatchback":
            span = (1.25 * half, 0.035, 0.3)
            car.add("body", solid.rounded_box((0, roof - 0.06, glass[2] + 0.08), span, 0.015))
        else:
            y, at = belt * drawn["tail"], length / 2 - 0.2
            lift = rng.uniform(0.05, 0.16)
            car.add("body", solid.rounded_box((0, y + lift, at), (1.66 * half, 0.04, 0.26), 0.018))
            car.mirrored("body", solid.box((0.5 * half, y + lift / 2 - 0.06, at), (0.04, lift + 0.14, 0.14)))
    if name == "suv" and rng.random() < 0.2:
        found.append("spare")
        r, at = 0.92 * drawn["wheel"], length / 2 - 0.02
        car.add(
            "wheel",
            solid.tube(np.array([[0, belt - 0.12, at - 0.12], [0, belt - 0.12, at + 0.16]]), r, sides=24),
        )
    return found or ["plain"]
