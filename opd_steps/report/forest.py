"""A claim's effect and interval as a small inline SVG: the claimed side is shaded, the dot should lie in it."""

from __future__ import annotations

WIDTH, HEIGHT, MARGIN = 132, 22, 6


def forest(effect: float | None, interval: list[float] | None, op: str) -> str:
    """SVG of an effect (left minus right) around zero, scaled to its own size; "" where nothing was measured."""
    if effect is None:
        return ""
    low, high = interval or (effect, effect)
    reach = max(abs(low), abs(high), abs(effect)) * 1.15 or 1.0
    at = lambda value: WIDTH / 2 + value / reach * (WIDTH / 2 - MARGIN)
    side = WIDTH / 2 if op == ">" else 0
    bar = f'<line class="range" x1="{at(low):.1f}" x2="{at(high):.1f}" y1="11" y2="11"/>' if interval else ""
    return (
        f'<svg class="forest" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" aria-hidden="true">'
        f'<rect class="claimed" x="{side:.0f}" y="1" width="{WIDTH / 2:.0f}" height="20"/>'
        f'<line class="zero" x1="{WIDTH / 2:.0f}" x2="{WIDTH / 2:.0f}" y1="1" y2="21"/>'
        f'{bar}<circle class="effect" cx="{at(effect):.1f}" cy="11" r="4"/></svg>'
    )
