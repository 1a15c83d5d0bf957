from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from opd_steps.nouns.dist import Categorical
from opd_steps.objectives.estimators import Estimator
from opd_steps.objectives.estimators._stats import divergence, log_ratio
from opd_steps.objectives.evidence import Evidence


@dataclass(frozen=True)
class StateAdvantage(Estimator):
    """-A log q(a) with A = sg[ sum_v q~_v r_v ] over the set: one number per state, whatever action was taken.

    miles' top-k OPD (github.com/radixark/miles/issues/2362): the top-k KL of a state as the advantage of the one token
    that was sampled. An advantage that does not depend on the action is a baseline without a reward, so the expected
    gradient is 0: pure noise. Here for comparison alone; `pg` on the same set keeps one advantage per token, as the
    paper does (arXiv 2604.13016).
    """

    SUPPORT: ClassVar[str] = "set"
    SIGNAL: ClassVar[str] = "divergence"
    METRICS: ClassVar[tuple[str, ...]] = ("advantage",)

    def loss(
        self, q: Categorical, evidence: Evidence, support: Any, signal: Any, baseline: Any
    ) -> tuple[Tensor, dict[str, Tensor]]:
        on = support.select(q, evidence.teacher, evidence.action_N)
        advantage_N = on.sum(on.weight_NK * signal.reward(on.logq_NK, on.logp_NK)).detach()
        stats = {"advantage": advantage_N, **divergence(on, signal), **log_ratio(q, evidence)}
        return -advantage_N * q.logp(evidence.action_N), stats
