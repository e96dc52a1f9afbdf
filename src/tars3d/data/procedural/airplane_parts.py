"""Fuselages, wings, tails, engines and landing gear, for `airplane`. Metres; the nose points to -Z."""

import numpy as np

from tars3d.data.procedural import parts as solid
from tars3d.data.procedural.assembly import Assembly

Rng = np.random.Generator


def fuselage(rng: Rng, length: float, radius: float, nose: float, tail: float, rise: float, tall: float = 1.0):
    """Round body from z = -length/2; `nose` and `tail` are the tapers' lengths, `rise` lifts the tail's end.

    Returns the solid and a function from z to (height of the axis, radius).
    """
    blunt = rng.uniform(0.5, 0.65)
    n = np.linspace(0, 1, 10) ** 1.7
    m = np.linspace(0, 1, 10)
    z = np.concatenate([-length / 2 + nose * n, length / 2 - tail * (1 - m)])
    r = radius * np.concatenate([np.clip(1 - (1 - n) ** 2, 0.0, 1) ** blunt, 1 - 0.86 * m**1.7])
    r[0] = 0.06 * radius
    y = np.concatenate([-0.25 * radius * (1 - n) ** 2, rise * m**1.6])
    t = np.linspace(0, 2 * np.pi, 20, endpoint=False)
    rings = np.stack(
        [
            r[:, None] * np.cos(t),
            y[:, None] + tall * r[:, None] * np.sin(t),
            np.broadcast_to(z[:, None], (len(z), len(t))),
        ],
        -1,
    )
    return solid.loft(rings), lambda at: (float(np.interp(at, z, y)), float(np.interp(at, z, r)))


def surface(root, tip, root_chord: float, tip_chord: float, thickness: float):
    """Wing or fin whose leading edge runs from `root` to `tip`, with a symmetric aerofoil and a rounded tip.

    `thickness` is relative to the chord. Sections are the four-digit NACA series' (Abbott and von Doenhoff).
    """
    root, tip = np.asarray(root, dtype=float), np.asarray(tip, dtype=float)
    span = (tip - root) * [1, 1, 0]
    normal = np.array([-span[1], span[0], 0.0]) / np.linalg.norm(span)
    c = (1 - np.cos(np.linspace(0, np.pi, 9))) / 2
    naca = 5 * thickness * (0.2969 * np.sqrt(c) - 0.126 * c - 0.3516 * c**2 + 0.2843 * c**3 - 0.1036 * c**4)  # 00xx
    half = np.maximum(naca, 0.006)
    chordwise, across = np.concatenate([c, c[::-1]]), np.concatenate([half, -half[::-1]])
    rings = []
    for s, shrink in ((0, 1), (0.35, 1), (0.7, 1), (0.94, 1), (0.98, 0.85), (1.0, 0.5)):
        chord = root_chord + (tip_chord - root_chord) * s
        edge = root + s * (tip - root) + [0, 0, (1 - shrink) * chord * 0.5]
        deep = chord * shrink
        rings.append(edge + np.outer(chordwise * deep, [0, 0, 1]) + np.outer(across * deep, normal))
    return solid.loft(np.array(rings))


def nacelle(centre, length: float, radius: float):
    """Jet engine: a hollow duct with a core and a tail cone, along Z."""
    x, y, z = centre
    s = np.array([0, 0.03, 0.12, 0.35, 0.7, 1.0])
    r = radius * np.array([0.86, 0.94, 1.0, 1.02, 0.92, 0.74])
    path = np.stack([np.full(6, x), np.full(6, y), z + (s - 0.5) * length], -1)
    duct = solid.tube(path, r, sides=18)
    ends = np.array([[x, y, z - length], [x, y, z - 0.3 * length]])
    duct = duct - solid.tube(ends, 0.76 * radius, sides=16)
    spinner = solid.rod((x, y, z - 0.25 * length), (x, y, z - 0.45 * length), 0.3 * radius, 0.04 * radius)
    cone = solid.rod((x, y, z + 0.4 * length), (x, y, z + 0.68 * length), 0.5 * radius, 0.1 * radius)
    return [duct, spinner, cone]


def propeller_engine(rng: Rng, centre, radius: float, blades: int):
    """Spinner with blades at a nose; `radius` is the disc's."""
    x, y, z = centre
    out = [solid.rod((x, y, z + 0.1 * radius), (x, y, z - 0.22 * radius), 0.14 * radius, 0.03 * radius)]
    phase = rng.uniform(0, np.pi)
    for i in range(blades):
        a = phase + 2 * np.pi * i / blades
        radial, around = np.array([np.cos(a), np.sin(a), 0]), np.array([-np.sin(a), np.cos(a), 0])
        points = []
        for s, wide in ((0.02, 0.05), (0.5, 0.075), (1.0, 0.035)):
            for sign in (-1, 1):
                for thick in (-0.012, 0.012):
                    pitch = sign * wide * radius * (around + 0.35 * np.array([0, 0, 1]))
                    points.append(np.array([x, y, z]) + radial * s * radius + pitch + [0, 0, thick * radius])
        out.append(solid.hull(np.array(points)))
    return out


def tail(rng: Rng, plane: Assembly, kind: str, end: float, axis, size: float, sweep: float) -> None:
    """Fin and stabilisers that end near z = `end` on the fuselage `axis`; `size` is the fin's height."""
    chord = size * rng.uniform(0.75, 1.0)
    z = end - chord * 1.08
    y, r = axis(z + 0.4 * chord)
    slope = sweep * size
    if kind == "V":
        reach = 0.8 * size
        tip = (reach, y + reach, z + slope * 0.6)
        plane.mirrored("tail", surface((0.0, y, z), tip, chord, 0.55 * chord, 0.1))
        plane.keypoint("tail_tip", tip, mirrored=True)
        return
    tip = np.array([0, y + size, z + slope])
    fins = [surface((0, y - 0.2 * r, z), tip, chord, 0.55 * chord, 0.1)]
    plane.add("tail", *fins)
    plane.keypoint("fin_tip", tip.tolist())
    half, wide = size * rng.uniform(0.85, 1.15), 0.72 * chord
    level, start = (tip[1] - 0.08 * size, tip[2] - 0.02) if kind == "T" else (y + 0.25 * r, z + 0.25 * chord)
    outer = (half, level + half * rng.uniform(0.0, 0.12), start + half * sweep * 0.7)
    plane.mirrored("tail", surface((-0.02, level, start), outer, wide, 0.5 * wide, 0.1))
    plane.keypoint("stabiliser_tip", outer, mirrored=True)


def wing(plane: Assembly, name: str, root, tip, root_chord: float, tip_chord: float, thickness: float) -> None:
    plane.mirrored("wing", surface(root, tip, root_chord, tip_chord, thickness))
    plane.keypoint(name, tip, mirrored=True)


def leg(plane: Assembly, top, drop: float, radius: float, mirrored: bool = True) -> None:
    """Strut and wheel below a point."""
    x, y, z = top
    width = 0.35 * radius
    parts = [
        solid.rod(top, (x, y - drop, z), 0.22 * radius),
        solid.rod((x - width, y - drop, z), (x + width, y - drop, z), radius),
    ]
    plane.mirrored("gear", *parts) if mirrored else plane.add("gear", *parts)
