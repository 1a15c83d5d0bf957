"""Learning curves as small SVG charts: a line is the mean over seeds, a band their smallest and largest value."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from statistics import fmean

from opd_steps.report.axes import HEIGHT, LEFT, LIGHT, WIDTH, Axis, Frame, look, number

SKIPPED = "train/skipped"  # the curve that counts updates which were left out (loop.guard)
POINTS = 100  # of one line; longer curves are averaged over neighbouring steps
_STANDALONE = (
    "<style>text{font:11px sans-serif;fill:#555}.grid{stroke:#e3e3e3}.axis{stroke:#999}"
    + "".join(f".v{i} .line{{stroke:{c}}}.v{i} .band{{fill:{c}}}" for i, c in enumerate(LIGHT))
    + ".line{fill:none;stroke-width:3.6}.band{opacity:.18}.head{font-weight:bold;fill:#222}</style>"
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


def chart(
    lines: dict[int, Series],
    label: str,
    y: str = "",
    x: str = "step",
    at: Sequence[tuple[float, str]] = (),
    size: tuple[int, int] = (WIDTH, HEIGHT),
) -> str:
    """SVG of several series by their number, "" of none; the page colours the classes of `look`.

    label, x, y   what is shown; titles of the axes, with units
    at            ticks of the x axis, where they are not to be round numbers
    size          width and height
    """
    if not lines:
        return ""
    seen = list(lines.values())
    across = Axis.over([value for line in seen for value in line.steps], x)
    across = Axis(across.low, across.high, x, tuple(at)) if at else across
    up = Axis.over([value for line in seen for value in (*line.low, *line.high)], y, pad=0.05)
    frame = Frame(across, up, *size)
    said = "; ".join(f"{line.name} from {number(line.mean[0])} to {number(line.mean[-1])}" for line in seen)
    return frame.draw("".join(_line(frame, i, line) for i, line in lines.items()), f"{label}, by {x}: {said}")


def _line(frame: Frame, index: int, line: Series) -> str:
    """In half pixels, as whole numbers: a third of the page's bytes are these."""
    at = lambda ys: [f"{2 * frame.px(x):.0f},{2 * frame.py(y):.0f}" for x, y in zip(line.steps, ys, strict=True)]
    band = f'<polygon class="band" points="{" ".join(at(line.high) + at(line.low)[::-1])}"/>' if line.seeds > 1 else ""
    path = f'<polyline class="line" points="{" ".join(at(line.mean))}"/>'
    if len(line.steps) == 1:
        path = f'<circle class="line" cx="{2 * frame.px(line.steps[0]):.0f}" cy="{2 * frame.py(line.mean[0]):.0f}" r="5"/>'
    tip = f"{line.name}: {number(line.mean[0])} at first, {number(line.mean[-1])} at last; {line.seeds} seed{'s' * (line.seeds > 1)}"
    where = f'class="{look(index)} s{index}" data-v="{escape(line.name)}" transform="scale(.5)"'
    return f"<g {where}>{band}{path}<title>{escape(tip)}</title></g>"


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
