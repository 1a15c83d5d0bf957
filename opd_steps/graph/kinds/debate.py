"""Debates as files."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from opd_steps.config.plugs import constant, plug
from opd_steps.errors import UserError
from opd_steps.graph.cost.work import Work, sampled
from opd_steps.graph.kinds._kind import Node
from opd_steps.graph.options import Engine, Sampling, ref
from opd_steps.graph.row_lengths import Rows, caps, made

if TYPE_CHECKING:
    from opd_steps.graph.node import GraphNode


@dataclass
class DebateNode(Node):
    """A data set with what several models said about its train prompts in a debate (MAD-OPD, arXiv 2605.01347), or one by itself, for the
    context `debate`.
    """

    PRODUCES: ClassVar[str] = "data"
    LIKE: ClassVar[str] = "data"
    PHASE: ClassVar[str] = "teachers"
    PLACE: ClassVar[int] = 55
    OF_DATA: ClassVar[tuple[str, ...]] = ("tasks/worlds", "tasks/verifiers")

    CHECKS: ClassVar[tuple[str, ...]] = ("len(experts) >= 1",)

    data: str = ref("data")
    experts: list[str] = ref("model", many=True)  # numbered from 0, as the context `debate` does
    rounds: Annotated[int, "at least 1"] = 2
    states: Literal["prompts", "turns"] = (
        "prompts"  # turns: each place of a text column where its writer went on, for the prefix `turns`
    )
    column: str = "solution"  # with turns: that column
    limit: Annotated[int, "at least 0"] = 0  # train prompts; 0 = all. The published train split has no others
    show: Any = plug("tasks/transcripts", "words")
    sampling: Sampling = field(default_factory=Sampling)
    engine: Engine = field(default_factory=Engine)
    dtype: Literal["float32", "bfloat16"] = "float32"

    @classmethod
    def check(cls, node: GraphNode, where: str) -> None:
        data, options = node.parents["data"], node.options
        if data.says.LIKE:
            raise UserError(f"{where}.data", f"'{data.name}' is a debate already: expected the data that it is about")
        if not constant("tasks/worlds", options["task"]["name"], "TEXTS"):
            raise UserError(f"{where}.data", f"a debate is about texts, and the task '{options['task']['name']}' has none")
        if options["sampling"]["n"] != 1:
            raise UserError(f"{where}.sampling.n", "each expert replies once a round: 1")
        if options["engine"]["name"] == "server":
            raise UserError(f"{where}.engine.name", "experts reply in turns, each by an engine of its own: use vllm or local")

    @classmethod
    def metrics(cls, node: GraphNode) -> list[str]:
        names = ("generations", "right_first", "right_last", "split", "sure_right", "sure_wrong", "unstated", "states")
        return [f"debate/{name}" for name in names]

    @classmethod
    def compared(cls, node: GraphNode) -> list[tuple[GraphNode, GraphNode]]:
        return [(node.root_of("experts.0"), node.root_of(f"experts.{k}")) for k in range(1, len(node.options["experts"]))]

    @classmethod
    def engine_of(cls, options: dict, role: str) -> str:
        return "engine" if role.startswith("experts.") else ""

    @classmethod
    def work(cls, node: GraphNode) -> Work:
        return sampled(node, tuple(f"experts.{k}" for k in range(len(node.options["experts"]))), "train")

    @classmethod
    def rows(cls, node: GraphNode, seed: int) -> list[Rows]:
        o = node.options
        readers = [f"experts.{k}" for k in range(len(o["experts"]))]
        length = o["sampling"]["max_new_tokens"]
        said = len(readers) * (o["rounds"] - 1) * length  # what is read before the last reply
        bounds = caps(o["engine"], "engine")
        return [made(node, seed, *readers, limit=o["limit"], answer=length, shown=said, caps=bounds)]
