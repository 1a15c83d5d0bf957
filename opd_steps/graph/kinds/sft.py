"""Supervised fine-tuning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from opd_steps.errors import UserError
from opd_steps.graph.budget import tokens_of, training
from opd_steps.graph.cost.work import Work, supervised
from opd_steps.graph.kinds._kind import Training
from opd_steps.graph.method import MLE
from opd_steps.graph.options import ref
from opd_steps.graph.row_lengths import Rows, made, sampled

if TYPE_CHECKING:
    from opd_steps.graph.node import GraphNode


@dataclass
class SftNode(Training):
    """Supervised fine-tuning on response tokens, end token included, or on the prompt's as well."""

    PHASE: ClassVar[str] = "students"
    DROPOUT: ClassVar[bool] = True
    PLACE: ClassVar[int] = 40
    START: ClassVar[str] = "student"
    OF_DATA: ClassVar[tuple[str, ...]] = ("tasks/worlds",)
    FIXED: ClassVar[tuple[tuple[str, str], ...]] = MLE

    student: str = ref("model")
    data: str = ref("rollouts", "data")  # traces, or a data set's `column`
    column: str = "solution"
    batch: Annotated[int, "at least 1"] = 64
    loss_on: Literal["all", "response", "turns"] = (
        "response"  # all: the prompt's tokens too, but for the first; turns: all that the assistant says in a chat
    )

    @classmethod
    def check(cls, node: GraphNode, where: str) -> None:
        data = node.parents["data"]
        if node.options["loss_on"] == "turns" and not (data.says.PRODUCES == "data" and data.origin.options.get("chat")):
            raise UserError(f"{where}.loss_on", "turns are those of a data set with chat: true")

    @classmethod
    def budget(cls, node: GraphNode, part: str = "") -> dict[str, Any]:
        return training(node, part, node.options["batch"], tokens=tokens_of(node.parents["data"]))

    @classmethod
    def compared(cls, node: GraphNode) -> list[tuple[GraphNode, GraphNode]]:
        data = node.parents["data"]
        return [(node.root_of("student"), data.root_of("policy"))] if data.says.PRODUCES == "rollouts" else []

    @classmethod
    def work(cls, node: GraphNode) -> Work:
        return supervised(node)

    @classmethod
    def rows(cls, node: GraphNode, seed: int) -> list[Rows]:
        if node.parents["data"].says.PRODUCES == "data":
            return [made(node, seed, "student", column=node.options["column"])]
        return [sampled(node, "data", seed, "student")]
