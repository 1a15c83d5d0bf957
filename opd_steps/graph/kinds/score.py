"""A teacher's scores as files."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, ClassVar, Optional

from opd_steps.graph.cost.work import Work, scored
from opd_steps.graph.kinds._kind import Running
from opd_steps.graph.options import TeacherEngine, ref
from opd_steps.graph.row_lengths import Rows, caps, sampled

if TYPE_CHECKING:
    from opd_steps.graph.node import GraphNode


@dataclass
class ScoreNode(Running):
    """A teacher's log-probabilities of given rollouts, written as the scores table."""

    PRODUCES: ClassVar[str] = "scores"
    PLACE: ClassVar[int] = 60

    rollouts: str = ref("rollouts")
    teacher: str = ref("model")
    topk: Annotated[int, "at least 0"] = 0  # also store the teacher's k likeliest tokens; 0 = sampled token alone
    temperature: Annotated[Optional[float], "above 0"] = (
        None  # that the teacher answers at; null: the one that the rollouts were drawn at
    )
    teacher_engine: TeacherEngine = field(default_factory=TeacherEngine)
    micro_batch: Annotated[int, "at least 1"] = 64

    @classmethod
    def metrics(cls, node: GraphNode) -> list[str]:
        return ["score/sequences", "score/tokens"]  # that the teacher read

    @classmethod
    def compared(cls, node: GraphNode) -> list[tuple[GraphNode, GraphNode]]:
        return [(node.parents["rollouts"].root_of("policy"), node.root_of("teacher"))]

    @classmethod
    def topks(cls, node: GraphNode) -> list[tuple[str, int, GraphNode]]:
        k = node.options["topk"]
        return [("topk", k, node.root_of("teacher"))] if k else []

    @classmethod
    def work(cls, node: GraphNode) -> Work:
        return scored(node)

    @classmethod
    def rows(cls, node: GraphNode, seed: int) -> list[Rows]:
        return [sampled(node, "rollouts", seed, "teacher", caps=caps(node.options["teacher_engine"], "teacher_engine"))]
