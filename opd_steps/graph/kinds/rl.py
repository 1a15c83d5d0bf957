"""Reinforcement learning."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from opd_steps.config.curve_names import POLICY
from opd_steps.config.plug_schema import inside
from opd_steps.config.plugs import constant
from opd_steps.errors import UserError
from opd_steps.graph.budget import tokens_of, training
from opd_steps.graph.cost.work import Work, reinforced
from opd_steps.graph.kinds._kind import SamplingTraining
from opd_steps.graph.method import ROW
from opd_steps.graph.options import Engine, Sampling, Trainer, ref
from opd_steps.graph.row_lengths import Rows, caps, made

if TYPE_CHECKING:
    from opd_steps.graph.node import GraphNode


@dataclass
class RlNode(SamplingTraining):
    """GRPO with Dr.GRPO and DAPO as switches of the same code (arXiv 2402.03300, 2503.20783, 2503.14476).

    Curves of its own: silent_groups, the share without spread of all groups generated; silent_trained, of those trained on;
    refills, generation batches beyond the first; wrong_length, mean tokens of wrong answers, at steps that have any.
    """

    PHASE: ClassVar[str] = "teachers"
    PLACE: ClassVar[int] = 30
    START: ClassVar[str] = "policy"
    FIXED: ClassVar[tuple[tuple[str, str], ...]] = (
        *ROW,
        ("objectives/signals", "outcome"),
        ("objectives/estimators", "pg"),
        ("objectives/estimators", "k3"),
    )
    OF_DATA: ClassVar[tuple[str, ...]] = (
        "tasks/worlds",
        "tasks/verifiers",
    )

    CHECKS: ClassVar[tuple[str, ...]] = (
        "len(rewards) == 2",
        "rewards[0] < rewards[1]",
        "overlong_buffer < sampling.max_new_tokens",
        "minibatches <= prompts * sampling.n",
    )

    policy: str = ref("model")
    data: str = ref("data")
    prompts: Annotated[int, "at least 1"] = 16  # prompts per step
    sampling: Sampling = field(default_factory=lambda: Sampling(n=8))
    engine: Engine = field(default_factory=Engine)
    trainer: Trainer = field(default_factory=Trainer)
    advantage: Literal["group_mean", "leave_one_out"] = "group_mean"
    divide_by_std: bool = True  # Dr.GRPO: false
    aggregate: Literal["token_mean", "seq_mean", "window_mean", "seq_sum"] = (
        "seq_mean"  # DAPO: token_mean; Dr.GRPO: window_mean
    )
    clip_low: Annotated[float, "0 to 1"] = 0.2
    clip_high: Annotated[float, "at least 0"] = 0.2  # DAPO: .28
    kl: Annotated[float, "at least 0"] = 0.0  # weight of the k3 anchor to the initial policy; GRPO: .04
    dynamic_sampling: bool = False  # DAPO: drop groups without spread and refill
    max_refills: Annotated[int, "at least 1"] = 10  # generation batches for one step, then an error
    rewards: Annotated[list[float], "any"] = field(default_factory=lambda: [0.0, 1.0])  # wrong, right; DAPO: [-1, 1]
    overlong_buffer: Annotated[int, "at least 0"] = 0  # tokens; soft penalty before max_new_tokens; 0 = off
    minibatches: Annotated[int, "at least 1"] = 1  # optimizer steps per rollout batch

    @classmethod
    def check(cls, node: GraphNode, where: str) -> None:
        for _, group, judge in inside("tasks/verifiers", node.parents["data"].origin.options["verifier"]):
            if group == "tasks/verifiers" and not constant(group, judge["name"], "JUDGES"):
                said = f"RL learns from rewards, and the verifier '{judge['name']}' of its data gives none"
                raise UserError(f"{where}.data", said)
        sampling = node.options["sampling"]
        if sampling["top_p"] < 1 or sampling["top_k"] or sampling["temperature"] <= 0:
            what = "the importance ratio needs plain sampling: temperature above 0, top_p 1 and top_k 0"
            raise UserError(f"{where}.sampling", what)

    @classmethod
    def budget(cls, node: GraphNode, part: str = "") -> dict[str, Any]:
        return training(node, part, node.options["prompts"] * node.options["sampling"]["n"], tokens=tokens_of(node))

    @classmethod
    def curves(cls, options: dict) -> tuple[str, ...]:
        return (*POLICY, "ratio", "clipped", "silent_groups", "silent_trained", "refills", "wrong_length")

    @classmethod
    def work(cls, node: GraphNode) -> Work:
        return reinforced(node)

    @classmethod
    def rows(cls, node: GraphNode, seed: int) -> list[Rows]:
        answer = node.options["sampling"]["max_new_tokens"]
        return [made(node, seed, "policy", answer=answer, caps=caps(node.options["engine"], "engine"))]
