"""Bytes that a step needs on a card, or on the host where it has none: the most of what it holds at any time.

Rows are as long as they may be. What is kept and copied is measured (shape.Style, tests/unit/test_cost_*.py); a GB is 10^9 bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from opd_steps.graph.checks.processes import processes
from opd_steps.graph.checks.trainers import by_verl, training_gpus
from opd_steps.graph.cost import known
from opd_steps.graph.cost.acting import acting
from opd_steps.graph.cost.drawing import drawing
from opd_steps.graph.cost.eyes import Eyes
from opd_steps.graph.cost.flow import Flow
from opd_steps.graph.cost.needs import Needs, Parts
from opd_steps.graph.cost.rows import length_of
from opd_steps.graph.cost.seconds import seconds
from opd_steps.graph.cost.shape import ANY

if TYPE_CHECKING:
    from opd_steps.graph.node import GraphNode

GB = 1e9


@dataclass(frozen=True)
class Fit:
    """Bytes of each part at the time when most is needed, what happens then, and the seconds of all steps, where they are known."""

    parts: Parts
    phase: str
    seconds: float | None

    @property
    def total(self) -> float:
        return sum(self.parts.values())

    def __str__(self) -> str:
        parts = sorted(self.parts.items(), key=lambda item: -item[1])
        shown = ", ".join(f"{name} {size / GB:.3g}" for name, size in parts if size >= self.total / 100)
        return f"{self.total / GB:.3g} GB while {self.phase}: {shown}"


def fit(node: GraphNode) -> Fit | str | None:
    """What a node's step needs of each card; in words, why nobody knows; None where it runs no models."""
    needs = needs_of(node)
    return judged(needs) if isinstance(needs, Needs) else needs


def needs_of(node: GraphNode) -> Needs | str | None:
    """What is to be added up; in words, why nobody knows it; None where the node runs no models."""
    work = node.says.work(node)
    if work is None:
        return None
    shapes = {role: known.shape(node, role) for role in dict.fromkeys(work.roles)}
    if unknown := [found for found in shapes.values() if isinstance(found, str)]:
        return unknown[0]
    if any(isinstance(found, Flow) for found in shapes.values()):
        return drawing(node, work, shapes)
    if any(isinstance(found.tower, Eyes) for found in shapes.values()):
        return acting(node, work, shapes)
    length = length_of(node).seeing(max((known.seen(node, role, s) for role, s in shapes.items()), default=0))
    length = length.within(min((s.longest for s in shapes.values()), default=ANY))
    if by_verl(node.options):  # a teacher's vLLM has GPUs of its own there
        work = replace(work, served=tuple(s for s in work.served if s.key == "engine"))
    ranks = training_gpus(node.options) if by_verl(node.options) else processes(node)
    return Needs(node.options, work, shapes, length, ranks)


def judged(needs: Needs) -> Fit:
    """The phase that needs most."""
    moments = {**needs.loading(), **needs.sampling(), **needs.asking(), **needs.looking(), **needs.reading()}
    moments = moments or {"sampling": Parts()}  # by an engine, which is held
    held = needs.held()
    phase = max(moments, key=lambda name: sum(moments[name].values()))
    parts = {name: size for name, size in (held + moments[phase]).items() if size}
    return Fit(parts, phase, seconds(needs))
