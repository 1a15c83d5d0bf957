"""Rollouts as files."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from opd_steps.graph.budget import measurement, tokens_of
from opd_steps.graph.cost.work import Work, sampled
from opd_steps.graph.kinds._kind import Running
from opd_steps.graph.options import Engine, Sampling, ref
from opd_steps.graph.row_lengths import Rows, caps, made

if TYPE_CHECKING:
    from opd_steps.graph.node import GraphNode


@dataclass
class RolloutNode(Running):
    """Samples of a policy on a split, written as the rollouts table."""

    PRODUCES: ClassVar[str] = "rollouts"
    PLACE: ClassVar[int] = 50
    MEASURES: ClassVar[str] = "policy"
    OF_DATA: ClassVar[tuple[str, ...]] = (
        "tasks/worlds",
        "tasks/verifiers",
    )

    policy: str = ref("model")
    data: str = ref("data")
    split: Literal["train", "test", "ood"] = "train"
    limit: Annotated[int, "at least 0"] = 0  # prompts; 0 = all
    keep: Literal["all", "correct"] = "all"  # correct: rejection sampling
    sampling: Sampling = field(default_factory=Sampling)
    engine: Engine = field(default_factory=Engine)

    @classmethod
    def metrics(cls, node: GraphNode) -> list[str]:
        return ["rollout/accuracy", "rollout/length", "rollout/kept", "rollout/truncated"]

    @classmethod
    def budget(cls, node: GraphNode, part: str = "") -> dict[str, Any]:
        sampling = {key: node.options["sampling"][key] for key in ("n", "temperature", "top_p", "top_k", "stop")}
        return measurement(node, ("split", "limit", "keep"), sampling | {"max_new_tokens": tokens_of(node)})

    @classmethod
    def work(cls, node: GraphNode) -> Work:
        return sampled(node, ("policy",), node.options["split"])

    @classmethod
    def rows(cls, node: GraphNode, seed: int) -> list[Rows]:
        o = node.options
        part = {"split": o["split"], "limit": o["limit"], "answer": o["sampling"]["max_new_tokens"]}
        return [made(node, seed, "policy", caps=caps(o["engine"], "engine"), **part)]
