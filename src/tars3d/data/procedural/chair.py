"""Chairs: archetypes that draw a seat, a back, arms and a base from real furniture's dimensions (metres).

Called by `make_object`. Each archetype composes builders of `chair_parts`, `chair_backs`, `chair_bases` and `chair_soft`.
"""

import numpy as np

from tars3d.data.procedural import chair_backs, chair_bases, chair_parts, chair_soft
from tars3d.data.procedural.assembly import Assembly, LabelledMesh, pick
from tars3d.data.procedural.chair_frame import Frame

LABELS = ("seat", "back", "leg", "arm")
ARCHETYPES = {
    "dining": 0.35,
    "armchair": 0.20,
    "office": 0.12,
    "shell": 0.08,
    "cantilever": 0.08,
    "stool": 0.06,
    "bench": 0.04,
    "folding": 0.04,
    "rocking": 0.03,
}


def make_chair(seed: int) -> LabelledMesh:
    """One chair; the same seed gives the same chair."""
    rng = np.random.default_rng([seed, 1])
    archetype = pick(rng, ARCHETYPES)
    chair = Assembly()
    compose = {
        "dining": _dining,
        "armchair": _armchair,
        "office": _office,
        "shell": _shell,
        "cantilever": _cantilever,
        "stool": _stool,
        "bench": _bench,
        "folding": _folding,
        "rocking": _rocking,
    }[archetype]
    return chair.build(LABELS, compose(rng, chair))


def _frame(rng: np.random.Generator, **ranges: tuple[float, float]) -> Frame:
    """A frame with each dimension drawn from its range; names not given keep those of a dining chair."""
    usual = {
        "width": (0.38, 0.52),
        "taper": (0.8, 1.0),
        "depth": (0.38, 0.48),
        "seat": (0.42, 0.48),
        "thickness": (0.018, 0.05),
        "back": (0.32, 0.58),
        "recline": (0.03, 0.24),
        "bow": (0.0, 0.05),
        "flare": (0.88, 1.08),
        "crest": (0.0, 0.03),
    }
    drawn = {name: float(rng.uniform(*ranges.get(name, usual[name]))) for name in usual}
    drawn["crest"] *= float(rng.random() < 0.35)
    return Frame(**drawn)  # pyright: ignore[reportArgumentType]


def _dining(rng: np.random.Generator, chair: Assembly) -> str:
    frame = _frame(rng)
    seat = pick(rng, {"flat": 0.5, "cushion": 0.3, "saddle": 0.1, "round": 0.1})
    back = pick(
        rng,
        {
            "ladder": 0.18,
            "spindles": 0.18,
            "splat": 0.08,
            "panel": 0.16,
            "top-panel": 0.12,
            "hole": 0.06,
            "frame": 0.08,
            "cross": 0.05,
            "upholstered": 0.09,
        },
    )
    arms = pick(rng, {"none": 0.72, "rail": 0.18, "loop": 0.1})
    chair_parts.seat(rng, chair, frame, seat)
    base = chair_bases.four_legs(rng, chair, frame)
    chair_backs.back(rng, chair, frame, back)
    chair_parts.arms(rng, chair, frame, arms)
    return f"{base}/{arms}/{back}"


def _armchair(rng: np.random.Generator, chair: Assembly) -> str:
    kind = pick(rng, {"box": 0.45, "tub": 0.25, "wing": 0.12, "lounge": 0.18})
    if kind == "tub":
        return chair_soft.tub(rng, chair)
    if kind == "lounge":
        frame = _frame(
            rng,
            width=(0.52, 0.68),
            depth=(0.5, 0.6),
            seat=(0.32, 0.42),
            thickness=(0.06, 0.14),
            back=(0.4, 0.62),
            recline=(0.25, 0.5),
            taper=(0.95, 1.0),
            flare=(0.95, 1.0),
        )
        back = pick(rng, {"upholstered": 0.6, "ladder": 0.15, "spindles": 0.15, "panel": 0.1})
        arms = pick(rng, {"rail": 0.7, "loop": 0.15, "none": 0.15})
        chair_parts.seat(rng, chair, frame, "cushion")
        base = pick(rng, {"legs": 0.65, "sled": 0.35})
        base = chair_bases.four_legs(rng, chair, frame) if base == "legs" else chair_bases.sled(rng, chair, frame)
        chair_backs.back(rng, chair, frame, back)
        chair_parts.arms(rng, chair, frame, arms)
        return f"{base}/{arms}/{back}"
    return chair_soft.upholstered_armchair(rng, chair, wings=kind == "wing")


def _office(rng: np.random.Generator, chair: Assembly) -> str:
    frame = _frame(
        rng,
        width=(0.44, 0.54),
        depth=(0.42, 0.52),
        seat=(0.44, 0.54),
        thickness=(0.05, 0.1),
        back=(0.36, 0.74),
        recline=(0.05, 0.25),
        bow=(0.02, 0.09),
        taper=(0.85, 1.0),
        flare=(0.75, 1.0),
    )
    back = pick(rng, {"upholstered": 0.55, "mesh": 0.25, "panel": 0.1, "frame": 0.1})
    arms = pick(rng, {"none": 0.25, "pads": 0.35, "loop": 0.4})
    chair_parts.seat(rng, chair, frame, "cushion")
    base = chair_bases.star_base(rng, chair, frame, castors=rng.random() < 0.85)
    chair_backs.office_back(rng, chair, frame, back)
    chair_parts.arms(rng, chair, frame, arms, reach_back=False)
    return f"{base}/{arms}/{back}"


def _shell(rng: np.random.Generator, chair: Assembly) -> str:
    frame, arms = chair_soft.shell(rng, chair)
    kind = pick(rng, {"dowel": 0.4, "wire": 0.15, "sled": 0.1, "disc": 0.15, "star": 0.1, "straight": 0.1})
    if kind == "star":
        base = chair_bases.star_base(rng, chair, frame, castors=rng.random() < 0.7)
    elif kind == "disc":
        base = chair_bases.pedestal(rng, chair, frame)
    elif kind == "sled":
        base = chair_bases.sled(rng, chair, frame)
    else:
        base = chair_bases.shell_legs(rng, chair, frame, kind)
    return f"{base}/{arms}/shell"


def _cantilever(rng: np.random.Generator, chair: Assembly) -> str:
    frame = _frame(rng, width=(0.42, 0.54), taper=(0.98, 1.0), flare=(0.98, 1.0), bow=(0.0, 0.02))
    sled = rng.random() < 0.4
    back = pick(rng, {"panel": 0.35, "top-panel": 0.35, "upholstered": 0.2, "mesh": 0.1})
    arms = pick(rng, {"none": 0.55, "loop": 0.45})
    chair_parts.seat(rng, chair, frame, pick(rng, {"flat": 0.5, "cushion": 0.5}))
    base = chair_bases.sled(rng, chair, frame) if sled else chair_bases.cantilever(rng, chair, frame)
    chair_backs.back(rng, chair, frame, back, tube_posts=True)
    chair_parts.arms(rng, chair, frame, arms)
    return f"{base}/{arms}/{back}"


def _stool(rng: np.random.Generator, chair: Assembly) -> str:
    bar = rng.random() < 0.4
    frame = _frame(
        rng,
        width=(0.32, 0.46),
        depth=(0.3, 0.4),
        taper=(1.0, 1.0),
        seat=(0.6, 0.76) if bar else (0.42, 0.5),
        thickness=(0.02, 0.08),
        back=(0.12, 0.28),
    )
    chair_parts.seat(rng, chair, frame, pick(rng, {"flat": 0.3, "cushion": 0.25, "round": 0.35, "saddle": 0.1}))
    kind = pick(rng, {"legs": 0.6, "disc": 0.15, "star": 0.25})
    if kind == "legs":
        base = chair_bases.four_legs(rng, chair, frame)
    elif kind == "disc":
        base = chair_bases.pedestal(rng, chair, frame)
    else:
        base = chair_bases.star_base(rng, chair, frame, castors=rng.random() < 0.5)
    back = "none"
    if bar and kind == "legs" and rng.random() < 0.5:
        back = pick(rng, {"panel": 0.5, "frame": 0.5})
        chair_backs.back(rng, chair, frame, back)
    return f"{base}/none/{back}"


def _bench(rng: np.random.Generator, chair: Assembly) -> str:
    frame = _frame(rng, width=(0.9, 1.5), taper=(1.0, 1.0), flare=(1.0, 1.0), bow=(0.0, 0.0), back=(0.3, 0.48))
    chair_parts.seat(rng, chair, frame, pick(rng, {"flat": 0.7, "cushion": 0.3}))
    base = chair_bases.four_legs(rng, chair, frame)
    back = pick(rng, {"none": 0.25, "ladder": 0.3, "spindles": 0.3, "panel": 0.15})
    chair_backs.back(rng, chair, frame, back)
    arms = "none" if back == "none" else pick(rng, {"none": 0.4, "rail": 0.6})
    chair_parts.arms(rng, chair, frame, arms)
    return f"{base}/{arms}/{back}"


def _folding(rng: np.random.Generator, chair: Assembly) -> str:
    frame = _frame(rng, taper=(0.95, 1.0), thickness=(0.015, 0.03), bow=(0.0, 0.03), recline=(0.15, 0.3))
    chair_parts.seat(rng, chair, frame, "flat")
    base = chair_bases.crossed_legs(rng, chair, frame)
    back = pick(rng, {"top-panel": 0.45, "ladder": 0.4, "panel": 0.15})
    chair_backs.back(rng, chair, frame, back)
    return f"{base}/none/{back}"


def _rocking(rng: np.random.Generator, chair: Assembly) -> str:
    frame = _frame(rng, width=(0.48, 0.58), depth=(0.44, 0.52), seat=(0.38, 0.44), back=(0.5, 0.72), recline=(0.2, 0.4))
    chair_parts.seat(rng, chair, frame, pick(rng, {"flat": 0.4, "saddle": 0.4, "cushion": 0.2}))
    chair_bases.four_legs(rng, chair, frame, rockers=True)
    back = pick(rng, {"spindles": 0.5, "ladder": 0.3, "panel": 0.2})
    chair_backs.back(rng, chair, frame, back)
    arms = pick(rng, {"rail": 0.85, "none": 0.15})
    chair_parts.arms(rng, chair, frame, arms)
    return f"rockers/{arms}/{back}"
