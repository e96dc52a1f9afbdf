"""Backs of chairs, built on a `Frame`. Called by `chair`; they add labelled solids and keypoints."""

import numpy as np

from tars3d.data.procedural import parts as solid
from tars3d.data.procedural.assembly import Assembly
from tars3d.data.procedural.chair_frame import Frame, Rng, back_panel


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
