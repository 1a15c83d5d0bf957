"""The frame that every chart is drawn in: axes with units, round ticks, and figures as people read them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 340, 204, 50, 8, 20, 36
LARGE = (520, 300)
LIGHT = ("#1746d1", "#c97f00", "#2a9bb8", "#a566ee", "#5c2300", "#361e5b", "#e0475a")
DARK = ("#8fabff", "#ffc070", "#2fe0bf", "#d04aa5", "#d9ee3a", "#e0384c", "#a05cf5")
"""Told apart with and without colour blindness (tested), at 3:1 and more on the page. Line number i also has dash i % 3: as 7 and 3 have
no common divisor, 21 lines are told apart."""
DASHES = 3


@dataclass(frozen=True)
class Axis:
    """From `low` to `high`; `title` says what is shown, in which unit."""

    low: float
    high: float
    title: str = ""
    ticks: tuple[tuple[float, str], ...] = ()

    @classmethod
    def over(cls, values: Sequence[float], title: str = "", pad: float = 0.0) -> Axis:
        """Over finite values, with a share of their range more at each end, and round ticks."""
        low, high = min(values), max(values)
        extra = pad * (high - low) or (pad and (pad * abs(high) or pad))
        low, high = low - extra, high + extra
        high = high if high > low else low + 1
        return cls(low, high, title, tuple((tick, number(tick)) for tick in ticks(low, high, 5)))

    def share(self, value: float) -> float:
        return (value - self.low) / (self.high - self.low)


@dataclass(frozen=True)
class Frame:
    """An SVG chart of two axes; `px`, `py` place a value in it."""

    x: Axis
    y: Axis
    width: int = WIDTH
    height: int = HEIGHT

    def px(self, value: float) -> float:
        return LEFT + self.x.share(value) * (self.width - LEFT - RIGHT)

    def py(self, value: float) -> float:
        return self.height - BOTTOM - self.y.share(value) * (self.height - TOP - BOTTOM)

    def draw(self, inner: str, label: str) -> str:
        """The chart around what is drawn inside; `label`: all of it in words, for who does not see it."""
        right, base = self.width - RIGHT, self.height - BOTTOM
        parts = [f'<svg class="chart" viewBox="0 0 {self.width} {self.height}" width="{self.width}" height="{self.height}" ']
        parts.append(f'role="img" aria-label="{escape(label)}" xmlns="http://www.w3.org/2000/svg">')
        for value, text in self.y.ticks:
            y = self.py(value)
            parts.append(f'<path class="grid" d="M{LEFT},{y:.0f}H{right}"/>')
            parts.append(f'<text x="{LEFT - 6}" y="{y + 3.5:.0f}" text-anchor="end">{text}</text>')
        for value, text in self.x.ticks:
            parts.append(f'<text x="{self.px(value):.0f}" y="{base + 15}" text-anchor="middle">{text}</text>')
        parts.append(f'<path class="axis" d="M{LEFT},{base}H{right}"/>')
        parts.append(f'<text class="unit" x="{LEFT - 6}" y="10">{escape(self.y.title)}</text>' if self.y.title else "")
        parts.append(
            f'<text class="unit" x="{right}" y="{base + 30}" text-anchor="end">{escape(self.x.title)}</text>'
            if self.x.title
            else ""
        )
        return "".join(parts) + inner + "</svg>"


def look(i: int) -> str:
    """Classes of line number i: its colour and its dash."""
    return f"v{i % len(LIGHT)} d{i % DASHES}"


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
