"""Learning curves as small SVG charts: a line is the mean over seeds, a band their smallest and largest value."""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape
from statistics import fmean

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 340, 190, 50, 8, 8, 24
SKIPPED = "train/skipped"  # the curve that counts updates which were left out (loop.guard)
POINTS = 150  # of one line; longer curves are averaged over neighbouring steps
COLOURS = ("#2a78d6", "#e0761a", "#169c6d", "#c23f86", "#6a55c9", "#b58900", "#d0433f", "#4b7f93")
_STANDALONE = (
    "<style>text{font:11px sans-serif;fill:#555}.grid{stroke:#e3e3e3}.axis{stroke:#999}"
    + "".join(f".v{i} .line{{stroke:{c}}}.v{i} .band{{fill:{c}}}" for i, c in enumerate(COLOURS))
    + ".line{fill:none;stroke-width:1.8}.band{opacity:.18}.head{font-weight:bold;fill:#222}</style>"
)


@dataclass(frozen=True)
class Series:
    """One variant's curve: per point the step, the mean over seeds, and the smallest and largest seed."""

    name: str
    steps: list[float]
    mean: list[float]
    low: list[float]
    high: list[float]
    seeds: int


def series(name: str, metric: str, runs: list[list[dict]]) -> Series | None:
    """The curve of `metric` over the rows of several seeds; None where no row has a finite value of it (see `gaps`)."""
    by_seed = [{row["step"]: row[metric] for row in rows if math.isfinite(row.get(metric, math.nan))} for rows in runs]
    by_seed = [values for values in by_seed if values]
    steps = sorted({step for values in by_seed for step in values})
    if not steps:
        return None
    size = math.ceil(len(steps) / POINTS)
    bins = [steps[i : i + size] for i in range(0, len(steps), size)]
    points = [[fmean(found) for values in by_seed if (found := [values[s] for s in b if s in values])] for b in bins]
    means = [fmean(p) for p in points]
    return Series(name, [fmean(b) for b in bins], means, [min(p) for p in points], [max(p) for p in points], len(by_seed))


def gaps(metric: str, rows: list[dict]) -> str:
    """Where a run's curve has no finite value although it should, "no value at steps 7-9, 12", or "".

    That is where its update was left out (train/skipped), or where the file holds nan or inf. A metric that most other steps lack too
    is not drawn at every step.
    """
    others = [row for row in rows if not row.get(SKIPPED)]
    usual = 2 * sum(metric in row for row in others) > len(others)
    lacks = lambda row: not math.isfinite(row[metric]) if metric in row else usual and row.get(SKIPPED)
    found = [row["step"] for row in rows if lacks(row)]
    if not found:
        return ""
    starts = [i for i, step in enumerate(found) if i == 0 or step != found[i - 1] + 1]
    runs = [found[i:j] for i, j in zip(starts, [*starts[1:], len(found)], strict=True)]
    parts = [f"{run[0]}-{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs]
    return f"no value at step{'s' * (len(found) > 1)} {', '.join(parts[:20])}{' ...' * (len(parts) > 20)}"


def chart(lines: dict[int, Series], label: str) -> str:
    """SVG of several series by colour number, "" of none; the page colours the classes `v<number>`."""
    if not lines:
        return ""
    xs = [x for line in lines.values() for x in line.steps]
    x0, x1 = min(xs), max(xs)
    y0, y1 = min(min(line.low) for line in lines.values()), max(max(line.high) for line in lines.values())
    pad = 0.05 * (y1 - y0) or 0.05 * abs(y1) or 0.05
    y0, y1, x1 = y0 - pad, y1 + pad, x1 if x1 > x0 else x0 + 1
    px = lambda x: LEFT + (x - x0) / (x1 - x0) * (WIDTH - LEFT - RIGHT)
    py = lambda y: HEIGHT - BOTTOM - (y - y0) / (y1 - y0) * (HEIGHT - TOP - BOTTOM)
    parts = [f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img" ']
    parts.append(f'aria-label="{escape(label)}" xmlns="http://www.w3.org/2000/svg">')
    for tick in ticks(y0, y1, 5):
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{py(tick):.1f}" y2="{py(tick):.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{py(tick) + 3.5:.1f}" text-anchor="end">{number(tick)}</text>')
    for tick in ticks(x0, x1, 5):
        parts.append(f'<text x="{px(tick):.1f}" y="{HEIGHT - 8}" text-anchor="middle">{number(tick)}</text>')
    base = HEIGHT - BOTTOM
    parts.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{base}" y2="{base}"/>')
    for index, line in lines.items():
        at = lambda ys, line=line: [f"{px(x):.1f},{py(y):.1f}" for x, y in zip(line.steps, ys, strict=True)]
        band = f'<polygon class="band" points="{" ".join(at(line.high) + at(line.low)[::-1])}"/>' if line.seeds > 1 else ""
        path = f'<polyline class="line" points="{" ".join(at(line.mean))}"/>'
        if len(line.steps) == 1:
            path = f'<circle class="line" cx="{px(line.steps[0]):.1f}" cy="{py(line.mean[0]):.1f}" r="2.5"/>'
        tip = f"{line.name}: {number(line.mean[0])} at first, {number(line.mean[-1])} at last; {line.seeds} seeds"
        dash = f" d{index // len(COLOURS)}" if index >= len(COLOURS) else ""
        parts.append(f'<g class="v{index % len(COLOURS)}{dash} s{index}">{band}{path}<title>{escape(tip)}</title></g>')
    return "".join(parts) + "</svg>"


def standalone(rows: list[dict], title: str) -> str:
    """All curves of one run as one SVG file with its own colours, for viewers outside the page."""
    names = sorted({key for row in rows for key in row} - {"step"})
    across, tall = 3, HEIGHT + 26
    width, height = across * WIDTH, math.ceil(len(names) / across) * tall + 30
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}">{_STANDALONE}']
    parts.append(f'<rect width="100%" height="100%" fill="#fff"/><text class="head" x="12" y="20">{escape(title)}</text>')
    for i, name in enumerate(names):
        line, lacks = series(name, name, [rows]), gaps(name, rows)
        inner, head = chart({0: line} if line else {}, name), f"{name} ({lacks})" if lacks else name
        x, y = i % across * WIDTH, i // across * tall + 30
        parts.append(f'<g transform="translate({x} {y})"><text class="head" x="{LEFT}" y="14">{escape(head)}</text>')
        parts.append(f'<g transform="translate(0 20)">{inner}</g></g>')
    return "".join(parts) + "</svg>"


def ticks(low: float, high: float, about: int) -> list[float]:
    """Round numbers within [low, high], steps of 1, 2 or 5 times a power of ten, at most about + 1 of them."""
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]


def number(value: float | None, digits: int = 4) -> str:
    """A figure for people: significant digits, a true minus sign, k and M for thousands and millions; nan and inf as they are."""
    if value is None:
        return "–"
    if not math.isfinite(value):
        return str(value)
    size = abs(value)
    if size >= 1e6:
        text = f"{value / 1e6:.3g}M"
    elif size >= 1e4:
        text = f"{value / 1e3:.3g}k"
    elif size == 0 or size >= 1e-4:
        text = f"{value:.{digits}g}"
    else:
        text = f"{value:.1e}"
    return text.replace("-", "−")
