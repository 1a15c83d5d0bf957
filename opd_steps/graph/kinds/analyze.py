"""Analyses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Optional

from opd_steps.config.plugs import constant, plug
from opd_steps.errors import UserError
from opd_steps.graph.kinds._kind import Node
from opd_steps.graph.options import ref
from opd_steps.graph.row_lengths import Rows, made

if TYPE_CHECKING:
    from opd_steps.graph.node import GraphNode

ANALYSES = "analyses"
ANALYZED = ("other", "peer", "teacher", "data")  # what an analysis may need beside `model`


@dataclass
class AnalyzeNode(Node):
    """A measurement on finished models: it changes nothing. Which roles it reads beside `model` is said by the analysis."""

    PRODUCES: ClassVar[str] = "analysis"
    PHASE: ClassVar[str] = "benchmarks"
    PLACE: ClassVar[int] = 90
    OF_DATA: ClassVar[tuple[str, ...]] = ("tasks/worlds", "tasks/verifiers", "tasks/hints")

    model: str = ref("model")
    other: Optional[str] = ref("model", required=False)  # e.g. the weights that `model` started from, or a second student
    peer: Optional[str] = ref("model", required=False)  # a second model with the start `other`
    teacher: Optional[str] = ref("model", required=False)
    data: Optional[str] = ref("data", required=False)
    split: Literal["train", "test", "ood"] = "test"
    limit: Annotated[int, "at least 0"] = 200  # prompts; 0 = all
    temperature: Annotated[float, "at least 0"] = 1.0
    max_new_tokens: Annotated[int, "at least 1"] = 32
    batch: Annotated[int, "at least 1"] = 256  # rows decoded at once
    analysis: Any = plug(ANALYSES, "???")

    @classmethod
    def check(cls, node: GraphNode, where: str) -> None:
        """The roles named are those that the analysis needs."""
        name = node.options["analysis"]["name"]
        needs = constant(ANALYSES, name, "NEEDS")
        for role in ANALYZED:
            if role in needs and role not in node.parents:
                raise UserError(f"{where}.{role}", f"this key is required: the analysis '{name}' reads {', '.join(needs)}")
            if role in node.parents and role not in needs:
                raise UserError(f"{where}.{role}", f"the analysis '{name}' would not look at it; it reads {', '.join(needs)}")
        task = node.parents["data"].options["task"]["name"] if "data" in node.parents else ""
        if task and constant(ANALYSES, name, "BRANCHES") and constant("tasks/worlds", task, "ANSWERS"):
            what = f"'{name}' goes on from prefixes, and the task '{task}', which answers while a policy writes, has no part in that"
            raise UserError(f"{where}.analysis", what)

    @classmethod
    def metrics(cls, node: GraphNode) -> list[str]:
        return list(constant(ANALYSES, node.options["analysis"]["name"], "METRICS"))

    @classmethod
    def compared(cls, node: GraphNode) -> list[tuple[GraphNode, GraphNode]]:
        if "data" not in node.parents:
            return []
        others = [node.root_of(role) for role in ("other", "peer", "teacher") if role in node.parents]
        return [(node.root_of("model"), other) for other in others]

    @classmethod
    def rows(cls, node: GraphNode, seed: int) -> list[Rows]:
        if "data" not in node.parents:
            return []
        o = node.options
        part = {"split": o["split"], "limit": o["limit"], "answer": o["max_new_tokens"]}
        return [made(node, seed, "model", "other", "peer", "teacher", **part)]
