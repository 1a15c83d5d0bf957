"""A stream: one term of the objective, built from its row of plugs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from opd_steps.config import plugs
from opd_steps.config.method_rules import GROUPS, teacher_need, teacher_topk
from opd_steps.errors import UserError
from opd_steps.nouns.dist import StepDist
from opd_steps.objectives.evidence import Evidence


@dataclass(frozen=True)
class Stream:
    """coef * weight_N * estimator(signal on support, baseline).

    teacher_need  what must be known of the teacher: none, sampled, topk or full
    topk          how many of the teacher's likeliest tokens, where the support takes them from the teacher
    """

    support: Any
    signal: Any
    estimator: Any
    baseline: Any
    weight: tuple[Any, ...] = ()
    coef: float = 1.0
    teacher_need: str = "full"
    topk: int = 0

    def loss(self, q: StepDist, evidence: Evidence) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss to be minimised and detached figures, each [N]. Gradients flow through `q` alone, never through weights."""
        loss_N, stats = self.estimator.loss(q, evidence, self.support, self.signal, self.baseline)
        for weight in self.weight:
            loss_N = loss_N * weight.weight_N(q, evidence).detach()
        return self.coef * loss_N, stats


VANILLA = {
    "support": {"name": "sampled"},
    "signal": {"name": "log_ratio"},
    "estimator": {"name": "pg"},
    "baseline": {"name": "none"},
    "weight": [],
    "coef": 1.0,
    "against": "teacher",
}
"""The row that a stage writes over when its objective is not the user's to choose; equals config.kinds.Stream (tested)."""


def build(options: dict) -> Stream:
    """The stream of checked options (config.kinds.Stream). Raises UserError where a plug refuses its options' values."""

    def load(slot: str, item: dict) -> Any:
        try:
            return plugs.load(GROUPS[slot], item)
        except ValueError as error:
            raise UserError(f"{slot} {item['name']}", str(error)) from None

    return Stream(
        **{slot: load(slot, options[slot]) for slot in ("support", "signal", "estimator", "baseline")},
        weight=tuple(load("weight", item) for item in options["weight"]),
        coef=options["coef"],
        teacher_need=teacher_need(options),
        topk=teacher_topk(options),
    )
