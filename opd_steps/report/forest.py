"""A claim's effect and interval as a small inline SVG: what is claimed is shaded, the dot should lie in it."""

from __future__ import annotations

from opd_steps.findings.claims import Op, borders

WIDTH, HEIGHT, MARGIN = 132, 22, 6


def forest(effect: float | None, interval: list[float] | None, op: Op, margin: float | None) -> str:
    """SVG of an effect (left minus right) around zero, scaled to its own size; "" where nothing was measured."""
    if effect is None:
        return ""
    low, high = interval or (effect, effect)
    ends = borders(op, margin)
    reach = max(map(abs, (low, high, effect, *ends))) * 1.15 or 1.0
    at = lambda value: WIDTH / 2 + value / reach * (WIDTH / 2 - MARGIN)
    first, last = (at(ends[0]), at(ends[1])) if op == "=" else (at(ends[0]), WIDTH) if op[0] == ">" else (0, at(ends[0]))
    bar = f'<line class="range" x1="{at(low):.1f}" x2="{at(high):.1f}" y1="11" y2="11"/>' if interval else ""
    return (
        f'<svg class="forest" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" aria-hidden="true">'
        f'<rect class="claimed" x="{first:.0f}" y="1" width="{last - first:.0f}" height="20"/>'
        f'<line class="zero" x1="{WIDTH / 2:.0f}" x2="{WIDTH / 2:.0f}" y1="1" y2="21"/>'
        f'{bar}<circle class="effect" cx="{at(effect):.1f}" cy="11" r="4"/></svg>'
    )
