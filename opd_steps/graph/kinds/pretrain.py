"""Next-token training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from opd_steps.graph.budget import training
from opd_steps.graph.cost.work import Work, supervised
from opd_steps.graph.kinds._kind import Training
from opd_steps.graph.method import MLE
from opd_steps.graph.options import ref
from opd_steps.graph.row_lengths import Rows, made

if TYPE_CHECKING:
    from opd_steps.graph.node import GraphNode


@dataclass
class PretrainNode(Training):
    """Next-token training on the task's corpus (prompt and noisy solution)."""

    PHASE: ClassVar[str] = "teachers"
    DROPOUT: ClassVar[bool] = True
    PLACE: ClassVar[int] = 20
    START: ClassVar[str] = "model"
    OF_DATA: ClassVar[tuple[str, ...]] = ("tasks/worlds",)
    FIXED: ClassVar[tuple[tuple[str, str], ...]] = MLE

    model: str = ref("model")
    data: str = ref("data")
    column: str = "corpus"  # text column of the train split
    batch: Annotated[int, "at least 1"] = 64
    loss_on: Literal["all", "response"] = "all"

    @classmethod
    def budget(cls, node: GraphNode, part: str = "") -> dict[str, Any]:
        return training(node, part, node.options["batch"])

    @classmethod
    def work(cls, node: GraphNode) -> Work:
        return supervised(node)

    @classmethod
    def rows(cls, node: GraphNode, seed: int) -> list[Rows]:
        return [made(node, seed, "model", column=node.options["column"])]
