"""Whether a node's step fits the card that it names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opd_steps.errors import UserError
from opd_steps.graph.cost.memory import GB, fit

if TYPE_CHECKING:
    from opd_steps.graph.node import GraphNode


def check_fits(node: GraphNode, where: str) -> None:
    """Raises UserError where the estimate exceeds a GPU's memory. Nodes without a GPU, and models whose size nobody knows, pass."""
    asked = node.options["resources"]
    if not asked["gpu"]:
        return
    found = fit(node)
    if found is None or isinstance(found, str) or found.total <= asked["gpu_mem_gb"] * GB:
        return
    raise UserError(
        f"{where}.resources.gpu_mem_gb",
        f"{node.name} would need about {found} on each GPU, which has {asked['gpu_mem_gb']}: name a larger one, more of them, or "
        "take less at once (docs/plan.md)",
    )
