"""What a step of robots' policies holds at a time (as needs.py), and how long it takes: an episode is as many rows as it has looks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil
from typing import TYPE_CHECKING

from opd_steps.graph.checks.processes import processes
from opd_steps.graph.cost.drawing import decisions
from opd_steps.graph.cost.needs import Needs, Parts
from opd_steps.graph.cost.operations import attention, products
from opd_steps.graph.cost.rows import Length

if TYPE_CHECKING:
    from opd_steps.graph.cost.shape import Shape
    from opd_steps.graph.cost.work import Work
    from opd_steps.graph.node import GraphNode

TOLD = 64  # tokens of an instruction with the words around it
LIVE = 6  # tensors [decisions, bins] at most


def acting(node: GraphNode, work: Work, shapes: dict[str, Shape]) -> Acting:
    """What is to be added up; every look is at an image of its own, and all of an episode are one pass's."""
    families = [node.maker_of(role).options["family"] for role in shapes]
    tokens, bins = families[0]["chunk"] * families[0]["dims"], families[0]["bins"]
    looks, seen = max(1, decisions(node) // tokens), max(shape.tower.patches for shape in shapes.values())
    read = replace(work.read, rows=work.read.rows * looks, total=work.read.total * looks)
    length = Length(TOLD + seen, tokens, TOLD + seen + tokens, seen)
    return Acting(node.options, replace(work, read=read), shapes, length, processes(node), looks, bins)


@dataclass(frozen=True)
class Acting(Needs):
    """length   of a look: image and instruction, tokens of what is done
    looks    of an episode, at most; bins of a decision
    """

    looks: int = 1
    bins: int = 1

    def _decoding(self, shape: Shape) -> Parts:
        """All tokens of a look at once, and nothing of it is kept for another."""
        rows = min(self.work.at_once, ceil(self.work.drawn / self.ranks) or self.work.at_once)
        return Parts(activations=self._through(shape, rows, self.length.total, self.compute))

    def reading(self) -> dict[str, Parts]:
        """Those that are evaluated act, and nothing more."""
        if "suite" not in self.options:
            return super().reading()
        shape = self.shapes[self.work.still[0].role]
        rows = self.work.read.rows // self.looks
        return {"acting": Parts(activations=self._through(shape, rows, self.length.total, self.compute))}

    def _chunk(self, shape: Shape, decisions: int) -> float:
        """Logits of bins alone, those of a pass together."""
        return decisions * self.bins * 4 * LIVE

    def operations(self) -> float:
        """Of a step, on a process, without the simulator's."""
        work, length = self.work, self.length

        def one(role: str) -> float:
            shape = self.shapes[role]
            pictures = 2 * shape.tower.linear * length.seen
            return length.total * (products(shape, 1, 0) + attention(shape, length.total)) + pictures

        drawn = ceil(work.drawn / self.ranks) * self.looks * one(work.samples) if work.samples else 0.0
        rows = self.learned if work.trains else 0
        return drawn + rows * (sum(self.forwards * one(role) for role in work.trains) + sum(one(m.role) for m in work.still))
