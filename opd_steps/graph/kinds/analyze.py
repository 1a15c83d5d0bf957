"""Analyses."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Optional

from opd_steps.config.plugs import constant, plug
from opd_steps.errors import UserError
from opd_steps.graph import opd_needs
from opd_steps.graph.budget import measurement
from opd_steps.graph.checks.measured import asked_of, check_measured, text_columns
from opd_steps.graph.checks.teachers import check_answers
from opd_steps.graph.cost.distilling import tensors
from opd_steps.graph.cost.work import Read, Work, looked_at, own
from opd_steps.graph.kinds._kind import Running
from opd_steps.graph.method import Method
from opd_steps.graph.options import ref
from opd_steps.graph.row_lengths import Rows, made

if TYPE_CHECKING:
    from opd_steps.graph.node import GraphNode

ANALYSES = "analyses"
MODELS = ("other", "peer", "teacher", "reference")
ANALYZED = (*MODELS, "data", "answers")  # what an analysis may need beside `model`
METHODS = "methods"  # an analysis that needs these needs the teachers that they ask, too


@dataclass
class AnalyzeNode(Running):
    """A measurement on finished models: it changes nothing. Which roles it reads beside `model` is said by the analysis."""

    PRODUCES: ClassVar[str] = "analysis"
    PHASE: ClassVar[str] = "benchmarks"
    PLACE: ClassVar[int] = 90
    MEASURES: ClassVar[str] = "model"
    OF_DATA: ClassVar[tuple[str, ...]] = ("tasks/worlds", "tasks/verifiers", "tasks/hints")

    model: str = ref("model")
    other: Optional[str] = ref("model", required=False)  # e.g. the weights that `model` started from, or a second student
    peer: Optional[str] = ref("model", required=False)  # a second model with the start `other`
    teacher: Optional[str] = ref("model", required=False)
    reference: Optional[str] = ref("model", required=False)  # where a method looks at one
    data: Optional[str] = ref("data", required=False)
    answers: Optional[str] = ref("rollouts", required=False)  # a teacher's texts, for a judge
    split: Literal["train", "test", "ood"] = "test"
    limit: Annotated[int, "at least 0"] = 200  # prompts; 0 = all
    temperature: Annotated[float, "at least 0"] = 1.0
    max_new_tokens: Annotated[int, "at least 1"] = 32
    batch: Annotated[int, "at least 1"] = 256  # rows decoded at once
    methods: dict[str, Method] = field(default_factory=dict)  # by name: rows of plugs, as an opd node has one
    analysis: Any = plug(ANALYSES, "???")

    @classmethod
    def check(cls, node: GraphNode, where: str) -> None:
        """What is named is what the analysis needs; a method that it measures can be measured."""
        name, methods = node.options["analysis"]["name"], node.options[METHODS]
        needs = constant(ANALYSES, name, "NEEDS")
        if METHODS in needs:
            needs += tuple(role for role in ANALYZED if role in asked_of(methods))
        there = {*node.parents, *([METHODS] if methods else [])}
        for key in (*ANALYZED, METHODS):
            if key in needs and key not in there:
                raise UserError(f"{where}.{key}", f"this key is required: the analysis '{name}' reads {', '.join(needs)}")
            if key in there and key not in needs:
                raise UserError(f"{where}.{key}", f"the analysis '{name}' would not look at it; it reads {', '.join(needs)}")
        task = node.parents["data"].options["task"]["name"] if "data" in node.parents else ""
        if task and constant(ANALYSES, name, "BRANCHES") and constant("tasks/worlds", task, "ANSWERS"):
            what = f"'{name}' goes on from prefixes, and the task '{task}', which answers while a policy writes, has no part in that"
            raise UserError(f"{where}.analysis", what)
        check_answers(node, where, node.options["split"])
        check_measured(node, where)

    @classmethod
    def metrics(cls, node: GraphNode) -> list[str]:
        """Those of its analysis; "variance/{method}/trace" stands for one of each method."""
        found = constant(ANALYSES, node.options["analysis"]["name"], "METRICS")
        each = [name.format(method=method) for method in node.options[METHODS] for name in found]
        return list(dict.fromkeys(each or found))

    @classmethod
    def topks(cls, node: GraphNode) -> list[tuple[str, int, GraphNode]]:
        methods = node.options[METHODS].items()
        found = [each for name, method in methods for each in opd_needs.of_method(method, f"{METHODS}.{name}")]
        return [(key, k, node.root_of("model")) for key, k in found]

    @classmethod
    def budget(cls, node: GraphNode, part: str = "") -> dict[str, Any]:
        how = ("split", "limit", "temperature", "max_new_tokens") if "data" in node.parents else ()
        return measurement(node, how, {"analysis": node.options["analysis"]["name"]})

    @classmethod
    def compared(cls, node: GraphNode) -> list[tuple[GraphNode, GraphNode]]:
        if "data" not in node.parents:
            return []
        others = [node.root_of(role) for role in MODELS if role in node.parents]
        return [(node.root_of("model"), other) for other in others]

    @classmethod
    def work(cls, node: GraphNode) -> Work:
        methods, rows = node.options[METHODS], node.options["analysis"].get("micro_batch", 0)
        read = Read(rows, rows, max(map(tensors, methods.values()))) if methods else own(node.options["batch"])
        return looked_at(node, ("model", *MODELS), read, len(methods))

    @classmethod
    def rows(cls, node: GraphNode, seed: int) -> list[Rows]:
        if "data" not in node.parents:
            return []
        o = node.options
        part = {"split": o["split"], "limit": o["limit"], "answer": o["max_new_tokens"]}
        sampled = made(node, seed, "model", "other", "peer", "teacher", "reference", **part)
        written = [replace(sampled, answer=0, column=column) for column in text_columns(o[METHODS])]
        return [sampled, *written]
