"""The pipeline of a paper as an inline SVG: layers from left to right by depth, few crossings, every label readable."""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape
from itertools import pairwise
from statistics import fmean

HEIGHT, ROW, GAP, MARGIN = 38, 50, 54, 8
TEACHING = ("teacher", "teachers", "scores")  # first words of roles


@dataclass(eq=False)
class Box:
    """A node, or with an empty name the bend of an edge that crosses a layer."""

    name: str = ""
    kind: str = ""
    shared: bool = False  # with another paper
    note: str = ""  # tooltip
    href: str = ""
    marked: bool = False
    parents: list[tuple[str, Box]] = field(default_factory=list)  # (role, box)
    layer: int = 0
    x: float = 0.0
    y: float = 0.0
    width: float = 0.0
    neighbours: tuple[list[Box], list[Box]] = field(default_factory=lambda: ([], []))  # left, right

    def __post_init__(self):
        self.width = max(7.6 * len(self.name) + 10 * self.marked, 6.2 * len(self.kind)) + 24 if self.name else 0


def draw(boxes: list[Box]) -> str:
    """SVG of a DAG given in topological order; colours come from the page's classes `k-<kind>`."""
    chains = _route(boxes)
    layers: list[list[Box]] = [[] for _ in range(1 + max(b.layer for b in boxes))]
    for box in dict.fromkeys([*boxes, *(bend for chain in chains for bend in chain[1])]):
        layers[box.layer].append(box)
    _order(layers)
    width, height = _place(layers)
    edges = "".join(_edge(role, chain) for role, chain in chains)
    body = "".join(_node(box) for box in boxes)
    size = f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}"'
    return f'<svg class="dag" role="group" aria-label="pipeline: what is built from what" {size} xmlns="http://www.w3.org/2000/svg">{edges}{body}</svg>'


def _route(boxes: list[Box]) -> list[tuple[str, list[Box]]]:
    """Layers by longest path; each edge as (role, chain of boxes) with a bend in every layer between its ends."""
    chains = []
    for box in boxes:
        box.layer = 1 + max((parent.layer for _, parent in box.parents), default=-1)
    for box in boxes:
        for role, parent in box.parents:
            chain = [parent, *(Box(layer=i) for i in range(parent.layer + 1, box.layer)), box]
            for left, right in pairwise(chain):
                left.neighbours[1].append(right)
                right.neighbours[0].append(left)
            chains.append((role, chain))
    return chains


def _order(layers: list[list[Box]]) -> None:
    """Sort each layer by the mean position of its neighbours, to the right and back, a few times."""
    place = lambda layer: {id(b): i for i, b in enumerate(layer)}
    for _ in range(6):
        for side, sweep in ((0, range(1, len(layers))), (1, range(len(layers) - 2, -1, -1))):
            for i in sweep:
                seen, own = place(layers[i - 1 if side == 0 else i + 1]), place(layers[i])
                layers[i].sort(key=lambda b: fmean([seen[id(n)] for n in b.neighbours[side]] or [own[id(b)]]))


def _place(layers: list[list[Box]]) -> tuple[float, float]:
    """Coordinates: columns as wide as their widest box, rows pulled towards the neighbours' mean; returns the size."""
    x = float(MARGIN)
    for layer in layers:
        wide = max(b.width for b in layer)
        for i, box in enumerate(layer):
            box.width = box.width or wide  # edges bend between the columns, never behind a box
            box.x, box.y = x + (wide - box.width) / 2, i * ROW
        x += wide + GAP
    for _ in range(12):
        for layer in [*layers, *reversed(layers)]:
            wish = [fmean([n.y for n in (*b.neighbours[0], *b.neighbours[1])] or [b.y]) for b in layer]
            placed: list[float] = []
            for box, above, want in zip(layer, [None, *layer], wish, strict=False):
                room = 0 if above is None else (ROW if box.name and above.name else ROW * 0.6)
                placed.append(want if above is None else max(want, placed[-1] + room))
            shift = fmean(w - p for w, p in zip(wish, placed, strict=True))
            for box, y in zip(layer, placed, strict=True):
                box.y = y + shift
    everything = [b for layer in layers for b in layer]
    half = lambda b: MARGIN + (HEIGHT / 2 if b.name else 2)
    top = min(b.y - half(b) for b in everything)
    for box in everything:
        box.y -= top
    return x - GAP + MARGIN, max(b.y + half(b) for b in everything)


def _edge(role: str, chain: list[Box]) -> str:
    path = f"M{chain[0].x + chain[0].width:.1f},{chain[0].y:.1f}"
    for left, right in pairwise(chain):
        start, bend = left.x + left.width, (right.x - left.x - left.width) / 2
        path += f"C{start + bend:.1f},{left.y:.1f} {right.x - bend:.1f},{right.y:.1f} {right.x:.1f},{right.y:.1f}"
        path += "" if right.name else f"h{right.width:.1f}"
    style = "edge teaching" if role.split(".")[0] in TEACHING else "edge"
    title = escape(f"{chain[0].name} is the {role} of {chain[-1].name}")
    return f'<path class="{style}" d="{path}"><title>{title}</title></path>'


def _node(box: Box) -> str:
    top = box.y - HEIGHT / 2
    dot = f'<circle class="mark" cx="{box.x + box.width - 9:.1f}" cy="{top + 9:.1f}" r="3.5"/>' if box.marked else ""
    return (
        f'<a href="{escape(box.href)}"><g class="box k-{escape(box.kind)}{" shared" * box.shared}">'
        f"<title>{escape(box.note)}</title>"
        f'<rect x="{box.x:.1f}" y="{top:.1f}" width="{box.width:.1f}" height="{HEIGHT}" rx="6"/>'
        f'<rect class="stripe" x="{box.x:.1f}" y="{top + 6:.1f}" width="4" height="{HEIGHT - 12}" rx="2"/>'
        f'<text class="name" x="{box.x + 13:.1f}" y="{box.y - 3:.1f}">{escape(box.name)}</text>'
        f'<text class="kind" x="{box.x + 13:.1f}" y="{box.y + 12:.1f}">{escape(box.kind)}</text>{dot}</g></a>'
    )
