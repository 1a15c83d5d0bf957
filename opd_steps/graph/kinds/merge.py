"""Models whose parameters are averages."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, ClassVar

from opd_steps.graph.kinds._kind import Node
from opd_steps.graph.options import ref

if TYPE_CHECKING:
    from opd_steps.graph.node import GraphNode


@dataclass
class MergeNode(Node):
    """theta = sum_i w_i theta_i / sum_i w_i: one model of several with one origin, without training (MOPD's param_merge, arXiv 2606.30406)."""

    PRODUCES: ClassVar[str] = "model"
    PHASE: ClassVar[str] = "students"
    PLACE: ClassVar[int] = 46
    START: ClassVar[str] = "models.0"

    CHECKS: ClassVar[tuple[str, ...]] = ("len(models) >= 2", "len(shares) == 0 or len(shares) == len(models)")

    models: list[str] = ref("model", many=True)
    shares: Annotated[list[float], "above 0"] = field(default_factory=list)  # w_i; [] = equal ones

    @classmethod
    def metrics(cls, node: GraphNode) -> list[str]:
        return ["merge/spread"]

    @classmethod
    def compared(cls, node: GraphNode) -> list[tuple[GraphNode, GraphNode]]:
        return [(node.root_of("models.0"), node.root_of(f"models.{i}")) for i in range(1, len(node.options["models"]))]
