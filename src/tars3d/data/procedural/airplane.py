"""Airplanes: a revolved fuselage, lofted wings and tail, engines and sometimes landing gear; metres.

Called by `make_object`. Each type draws its ranges; the nose points to -Z.
"""

import numpy as np

from tars3d.data.procedural import airplane_parts as parts
from tars3d.data.procedural import parts as solid
from tars3d.data.procedural.assembly import Assembly, LabelledMesh, pick

LABELS = ("fuselage", "wing", "tail", "engine", "gear")
TYPES = {"airliner": 0.36, "business": 0.14, "light": 0.2, "fighter": 0.16, "biplane": 0.06, "glider": 0.08}
Rng = np.random.Generator


def make_airplane(seed: int) -> LabelledMesh:
    """One airplane; the same seed gives the same airplane."""
    rng = np.random.default_rng([seed, 3])
    name = pick(rng, TYPES)
    plane = Assembly()
    build = {"airliner": _jet, "business": _jet, "fighter": _fighter}.get(name, _propeller)
    topology = build(rng, plane, name)
    return plane.build(LABELS, topology)


def _jet(rng: Rng, plane: Assembly, name: str) -> str:
    """Airliner, or business jet with engines at the tail."""
    business = name == "business"
    length = rng.uniform(14, 20) if business else rng.uniform(32, 65)
    radius = length * (rng.uniform(0.052, 0.062) if business else rng.uniform(0.042, 0.058))
    solid_body, axis = parts.fuselage(rng, length, radius, 3.2 * radius, 6 * radius, 0.6 * radius)
    plane.add("fuselage", solid_body)
    span = length * rng.uniform(0.42, 0.52)
    sweep, dihedral = rng.uniform(0.38, 0.62), rng.uniform(0.05, 0.12)
    chord = length * rng.uniform(0.17, 0.22)
    high = not business and rng.random() < 0.15
    level = 0.72 * radius if high else -0.55 * radius
    start = -length * rng.uniform(0.08, 0.14) + (0.05 * length if business else 0)
    lift = -0.02 if high else dihedral
    tip = np.array([span, level + lift * span, start + sweep * span])
    parts.wing(plane, "wing_tip", (-0.02, level, start), tip.tolist(), chord, chord * rng.uniform(0.22, 0.34), 0.11)
    if rng.random() < 0.35:
        up = span * rng.uniform(0.06, 0.1)
        root = tip - [0.015 * span, 0, -0.01 * span]
        c = 0.22 * chord
        plane.mirrored("wing", parts.surface(root, root + np.array([0.3 * up, up, 0.6 * up]), c, 0.5 * c, 0.1))
    tail = pick(rng, {"conventional": 0.2, "T": 0.8} if business else {"conventional": 0.88, "T": 0.12})
    parts.tail(
        rng,
        plane,
        tail,
        length / 2 - 0.3 * radius,
        axis,
        length * rng.uniform(0.13, 0.17),
        rng.uniform(0.5, 0.75),
    )
    engines = "tail-2" if business or tail == "T" else pick(rng, {"under-2": 0.7, "under-4": 0.3})
    r = radius * rng.uniform(0.42, 0.58)
    if engines == "tail-2":
        z, x = length * 0.26, radius + 0.95 * r * 0.9
        plane.mirrored("engine", *parts.nacelle((x, 0.35 * radius, z), 4.2 * r, 0.85 * r))
        plane.mirrored("engine", solid.box((0.8 * radius, 0.35 * radius, z), (0.9 * radius, 0.25 * r, 2.4 * r)))
        plane.keypoint("engine", (x, 0.35 * radius, z), mirrored=True)
    else:
        for i, s in enumerate([0.34] if engines == "under-2" else [0.3, 0.6]):
            x, edge = s * span, start + s * sweep * span
            y = level + lift * x - 1.25 * r
            size = r * (1.0 if engines == "under-2" else 0.8)
            z = edge - 0.3 * size
            plane.mirrored("engine", *parts.nacelle((x, y, z), 3.6 * size, size))
            pylon = (x, y + 1.05 * size, edge + 1.2 * size)
            plane.mirrored("engine", solid.box(pylon, (0.22 * size, 1.5 * size, 3.4 * size)))
            plane.keypoint(f"engine_{i}", (x, y, z), mirrored=True)
    gear = rng.random() < 0.35
    if gear:
        drop = 1.1 * radius
        parts.leg(plane, (0.9 * radius, -0.5 * radius, start + 0.75 * chord), drop + 0.9 * radius, 0.3 * radius)
        front = -length / 2 + 4 * radius
        parts.leg(plane, (0, -0.5 * radius, front), drop + 0.9 * radius, 0.24 * radius, mirrored=False)
    plane.keypoint("nose", (0, axis(-length / 2)[0], -length / 2))
    where = "high" if high else "low"
    return f"{name}/{where}-wing/{engines}/{tail}-tail/{'gear' if gear else 'clean'}"


def _propeller(rng: Rng, plane: Assembly, name: str) -> str:
    """Light airplane with one or two propellers, biplane, or glider (without any)."""
    glider, biplane = name == "glider", name == "biplane"
    length = rng.uniform(6.2, 8.2) if not glider else rng.uniform(6.5, 8)
    radius = length * (rng.uniform(0.05, 0.06) if glider else rng.uniform(0.068, 0.085))
    tail_length = length * rng.uniform(0.55, 0.62)
    rise = radius * rng.uniform(0.2, 0.5)
    body, axis = parts.fuselage(rng, length, radius, (3.0 if glider else 1.6) * radius, tail_length, rise, tall=1.12)
    plane.add("fuselage", body)
    high = not biplane and rng.random() < (0.6 if glider else 0.5)
    half = length * (rng.uniform(0.95, 1.3) if glider else rng.uniform(0.55, 0.72))
    chord = length * (rng.uniform(0.11, 0.14) if glider else rng.uniform(0.18, 0.23))
    start = -length * rng.uniform(0.16, 0.22)
    level = 0.85 * radius if high else -0.7 * radius
    lift = rng.uniform(0.0, 0.04) if high else rng.uniform(0.06, 0.1)
    tip_chord = chord * (rng.uniform(0.4, 0.6) if glider else rng.uniform(0.55, 1.0))
    sweep = rng.uniform(0.0, 0.06)
    canopy = 0.55 * radius
    z = start + (0.1 if high or biplane else 0.35) * chord
    # Cabin or canopy: an ellipsoid sunk into the body.
    t = np.linspace(0, np.pi, 9)[1:-1]
    bump = np.stack([0 * t, np.full_like(t, 0.62 * radius + 0.12 * canopy), z - np.cos(t) * 1.9 * radius], -1)
    plane.add("fuselage", solid.tube(bump, np.sin(t) * 0.72 * radius, sides=14))
    tip = (half, level + lift * half, start + sweep * half)
    if biplane:
        gap = 2.3 * radius
        top = level + gap + 0.6 * radius
        parts.wing(
            plane,
            "upper_wing_tip",
            (-0.02, top, start - 0.12 * chord),
            (half, top + 0.03 * half, start),
            chord,
            0.85 * chord,
            0.11,
        )
        parts.wing(plane, "wing_tip", (-0.02, level, start), tip, chord, 0.85 * chord, 0.11)
        for x in (0.16 * half, 0.72 * half):
            for shift in (0.2, 0.6):
                low = (x, level + lift * x, start + shift * chord)
                plane.mirrored(
                    "wing",
                    solid.rod(low, (x, top + 0.03 * x, start + (shift - 0.1) * chord), 0.03 * radius + 0.01),
                )
    else:
        parts.wing(plane, "wing_tip", (-0.02, level, start), tip, chord, tip_chord, 0.13)
        if high and not glider and rng.random() < 0.6:
            x = 0.45 * half
            foot, head = (
                (0.6 * radius, -0.6 * radius, start + 0.4 * chord),
                (x, level + lift * x, start + 0.4 * chord),
            )
            plane.mirrored("wing", solid.rod(foot, head, 0.045 * radius + 0.01))
    tail = pick(
        rng,
        {"T": 0.7, "conventional": 0.15, "V": 0.15} if glider else {"conventional": 0.75, "T": 0.15, "V": 0.1},
    )
    size = length * rng.uniform(0.14, 0.19)
    parts.tail(rng, plane, tail, length / 2, axis, size, rng.uniform(0.2, 0.5))
    engines = "none"
    nose_y = axis(-length / 2)[0]
    if not glider:
        engines = "propellers-2" if not biplane and rng.random() < 0.25 else "propeller-1"
        blades, disc = int(rng.choice([2, 3, 4], p=[0.5, 0.4, 0.1])), length * rng.uniform(0.11, 0.14)
        if engines == "propeller-1":
            plane.add("engine", *parts.propeller_engine(rng, (0, nose_y, -length / 2), disc, blades))
            plane.keypoint("engine", (0, nose_y, -length / 2 - 0.2 * disc))
        else:
            x = 0.36 * half
            y, front = level + lift * x, start - 0.45 * chord
            s = np.array([0.0, 0.05, 0.3, 0.7, 1.0])
            path = np.stack([np.full(5, x), np.full(5, y), front + s * 1.25 * chord], -1)
            plane.mirrored("engine", solid.tube(path, 0.5 * radius * np.array([0.4, 0.75, 1.0, 0.85, 0.2]), sides=14))
            plane.mirrored("engine", *parts.propeller_engine(rng, (x, y, front), 0.85 * disc, blades))
            plane.keypoint("engine", (x, y, front), mirrored=True)
    gear = not glider and rng.random() < 0.75
    if gear:
        wheel = 0.3 * radius + 0.05
        spread = 1.3 * radius
        drop = 1.5 * radius
        foot = np.array([spread, -0.7 * radius - drop, start + 0.35 * chord])
        plane.mirrored("gear", solid.rod((0.3 * radius, -0.7 * radius, foot[2]), foot, 0.07 * radius + 0.01))
        half_tyre = np.array([0.12 * radius, 0, 0])
        plane.mirrored("gear", solid.rod(foot - half_tyre, foot + half_tyre, wheel))
        if rng.random() < 0.6 and not biplane:
            z = -length / 2 + 1.4 * radius
            parts.leg(
                plane,
                (0, nose_y - 0.3 * radius, z),
                foot[1] * -1 + nose_y - 0.3 * radius,
                0.8 * wheel,
                mirrored=False,
            )
        else:
            at = length / 2 - 0.12 * length
            parts.leg(plane, (0, axis(at)[0], at), axis(at)[1] + 0.35 * radius, 0.4 * wheel, mirrored=False)
    plane.keypoint("nose", (0, nose_y, -length / 2))
    wings = "biplane" if biplane else ("high-wing" if high else "low-wing")
    return f"{name}/{wings}/{engines}/{tail}-tail/{'gear' if gear else 'clean'}"


def _fighter(rng: Rng, plane: Assembly, name: str) -> str:
    """Military jet: delta or swept wing, bubble canopy, intakes, one or two fins."""
    length = rng.uniform(13, 19)
    radius = length * rng.uniform(0.05, 0.062)
    body, axis = parts.fuselage(rng, length, radius, 5.5 * radius, 3.0 * radius, 0.1 * radius)
    plane.add("fuselage", body)
    t = np.linspace(0, np.pi, 9)[1:-1]
    z = -length * rng.uniform(0.22, 0.27)
    lift_axis = axis(z)[0] + 0.72 * axis(z)[1]
    bump = np.stack([0 * t, np.full_like(t, lift_axis), z - np.cos(t) * 2.4 * radius], -1)
    plane.add("fuselage", solid.tube(bump, np.sin(t) * 0.6 * radius, sides=14))
    delta = rng.random() < 0.5
    half = length * rng.uniform(0.26, 0.36)
    chord = length * (rng.uniform(0.42, 0.52) if delta else rng.uniform(0.26, 0.34))
    tip_chord = chord * (rng.uniform(0.04, 0.12) if delta else rng.uniform(0.25, 0.45))
    start = length * (0.42 if delta else 0.18) - chord
    slope = (chord - tip_chord) * rng.uniform(0.85, 1.0) if delta else half * rng.uniform(0.45, 0.9)
    level = rng.uniform(-0.2, 0.25) * radius
    tip = (half, level - 0.03 * half, start + slope)
    parts.wing(plane, "wing_tip", (-0.02, level, start), tip, chord, tip_chord, 0.05)
    for_intake = np.array([[0.85 * radius, level - 0.1 * radius, -0.12 * length], [0.8 * radius, level, 0.38 * length]])
    duct = solid.tube(for_intake, np.array([0.55, 0.5]) * radius, square=True)
    hollow = for_intake[:1] + np.array([[0, 0, -0.1], [0, 0, radius]])
    plane.mirrored("engine", duct - solid.tube(hollow, 0.42 * radius, square=True))
    twin_engines = rng.random() < 0.5
    nozzle = [(0.6 * radius, 0.62)] if twin_engines else [(0.0, 0.8)]
    for x, r in nozzle:
        path = np.array([[x, 0, 0.36 * length], [x, 0, 0.47 * length], [x, 0, 0.52 * length]])
        pipe = solid.tube(path, np.array([0.95, 1.0, 0.8]) * r * radius, sides=16)
        pipe = pipe - solid.rod((x, 0, 0.49 * length), (x, 0, 0.6 * length), 0.65 * r * radius)
        (plane.mirrored if x else plane.add)("engine", pipe)
        plane.keypoint("engine", (x, 0, 0.52 * length), mirrored=bool(x))
    fins = 2 if rng.random() < 0.45 else 1
    size, fin = length * rng.uniform(0.13, 0.17), length * rng.uniform(0.15, 0.2)
    back = 0.44 * length - fin
    for x, lean in [(0.75 * radius, 0.25)] if fins == 2 else [(0.0, 0.0)]:
        tip = (x + lean * size, 0.5 * radius + size, back + 0.6 * size)
        surface = parts.surface((x, 0.1 * radius, back), tip, fin, 0.4 * fin, 0.06)
        (plane.mirrored if x else plane.add)("tail", surface)
        plane.keypoint("fin_tip", tip, mirrored=bool(x))
    place = "canards" if delta and rng.random() < 0.5 else ("none" if delta else "stabilisers")
    if place != "none":
        at = -0.16 * length if place == "canards" else 0.34 * length
        c, reach = 0.12 * length, length * rng.uniform(0.15, 0.19)
        outer = (reach, 0.15 * radius, at + 0.6 * reach)
        plane.mirrored("tail", parts.surface((0.1, 0.15 * radius, at), outer, c, 0.4 * c, 0.06))
        plane.keypoint("stabiliser_tip", outer, mirrored=True)
    plane.keypoint("nose", (0, axis(-length / 2)[0], -length / 2))
    engines = "jets-2" if twin_engines else "jet-1"
    return f"{name}/{'delta' if delta else 'swept'}/{engines}/{fins}-fin-{place}/clean"
