"""The milestones that a training keeps, checked: each has a name of its own and comes before the training's end."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from opd_steps.errors import UserError

if TYPE_CHECKING:
    from opd_steps.graph.node import GraphNode

_NAME = re.compile(r"[A-Za-z0-9]+(_[A-Za-z0-9]+)*")


def check_milestones(node: GraphNode, where: str) -> None:
    """Raises UserError for a milestone that nobody could read, or that is the finished model itself."""
    options = node.options
    for name, step in options.get("keep", {}).items():
        at = f"{where}.keep.{name}"
        if not _NAME.fullmatch(name):
            raise UserError(at, "a name is made of letters, digits and single underscores between them")
        if name in options.get("learners", ()):
            raise UserError(at, "a learner of this node has this name")
        if step >= options["steps"]:
            raise UserError(
                at, f"expected a step before the last, below {options['steps']}, found {step}; the last is the node"
            )
