"""Chairs that are one form rather than sticks: shells, tubs and upholstered armchairs. Called by `chair`."""

import numpy as np

from tars3d.data.procedural import chair_bases as bases
from tars3d.data.procedural import parts as solid
from tars3d.data.procedural.assembly import Assembly, pick
from tars3d.data.procedural.chair_frame import Frame, Rng, back_panel


def shell(rng: Rng, chair: Assembly) -> tuple[Frame, str]:
    """Moulded seat and back in one sheet, perhaps with arms; returns its frame and the kind of its arms."""
    width, depth = rng.uniform(0.42, 0.5), rng.uniform(0.38, 0.44)
    height, back_height = rng.uniform(0.43, 0.47), rng.uniform(0.28, 0.42)
    recline, arms = rng.uniform(0.15, 0.32), bool(rng.random() < 0.4)
    dip = rng.uniform(0.01, 0.03)
    profile = solid.fillet(
        [
            (0, height - 0.045, -depth / 2 - 0.01),
            (0, height, -depth / 2 + 0.05),
            (0, height - dip, depth / 2 - 0.03),
            (0, height + back_height * 0.5, depth / 2 + recline * back_height * 0.4),
            (0, height + back_height, depth / 2 + recline * back_height),
        ],
        0.12,
        steps=8,
    )
    arc = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(profile, axis=0), axis=1))])
    rows, columns = 31, 21
    s = np.linspace(0, 1, rows)
    line = np.stack([np.interp(s * arc[-1], arc, profile[:, axis]) for axis in range(3)], -1)
    tangent = np.gradient(line, axis=0)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    inward = np.stack([0 * s, tangent[:, 2], -tangent[:, 1]], -1)  # up over the seat, forward on the back
    u = np.linspace(-1, 1, columns)
    bend = s[np.argmax(line[:, 1] > height + 0.04)]  # where the seat turns into the back
    top_width = rng.uniform(0.75, 1.0)
    half = width / 2 * (1 - (1 - top_width) * np.clip((s - bend) / (1 - bend), 0, 1) ** 1.5)
    ends = rng.uniform(0.1, 0.4)  # how much both ends of the sheet are rounded
    half = half * np.sqrt(1 - ends * np.abs(2 * s - 1) ** 6)
    curl, rise = rng.uniform(0.03, 0.07), np.zeros(rows)
    sheet = line[:, None] + (curl * np.abs(u) ** 2.4)[None, :, None] * inward[:, None]
    if arms:  # the sides stand up about the bend
        missing = height + rng.uniform(0.13, 0.19) - line[:, 1]
        start = np.clip((s / bend - 0.25) / 0.45, 0, 1)
        rise = start**2 * (3 - 2 * start) * 0.5 * (missing + np.sqrt(missing**2 + 0.03**2))
        sheet = sheet + (rise[:, None] * np.abs(u) ** 3)[..., None] * np.array([0.0, 1.0, 0.0])
        half = half * (1 + 0.25 * rise / rise.max())
    sheet[..., 0] = half[:, None] * u * (1 - 0.12 * u**2)
    normal = np.cross(np.gradient(sheet, axis=1), np.gradient(sheet, axis=0))
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    thick = rng.uniform(0.006, 0.011)
    upper, lower = sheet + thick * normal, sheet - thick * normal
    cut = int(np.searchsorted(s, bend))
    cells = np.full((rows - 1, columns - 1), "seat", dtype=object)
    cells[cut:] = "back"
    if arms:
        raised = 0.5 * (rise[1:] + rise[:-1]) > 0.03
        cells[raised, :3] = cells[raised, -3:] = "arm"
    chair.add_pieces(*solid.labelled_slab(upper, lower, cells.astype(str)))
    above = solid.slab(sheet[: cut + 1], sheet[: cut + 1] + np.array([0.0, 0.3, 0.0]))
    mount = solid.box((0, height - 0.03, 0.0), (0.2, 0.12, 0.2)) - above
    low = solid.box((0, height - dip - 0.23, 0), (1, 0.4, 1))
    chair.add("leg", mount - low)
    frame = Frame(width * 0.75, 1.0, depth * 0.8, height, dip + 0.025, back_height, recline, 0.0, 1.0, 0.0)
    chair.keypoint("seat_centre", (0, height - dip / 2, 0))
    chair.keypoint("seat_front", upper[2, -1].tolist(), mirrored=True)
    chair.keypoint("seat_back", upper[cut, -4].tolist(), mirrored=True)
    chair.keypoint("back_top", upper[-1, -1].tolist(), mirrored=True)
    chair.keypoint("back_top_centre", upper[-1, columns // 2].tolist())
    if arms:
        chair.keypoint("arm_front", upper[int(np.argmax(rise > 0.8 * rise.max())), -1].tolist(), mirrored=True)
    return frame, "shell-arms" if arms else "none"


def _feet(rng: Rng, chair: Assembly, x: float, z: float, height: float) -> str:
    """Short feet under a box whose corners are at (x, z); or a plinth."""
    if rng.random() < 0.15:
        chair.add("leg", solid.box((0, height / 2, 0), (1.8 * x, height + 0.01, 1.8 * z)))
        return "plinth"
    square, size = bool(rng.random() < 0.5), rng.uniform(0.025, 0.05)
    splay = float(rng.choice([0, 0.02, 0.04]))
    for name, sign in (("front", -1), ("back", 1)):
        top = (x - 0.045, height + 0.02, sign * (z - 0.045))
        tip = (top[0] + splay, 0.0, top[2] + sign * splay)
        chair.mirrored("leg", solid.post(tip, top, size * rng.uniform(0.55, 1), size, square))
        chair.keypoint(f"leg_tip_{name}", tip, mirrored=True)
    return "feet"


def upholstered_armchair(rng: Rng, chair: Assembly, wings: bool) -> str:
    """Club chair, easy chair or wing chair: base, loose cushion, thick back and arms."""
    inner = rng.uniform(0.48, 0.62)
    if not wings and rng.random() < 0.2:
        inner = rng.uniform(0.95, 1.5)  # a loveseat
    depth, seat = rng.uniform(0.5, 0.62), rng.uniform(0.36, 0.45)
    arm_width, arm_height = rng.uniform(0.06, 0.2), rng.uniform(0.14, 0.25)
    arm = pick(rng, {"panel": 0.65, "none": 0.15, "holes": 0.2}) if not wings else "panel"
    foot = rng.uniform(0.05, 0.2)
    height = rng.uniform(0.3, 0.5) if not wings else rng.uniform(0.55, 0.7)
    cushion = rng.uniform(0.09, 0.16)
    thick = rng.uniform(0.1, 0.2)
    frame = Frame(
        inner,
        1.0,
        depth,
        seat,
        cushion,
        height,
        rng.uniform(0.08, 0.35),
        0.02 * float(inner < 0.8),
        rng.uniform(0.9, 1.0) if wings else 1.0,
        rng.uniform(0, 0.05) if inner < 0.8 else 0.0,
    )
    low = min(foot, seat - cushion - 0.03)
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * [inner / 2, depth / 2]
    edge = rng.uniform(0.015, 0.04)
    chair.add(
        "seat",
        solid.rounded_box((0, (low + seat - cushion) / 2, 0.01), (inner, seat - cushion - low + 0.02, depth), 0.015),
    )
    chair.add("seat", solid.cushion(corners, seat - cushion, seat, edge + 0.02, edge, rng.uniform(0, 0.025)))
    puff = rng.uniform(0.15, 0.5)
    start = -(seat - low) / height + 0.03
    chair.add("back", back_panel(frame, (-1, 1), (start, 1), thick, rng.uniform(0, 0.2), puff, (13, 13)))
    half = inner / 2
    if arm == "panel":
        half += arm_width
        top = seat + arm_height
        centre = (inner / 2 + arm_width / 2 - 0.004, (low + top) / 2, 0.0)
        size = (arm_width + 0.008, top - low, depth + rng.uniform(-0.06, 0.05))
        radius = rng.uniform(0.01, 0.49) * arm_width
        chair.mirrored("arm", solid.rounded_box(centre, size, radius))
        if rng.random() < 0.3:  # rolled
            roll = arm_width * rng.uniform(0.55, 0.7)
            z = size[2] / 2
            chair.mirrored(
                "arm",
                solid.rod((centre[0] + 0.01, top - 0.3 * roll, -z), (centre[0] + 0.01, top - 0.3 * roll, z), roll),
            )
    elif arm == "holes":
        r, top = rng.uniform(0.016, 0.028), seat + arm_height
        x = inner / 2 + r
        half += 2 * r
        rear = min(frame.back_z, depth / 2 - 0.03)
        for z in (-depth / 2 + 0.05, rear):
            chair.mirrored("arm", solid.post((x - 0.3 * r, low, z), (x, top, z), 2 * r, 2 * r))
        chair.mirrored("arm", solid.bar((x, top, -depth / 2), (x, top, rear + 0.06), 0.03, rng.uniform(0.05, 0.09)))
    if arm != "none":
        chair.keypoint("arm_front", (half - 0.02, seat + arm_height, -depth / 2), mirrored=True)
    if wings:
        t = np.linspace(0.0, 1.0, 7)
        lower = arm_height / height - 0.08
        wing = []
        reach = rng.uniform(0.16, 0.24) * np.sin(np.pi * (0.25 + 0.65 * t))
        for offset in (-0.03, 0.03):
            h = lower + (0.98 - lower) * t
            rear = frame.back_point(0.99, h)
            front = rear - np.stack([-0.03 * t, 0 * t, reach], -1)
            sheet = np.stack([rear, 0.5 * (rear + front), front], 0)
            wing.append(sheet + np.array([offset, 0, 0]))
        chair.mirrored("back", solid.slab(wing[0], wing[1]))
    base = _feet(rng, chair, half, depth / 2, low)
    chair.keypoint("seat_centre", (0, seat, 0))
    chair.keypoint("seat_front", (inner / 2, seat, -depth / 2), mirrored=True)
    chair.keypoint("back_top", frame.back_point(1.0, 1.0).tolist(), mirrored=True)
    chair.keypoint("back_top_centre", frame.back_point(0.0, 1.0).tolist())
    return f"{base}/{arm}/{'wing' if wings else 'upholstered'}"


def tub(rng: Rng, chair: Assembly) -> str:
    """Barrel chair: one wall bent around the seat, high at the back and lower at the arms."""
    width, depth = rng.uniform(0.58, 0.74), rng.uniform(0.55, 0.68)
    seat, wall = rng.uniform(0.38, 0.46), rng.uniform(0.03, 0.11)
    arm_height = rng.uniform(0.16, 0.26)
    back_height = arm_height + rng.uniform(0.0, 0.28)
    low = rng.uniform(0.08, 0.28)
    thick = rng.uniform(0.08, 0.14)
    flare = rng.uniform(0.0, 0.1)
    count = 41
    t = np.linspace(-1, 1, count)
    power = rng.uniform(2.0, 3.2)
    angle = t * np.pi / 2
    c, s = np.cos(angle), np.sin(angle)
    x = np.sign(s) * np.abs(s) ** (2 / power) * width / 2
    z = c ** (2 / power) * depth * 0.55 - depth * 0.05
    straight = rng.uniform(0.2, 0.42) * depth  # both ends run straight forward
    x = np.concatenate([[x[0]], x, [x[-1]]])
    z = np.concatenate([[-straight], z, [-straight]])
    t = np.concatenate([[-1.25], t, [1.25]])
    plan = np.stack([x, z], -1)
    tangent = np.gradient(plan, axis=0)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    outward = np.stack([-tangent[:, 1], tangent[:, 0]], -1)
    outward *= np.sign((outward * plan).sum(1, keepdims=True))
    blend = 1 / (1 + np.exp((np.abs(t) - rng.uniform(0.45, 0.65)) / rng.uniform(0.06, 0.16)))
    top = seat + arm_height + (back_height - arm_height) * blend
    rows = np.linspace(0, 1, 6)
    y = low + rows[None] * (top - low)[:, None]
    lean = flare * rows**2
    inner, outer = [], []
    edge = np.sqrt(1 - np.clip((rows - 0.7) / 0.3, 0, 1) ** 3 * 0.7)
    for sheet, sign in ((inner, -0.5), (outer, 0.5)):
        offset = sign * wall * edge
        xz = plan[:, None] + outward[:, None] * (offset + lean)[None, :, None]
        sheet.append(np.stack([xz[..., 0], y, xz[..., 1]], -1))
    cells = np.full((len(t) - 1, len(rows) - 1), "back", dtype=object)
    cells[:12] = cells[-12:] = "arm"
    chair.add_pieces(*solid.labelled_slab(inner[0], outer[0], cells.astype(str)))
    front = np.array([[-width / 2 + 0.005, -straight - 0.03], [width / 2 - 0.005, -straight - 0.03]])
    outline = np.concatenate([front, plan[::3]])
    edge_radius = rng.uniform(0.015, 0.04)
    chair.add(
        "seat",
        solid.cushion(outline, seat - thick, seat, edge_radius + 0.01, edge_radius, rng.uniform(0, 0.02)),
    )
    hull = np.concatenate([np.insert(outline, 1, h, axis=1) for h in (low + 0.005, seat - thick + 0.02)])
    chair.add("seat", solid.hull(hull))
    kind = pick(rng, {"feet": 0.7, "disc": 0.3})
    if kind == "feet":
        base = _feet(rng, chair, width / 2 - 0.04, min(straight, depth / 2) - 0.0, low)
    else:
        frame = Frame(width, 1, depth, low + 0.1, 0.1, back_height, 0, 0, 1, 0)
        base = bases.pedestal(rng, chair, frame)
    chair.keypoint("seat_centre", (0, seat, 0))
    chair.keypoint("seat_front", (width / 2, seat, -straight), mirrored=True)
    chair.keypoint("back_top_centre", outer[0][len(t) // 2, -1].tolist())
    chair.keypoint("arm_front", outer[0][-1, -1].tolist(), mirrored=True)
    return f"{base}/tub/tub"
