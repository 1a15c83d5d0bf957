"""Models as points between two figures, with the Pareto front of those that are better up and, on the x axis, to the left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

from opd_steps.report.axes import LARGE, Axis, Frame, look, number

RADIUS = 5
LINE = 12  # height of a label
LABELS = 14  # points beyond so many are named in their tooltips alone


@dataclass(frozen=True)
class Point:
    """A model with the number of its line in the charts. One that is no variant of the method stands for comparison."""

    name: str
    x: float
    y: float
    half: float | None  # half of the 95 % interval of y
    i: int
    is_variant: bool


def scatter(points: Sequence[Point], x: str, y: str, front: bool = False) -> str:
    """SVG of the points, "" of fewer than two. `front`: draw the Pareto front of the variants (x is a cost)."""
    if len(points) < 2:
        return ""
    ends = [end for p in points for end in (p.y - (p.half or 0), p.y + (p.half or 0))]
    frame = Frame(Axis.over([p.x for p in points], x, pad=0.1), Axis.over(ends, y, pad=0.06), *LARGE)
    best = pareto([p for p in points if p.is_variant]) if front else []
    steps = [f"M{frame.px(best[0].x):.0f},{frame.py(best[0].y):.0f}"] if best else []
    steps += [f"H{frame.px(b.x):.0f}V{frame.py(b.y):.0f}" for _, b in pairwise(best)]
    drawn = f'<path class="front" d="{"".join(steps)}"/>' if len(best) > 1 else ""
    named = points if len(points) <= LABELS else [p for p in points if not p.is_variant or p in best]
    rows = _rows(frame, named)
    drawn += "".join(_point(frame, p, rows.get(p.name), y) for p in points)
    said = "; ".join(f"{p.name}: {number(p.x)}, {number(p.y)}" for p in points)
    edge = f"; on the Pareto front: {', '.join(p.name for p in best)}" if best else ""
    return frame.draw(drawn, f"{y} against {x}: {said}{edge}")


def pareto(points: Sequence[Point]) -> list[Point]:
    """Those that no other one beats at equal or lower x, by x."""
    found: list[Point] = []
    for point in sorted(points, key=lambda p: (p.x, -p.y)):
        if not found or point.y > found[-1].y:
            found.append(point)
    return found


def _rows(frame: Frame, points: Sequence[Point]) -> dict[str, float]:
    """Where each label stands: beside its point, or as far below the one above as a line is high."""
    placed: list[tuple[float, float, float]] = []  # left, right, y
    rows: dict[str, float] = {}
    for p in sorted(points, key=lambda p: frame.py(p.y)):
        left, y = frame.px(p.x) + RADIUS, frame.py(p.y) + 4
        right = left + 6.2 * len(p.name) + 8
        for start, stop, other in sorted(placed, key=lambda each: each[2]):
            if start < right and left < stop and abs(other - y) < LINE:
                y = other + LINE
        placed.append((left, right, y))
        rows[p.name] = y
    return rows


def _point(frame: Frame, p: Point, row: float | None, y: str) -> str:
    x, centre = frame.px(p.x), frame.py(p.y)
    bar = f'<path class="range" d="M{x:.0f},{frame.py(p.y - p.half):.0f}V{frame.py(p.y + p.half):.0f}"/>' if p.half else ""
    # a label never leaves the chart
    flip = x + RADIUS + 6.2 * len(p.name) > LARGE[0] - 4
    place = f'x="{x - RADIUS - 4:.0f}" text-anchor="end"' if flip else f'x="{x + RADIUS + 4:.0f}"'
    text = f'<text class="name" {place} y="{row:.0f}">{escape(p.name)}</text>' if row is not None else ""
    half = f" ± {number(p.half, 2)}" if p.half else ""
    tip = f"<title>{escape(f'{p.name}: {y} {number(p.y)}{half} at {number(p.x)}')}</title>"
    kind = f"{look(p.i)} s{p.i}" + " other" * (not p.is_variant)
    circle = f'<circle class="dot" cx="{x:.0f}" cy="{centre:.0f}" r="{RADIUS}"/>'
    return f'<g class="point {kind}" data-v="{escape(p.name.partition(":")[0])}">{bar}{circle}{text}{tip}</g>'
