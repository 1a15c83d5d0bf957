from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from opd_steps.nouns.dist import Categorical
from opd_steps.objectives.estimators import Estimator
from opd_steps.objectives.estimators._stats import log_ratio
from opd_steps.objectives.evidence import Evidence


@dataclass(frozen=True)
class Clamped(Estimator):
    """max(0, sum_v term(q_v, p_v)) per decision point: `exact`, silenced where a truncated sum turns negative.

    verl's `forward_kl_topk` is this with signal fkl on the raw teacher_topk (github.com/verl-project/verl/issues/7856).
    There the sum is negative wherever the student holds more mass on the set than the teacher does, and the gradient is
    then exactly 0, however wrong the student is; elsewhere it is that of `exact`. On the full vocabulary, renormalised or
    with a tail bucket the sum is a divergence, never negative, and nothing is clamped.
    """

    SUPPORT: ClassVar[str] = "set"
    SIGNAL: ClassVar[str] = "divergence"
    METRICS: ClassVar[tuple[str, ...]] = ("clamped",)

    def loss(
        self, q: Categorical, evidence: Evidence, support: Any, signal: Any, baseline: Any
    ) -> tuple[Tensor, dict[str, Tensor]]:
        on = support.select(q, evidence.teacher, evidence.action_N)
        value_N = on.total(signal.term)
        silenced_N = value_N.detach() < 0
        stats = {"divergence": value_N.detach(), "clamped": silenced_N.to(value_N.dtype), **log_ratio(q, evidence)}
        return value_N.masked_fill(silenced_N, 0.0), stats
