"""Whether a node's step fits the card that it names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opd_steps.errors import UserError
from opd_steps.graph.cost.memory import GB, judged, needs_of
from opd_steps.graph.cost.needs import Needs

if TYPE_CHECKING:
    from opd_steps.graph.node import GraphNode


def check_fits(node: GraphNode, where: str) -> None:
    """Raises UserError where the estimate exceeds a GPU's memory, or a model the share of it that its vLLM may take. Nodes without a GPU, and
    models whose size nobody knows, pass."""
    asked = node.options["resources"]
    if not asked["gpu"]:
        return
    needs = needs_of(node)
    if not isinstance(needs, Needs):
        return
    for served in needs.work.served:
        share = served.options["memory"] * asked["gpu_mem_gb"] * GB
        if not served.options["kv_cache_mb"] and needs.own(served) >= share:
            raise UserError(
                f"{where}.{served.key}.memory",
                f"{needs.own(served) / GB:.3g} GB of weights on each card, of which vLLM may take {share / GB:.3g}: a larger share, or more "
                f"cards (tensor_parallel)",
            )
    found = judged(needs)
    if found.total <= asked["gpu_mem_gb"] * GB:
        return
    raise UserError(
        f"{where}.resources.gpu_mem_gb",
        f"{node.name} would need about {found} on each GPU, which has {asked['gpu_mem_gb']}: name a larger one, more of them, or "
        "take less at once (docs/plan.md)",
    )
