"""Models whose keys and values are confined to a subspace."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from opd_steps.config.plugs import constant
from opd_steps.errors import UserError
from opd_steps.graph.kinds._kind import Node
from opd_steps.graph.options import ref
from opd_steps.graph.row_lengths import Rows, made

if TYPE_CHECKING:
    from opd_steps.graph.node import GraphNode


@dataclass
class ProjectNode(Node):
    """A model that computes with its keys and values projected on what a few solved examples need of them (SPD, arXiv 2605.22675)."""

    PRODUCES: ClassVar[str] = "model"
    PHASE: ClassVar[str] = "students"
    PLACE: ClassVar[int] = 45
    START: ClassVar[str] = "model"
    OF_DATA: ClassVar[tuple[str, ...]] = ("tasks/worlds",)

    CHECKS: ClassVar[tuple[str, ...]] = ("unique(layers)",)

    model: str = ref("model")
    data: str = ref("data")
    examples: Annotated[int, "at least 1"] = 50  # first rows of the train split
    column: str = "solution"
    after: str = ""  # what makes an answer right stands behind the last such text of it, e.g. "="; "" = all of it does
    layers: Annotated[list[int], "any"] = field(
        default_factory=list
    )  # from 0, or from -1 backwards; [] = the middle and the last
    rank: Annotated[int, "at least 0"] = 0  # of the projectors; 0 = half of the width of keys
    subspace: Literal["gradient", "random"] = "gradient"  # random: the control
    micro_batch: Annotated[int, "at least 1"] = 16  # rows in one forward and backward pass

    @classmethod
    def check(cls, node: GraphNode, where: str) -> None:
        task = node.parents["data"].options["task"]["name"]
        if not constant("tasks/worlds", task, "TEXTS"):
            raise UserError(f"{where}.data", f"expected solved examples in text, and the task '{task}' has none")

    @classmethod
    def metrics(cls, node: GraphNode) -> list[str]:
        return ["project/energy", "project/loss"]

    @classmethod
    def rows(cls, node: GraphNode, seed: int) -> list[Rows]:
        return [made(node, seed, "model", column=node.options["column"], limit=node.options["examples"])]
