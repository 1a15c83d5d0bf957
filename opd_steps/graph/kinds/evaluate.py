"""Benchmarks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Optional

from opd_steps.config.plugs import chain, constant, constants, plug
from opd_steps.errors import UserError
from opd_steps.graph.budget import measurement
from opd_steps.graph.checks.reads import refuse_unread
from opd_steps.graph.cost.work import Work, looked_at, own
from opd_steps.graph.kinds._kind import Running
from opd_steps.graph.options import ref
from opd_steps.graph.row_lengths import Rows, made
from opd_steps.store.sources import Given

if TYPE_CHECKING:
    from opd_steps.graph.node import GraphNode

_OF_ALL_SUITES = ("model", "data", "teacher", "splits", "limit", "max_new_tokens", "batch", "dtype", "attention", "by")


@dataclass
class EvaluateNode(Running):
    """A measurement of a finished model on splits of its task, by a suite."""

    PRODUCES: ClassVar[str] = "evaluation"
    PHASE: ClassVar[str] = "benchmarks"
    PLACE: ClassVar[int] = 80
    MEASURES: ClassVar[str] = "model"
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
        "'' not in stop",
    )

    model: str = ref("model")
    data: str = ref("data")
    teacher: Optional[str] = ref("model", required=False)  # for reverse KL on fresh samples
    suite: Any = plug("evaluation/suites", "lm_eval")  # what measures; it says which of the options from k on it reads
    splits: list[Literal["train", "test", "ood"]] = field(default_factory=lambda: ["test"])
    by: str = ""  # a column of the data, e.g. domain: figures also of the prompts of each of its values, `test/avg_at_k/maths`
    limit: Annotated[int, "at least 0"] = 0  # prompts of each split; 0 = all
    max_new_tokens: Annotated[int, "at least 1"] = 32
    batch: Annotated[int, "at least 1"] = 256
    k: Annotated[int, "at least 0"] = 8  # samples per prompt for Avg@k and Pass@k; 0 = greedy alone
    temperature: Annotated[float, "at least 0"] = 1.0
    top_p: Annotated[float, "above 0, at most 1"] = 1.0  # of the k samples
    stop: list[str] = field(
        default_factory=list
    )  # strings that end a text on the splits, as sampling.stop does; benchmarks have their own
    benchmarks: list[str] = field(default_factory=list)  # lm-eval's built-in tasks
    benchmark_data: dict[str, str] = field(
        default_factory=dict
    )  # of a benchmark: a folder of <split>.jsonl, or a hub id, for its data
    fewshot: Annotated[Optional[int], "at least 0"] = None
    backend: Literal["hf", "vllm"] = "hf"
    options: dict[str, Any] = field(default_factory=dict)  # further model arguments of lm-eval

    @classmethod
    def check(cls, node: GraphNode, where: str) -> None:
        refuse_unread(node, "suite", where, _OF_ALL_SUITES)
        suite, task = node.options["suite"]["name"], node.parents["data"].options["task"]["name"]
        if constant("evaluation/suites", suite, "TEXTS") and not constant("tasks/worlds", task, "TEXTS"):
            raise UserError(f"{where}.suite", f"'{suite}' asks questions in text, and the task '{task}' of its data has none")
        if node.options["by"] and not constant("evaluation/suites", suite, "PROMPTS"):
            raise UserError(f"{where}.by", f"'{suite}' has no figure with a value at each prompt, which could be told apart")
        if constant("tasks/worlds", task, "ANSWERS") and not constant("evaluation/suites", suite, "PLAYS"):
            raise UserError(
                f"{where}.suite", f"'{suite}' asks once, and the task '{task}' answers while a policy writes: use played"
            )
        for name in sorted(node.options["benchmark_data"].keys() - node.options["benchmarks"]):
            raise UserError(f"{where}.benchmark_data.{name}", f"'{name}' is none of this evaluation's benchmarks")

    @classmethod
    def metrics(cls, node: GraphNode) -> list[str]:
        return list(cls.directions(node))

    @classmethod
    def directions(cls, node: GraphNode) -> dict[str, str]:
        """As its suite and its data's verifier say; benchmarks aside, whose names lm-eval alone knows."""
        suite = constants("evaluation/suites", node.options["suite"]["name"])
        there = lambda name: name in node.parents or bool(node.options[name])
        measured = lambda name: name not in suite["WHEN"] or there(suite["WHEN"][name])
        of_split = {name: way for name, way in suite["METRICS"].items() if measured(name)}
        judged = "verifier" in constant("tasks/worlds", node.parents["data"].options["task"]["name"], "READS")
        if judged and suite["VERIFIER"] and there(suite["VERIFIER"]):
            for verifier in chain(node.parents["data"].options["verifier"]):
                of_split |= constant("tasks/verifiers", verifier["name"], "METRICS")
        found = {f"{split}/{name}": way for split in node.options["splits"] for name, way in of_split.items()}
        return found | {name: way for name, way in suite["OWN"].items() if measured(name)}

    @classmethod
    def budget(cls, node: GraphNode, part: str = "") -> dict[str, Any]:
        return measurement(
            node,
            ("limit", "max_new_tokens", "k", "temperature", "top_p", "stop", "fewshot"),
            {"suite": node.options["suite"]["name"]},
            ("data", "teacher"),
        )

    @classmethod
    def measures(cls, node: GraphNode, metric: str) -> bool:
        """Which metrics a benchmark has, lm-eval alone knows."""
        task, _, name = metric.partition("/")
        return super().measures(node, metric) or bool(name and task in node.options["benchmarks"])

    @classmethod
    def apart(cls, node: GraphNode) -> set[str]:
        prompts = constant("evaluation/suites", node.options["suite"]["name"], "PROMPTS")
        return {f"{split}/{name}" for split in node.options["splits"] for name in prompts}

    @classmethod
    def sources(cls, options: dict) -> dict[str, Given]:
        return {f"benchmark_data.{name}": Given(path) for name, path in options["benchmark_data"].items()}

    @classmethod
    def by_prompt(cls, node: GraphNode, metric: str) -> dict[str, str] | None:
        split, _, name = metric.partition("/")
        value = constant("evaluation/suites", node.options["suite"]["name"], "PROMPTS").get(name)
        return {"file": f"samples/{split}.jsonl", "value": value} if value and split in node.options["splits"] else None

    @classmethod
    def compared(cls, node: GraphNode) -> list[tuple[GraphNode, GraphNode]]:
        return [(node.root_of("model"), node.root_of("teacher"))] if "teacher" in node.parents else []

    @classmethod
    def work(cls, node: GraphNode) -> Work:
        return looked_at(node, ("model", "teacher"), own(node.options["batch"]))

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
