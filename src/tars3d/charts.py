"""Line and bar charts as SVG, for pages that need neither a script nor a plotting library. Called by `report` and `bench`."""

import math
from collections.abc import Sequence
from html import escape

import numpy as np

WIDTH, HEIGHT = 480, 240
LEFT, RIGHT, TOP, BOTTOM = 52, 10, 12, 24
Values = Sequence[float] | np.ndarray
"""Numbers of a curve; NaN leaves a gap."""
MOST_POINTS = 600  # more than there are pixels would only make the page heavy


def line_chart(steps: Values, values: Values, *, stages: Sequence[tuple[float, str]] = ()) -> str:
    """An SVG of one curve, its values on a logarithmic axis, with a dashed line at the first step of each stage.

    Values that are not finite or not positive interrupt the curve and are counted in words: a NaN must not vanish from a report.
    """
    x, y = np.asarray(steps, dtype=np.float64), np.asarray(values, dtype=np.float64)
    usable = np.isfinite(x) & np.isfinite(y) & (y > 0)
    if not usable.any():
        return f"<p>no finite values ({len(y)} points)</p>"
    shown = np.log10(np.where(usable, y, 1))
    x_low, x_high = float(x[usable].min()), float(x[usable].max())
    y_low, y_high = float(shown[usable].min()), float(shown[usable].max())
    if y_high - y_low < 1e-12 * max(1.0, abs(y_low)):
        y_low, y_high = y_low - 0.5, y_high + 0.5
    x_high = max(x_high, x_low + max(1.0, 1e-6 * abs(x_low)))

    def across(value):
        return LEFT + (value - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT)

    def down(value):
        return HEIGHT - BOTTOM - (value - y_low) / (y_high - y_low) * (HEIGHT - TOP - BOTTOM)

    parts = []
    rules = _ticks(y_low, y_high, True)
    for tick, label in zip(rules, _labels([10**tick for tick in rules]), strict=True):
        position = f"{down(tick):.1f}"
        parts.append(f'<line class="rule" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{position}" y2="{position}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{position}" text-anchor="end" dy="4">{label}</text>')
    marks = _ticks(x_low, x_high, False)
    for tick, label in zip(marks, _labels(marks), strict=True):
        parts.append(f'<text x="{across(tick):.1f}" y="{HEIGHT - 7}" text-anchor="middle">{label}</text>')
    for k, (step, name) in enumerate(stages):
        if x_low <= step <= x_high:
            position = f"{across(step):.1f}"
            parts.append(
                f'<line class="stage" x1="{position}" x2="{position}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'
                f'<text x="{position}" y="{TOP + 8 + 12 * (k % 3)}" dx="4">{escape(name)}</text>'
            )
    for run in _runs(usable):
        run = _thin(shown, run)
        if len(run) == 1:
            parts.append(f'<circle class="curve" cx="{across(x[run[0]]):.1f}" cy="{down(shown[run[0]]):.1f}" r="2"/>')
        else:
            points = " ".join(f"{across(x[i]):.1f},{down(shown[i]):.1f}" for i in run)
            parts.append(f'<polyline class="curve" points="{points}"/>')
    last = y[usable][-1]
    lost = int((~usable).sum())
    words = f"last {_number(last)}" + (f"; {lost} of {len(y)} values are not drawable" if lost else "")
    svg = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">{"".join(parts)}</svg>'
    return f"{svg}<figcaption>{words}, logarithmic</figcaption>"


def _runs(usable: np.ndarray) -> list[np.ndarray]:
    """Index ranges of consecutive usable values."""
    index = np.flatnonzero(usable)
    return np.split(index, np.flatnonzero(np.diff(index) > 1) + 1)


def _thin(values: np.ndarray, run: np.ndarray) -> np.ndarray:
    """At most MOST_POINTS indices, the lowest and highest of every bin among them, so that no spike is
    hidden.
    """
    if len(run) <= MOST_POINTS:
        return run
    kept = {int(run[0]), int(run[-1])}
    for part in np.array_split(run, MOST_POINTS // 2 - 1):
        kept |= {int(part[values[part].argmin()]), int(part[values[part].argmax()])}
    return np.array(sorted(kept))


def _ticks(low: float, high: float, log_scale: bool) -> list[float]:
    if log_scale and high - low >= 1:
        step = max(1, round((high - low) / 5))
        return [float(k) for k in range(math.ceil(low - 1e-9), math.floor(high + 1e-9) + 1, step)]
    rough = (high - low) / 4
    power = 10 ** math.floor(math.log10(rough))
    step = min((k * power for k in (1, 2, 2.5, 5, 10)), key=lambda size: abs(size - rough))
    first = math.ceil(low / step - 1e-9)
    return [k * step for k in range(first, math.floor(high / step + 1e-9) + 1)]


def _labels(values: Sequence[float]) -> list[str]:
    """Numbers of an axis, with as many digits as tell them apart."""
    found = [_number(value) for value in values]
    for digits in range(4, 12):
        if len(set(found)) == len(found):
            break
        found = [_number(value, digits) for value in values]
    return found


def _number(value: float, digits: int = 3) -> str:
    if value == 0:
        return "0"
    if abs(value) >= 1e6:
        return f"{value / 1e6:.{max(6, digits)}g}M"
    if abs(value) >= 1e4:
        return f"{value / 1e3:.{max(6, digits)}g}k"
    return f"{value:.{digits if abs(value) < 1e3 else max(4, digits)}g}"


def log_log_chart(panels: Sequence[tuple[str, dict[str, tuple[Values, Values]]]]) -> str:
    """A stand-alone SVG of panels below each other: a title, and curves by name, both axes logarithmic; values are positive."""
    colors, parts = ("#c0392b", "#2166ac", "#2a7f3f"), []
    for k, (title, curves) in enumerate(panels):
        top = k * (HEIGHT + 20)
        parts.append(f'<text x="{LEFT}" y="{top + 14}" font-weight="bold">{escape(title)}</text>')
        if not curves:
            continue
        x = np.concatenate([np.asarray(values, dtype=np.float64) for values, _ in curves.values()])
        y = np.concatenate([np.asarray(values, dtype=np.float64) for _, values in curves.values()])
        (x_low, x_high), (y_low, y_high) = ((np.log10(v.min()) - 0.05, np.log10(v.max()) + 0.05) for v in (x, y))

        def across(value, low=x_low, high=x_high):
            return LEFT + (np.log10(value) - low) / (high - low) * (WIDTH - LEFT - RIGHT)

        def down(value, low=y_low, high=y_high, top=top):
            return top + HEIGHT - BOTTOM - (np.log10(value) - low) / (high - low) * (HEIGHT - 2 * BOTTOM - TOP)

        for value in np.unique(x):
            at = f"{across(value):.1f}"
            parts.append(f'<text x="{at}" y="{top + HEIGHT - 7}" text-anchor="middle">{_number(value)}</text>')
        for tick in _ticks(y_low, y_high, True):
            at = f"{down(10**tick):.1f}"
            parts.append(f'<line stroke="#ddd" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at}" y2="{at}"/>')
            parts.append(f'<text x="{LEFT - 6}" y="{at}" dy="4" text-anchor="end">{_number(10**tick)}</text>')
        for number, (name, (xs, ys)) in enumerate(curves.items()):
            color = colors[number % len(colors)]
            points = " ".join(f"{across(a):.1f},{down(b):.1f}" for a, b in zip(xs, ys, strict=True))
            parts.append(f'<polyline fill="none" stroke="{color}" stroke-width="2" points="{points}"/>')
            place = f'x="{WIDTH - RIGHT}" y="{top + 14 + 14 * number}"'
            parts.append(f'<text {place} text-anchor="end" fill="{color}">{escape(name)}</text>')
    size = f'viewBox="0 0 {WIDTH} {len(panels) * (HEIGHT + 20)}" font-family="sans-serif" font-size="11"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>{"".join(parts)}</svg>\n'


def bar_chart(title: str, groups: Sequence[tuple[str, dict[str, float]]]) -> str:
    """A stand-alone SVG of horizontal bars from zero: groups below each other, a bar for each name in a group; values are not negative."""
    colors, bar, left = ("#2166ac", "#c0392b", "#888", "#2a7f3f"), 13, 230
    names = list(dict.fromkeys(name for _, values in groups for name in values))
    most = max([value for _, values in groups for value in values.values()] + [1e-9])
    parts = [f'<text x="8" y="16" font-weight="bold">{escape(title)}</text>']
    for k, name in enumerate(names):
        x = left + 110 * k
        parts.append(f'<rect x="{x}" y="25" width="10" height="10" fill="{colors[k % len(colors)]}"/>')
        parts.append(f'<text x="{x + 14}" y="34">{escape(name)}</text>')
    top = 46
    for label, values in groups:
        parts.append(f'<text x="{left - 8}" y="{top + 11}" text-anchor="end">{escape(label)}</text>')
        for name, value in values.items():
            width = (WIDTH - 60) * value / most
            color = colors[names.index(name) % len(colors)]
            parts.append(f'<rect x="{left}" y="{top + 1}" width="{width:.1f}" height="{bar - 2}" fill="{color}"/>')
            parts.append(f'<text x="{left + width + 5:.1f}" y="{top + 11}">{value:.3f}</text>')
            top += bar
        top += 8
    size = f'viewBox="0 0 {WIDTH + left} {top + 6}" font-family="sans-serif" font-size="11"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>{"".join(parts)}</svg>\n'
