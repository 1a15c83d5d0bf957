from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from opd_steps.nouns.dist import Categorical
from opd_steps.objectives.estimators import Estimator
from opd_steps.objectives.estimators._stats import divergence, log_ratio
from opd_steps.objectives.evidence import Evidence


@dataclass(frozen=True)
class StopGrad(Estimator):
    """sum_v q_v sg[-r_v] over the support; for reverse KL, sum_v q_v (sg[log q_v] - log p_v) (arXiv 2605.11182).

    The policy gradient summed over the set: on the full vocabulary the exact gradient, on a raw top-k set that of `exact`
    without its push of mass, hence 0 at q = p. After renormalisation it equals `exact`.
    """

    SUPPORT: ClassVar[str] = "set"
    SIGNAL: ClassVar[str] = "divergence"

    def loss(
        self, q: Categorical, evidence: Evidence, support: Any, signal: Any, baseline: Any
    ) -> tuple[Tensor, dict[str, Tensor]]:
        on = support.select(q, evidence.teacher, evidence.action_N)
        reward_NK = signal.reward(on.logq_NK.detach(), on.logp_NK)
        return on.sum(-on.logq_NK.exp() * reward_NK), divergence(on, signal) | log_ratio(q, evidence)
