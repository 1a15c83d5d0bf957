"""Benchmarks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Optional

from opd_steps.config import plugs
from opd_steps.graph.kinds._kind import Node
from opd_steps.graph.options import ref
from opd_steps.graph.row_lengths import Rows, made

if TYPE_CHECKING:
    from opd_steps.graph.node import GraphNode

SPLIT_METRICS = ("accuracy", "avg_at_k", "pass_at_k")
OWN_METRICS = ("own/entropy", "own/length", "own/truncated")


@dataclass
class EvaluateNode(Node):
    """lm-eval on our splits and on built-in tasks, and own-rollout statistics."""

    PRODUCES: ClassVar[str] = "evaluation"
    PHASE: ClassVar[str] = "benchmarks"
    PLACE: ClassVar[int] = 80
    ENV: ClassVar[str] = "eval"
    OF_DATA: ClassVar[tuple[str, ...]] = (
        "tasks/worlds",
        "tasks/verifiers",
    )
    CODE: ClassVar[dict[tuple[str, str], tuple[str, ...]]] = {("backend", "vllm"): ("evaluation/vllm_lm.py",)}

    CHECKS: ClassVar[tuple[str, ...]] = (
        "len(splits) >= 1",
        "unique(splits)",
        "unique(benchmarks)",
    )

    model: str = ref("model")
    data: str = ref("data")
    teacher: Optional[str] = ref("model", required=False)  # for reverse KL on fresh samples
    splits: list[Literal["train", "test", "ood"]] = field(default_factory=lambda: ["test"])
    k: Annotated[int, "at least 0"] = 8  # samples per prompt for Avg@k and Pass@k; 0 = greedy alone
    temperature: Annotated[float, "at least 0"] = 1.0
    max_new_tokens: Annotated[int, "at least 1"] = 32
    limit: Annotated[int, "at least 0"] = 0  # prompts of each split; 0 = all
    benchmarks: list[str] = field(default_factory=list)  # lm-eval's built-in tasks
    fewshot: Annotated[Optional[int], "at least 0"] = None
    backend: Literal["hf", "vllm"] = "hf"
    batch: Annotated[int, "at least 1"] = 256
    options: dict[str, Any] = field(default_factory=dict)  # further model arguments of lm-eval

    @classmethod
    def metrics(cls, node: GraphNode) -> list[str]:
        own = [*OWN_METRICS, *(["own/reverse_kl"] if "teacher" in node.parents else [])]
        verifiers = plugs.chain(node.parents["data"].options["verifier"])
        judged = [name for v in verifiers for name in plugs.constant("tasks/verifiers", v["name"], "METRICS")]
        names = [*SPLIT_METRICS, *judged] if node.options["k"] else SPLIT_METRICS[:1]
        return [f"{split}/{name}" for split in node.options["splits"] for name in names] + own

    @classmethod
    def measures(cls, node: GraphNode, metric: str) -> bool:
        """Which metrics a benchmark has, lm-eval alone knows."""
        task, _, name = metric.partition("/")
        return super().measures(node, metric) or bool(name and task in node.options["benchmarks"])

    @classmethod
    def compared(cls, node: GraphNode) -> list[tuple[GraphNode, GraphNode]]:
        return [(node.root_of("model"), node.root_of("teacher"))] if "teacher" in node.parents else []

    @classmethod
    def rows(cls, node: GraphNode, seed: int) -> list[Rows]:
        o = node.options
        most = o["options"].get("max_model_len") or o["options"].get("max_length")
        caps = (("options.max_model_len", most),) if o["backend"] == "vllm" and isinstance(most, int) else ()
        part = {"limit": o["limit"], "answer": o["max_new_tokens"], "caps": caps}
        return [made(node, seed, "model", "teacher", split=split, **part) for split in o["splits"]]

    @classmethod
    def uses_gpus(cls, options: dict) -> bool:
        """lm-eval is told by `options` how to spread a model."""
        return bool(options["options"])
