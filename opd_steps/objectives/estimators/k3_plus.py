from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from opd_steps.nouns.dist import StepDist
from opd_steps.objectives.estimators import Estimator
from opd_steps.objectives.estimators._stats import log_ratio
from opd_steps.objectives.evidence import Evidence
from opd_steps.objectives.outcome import kl_k3


@dataclass(frozen=True)
class K3Plus(Estimator):
    """The value of k3 with the gradient of k2: sg[exp(d) - 1 - d] + d^2 / 2 - sg[d^2 / 2], d = log p(a) - log q(a).

    verl's kl_penalty "k3+" (github.com/verl-project/verl, verl/trainer/ppo/core_algos.py); its distillation losses have
    no "+" names. The expected gradient is that of KL(q||p), sample by sample that of `pg` and `k2`; only the logged loss
    differs: never negative, and of low variance.
    """

    SUPPORT: ClassVar[str] = "sampled"
    SIGNAL: ClassVar[str] = "fixed"

    def loss(
        self, q: StepDist, evidence: Evidence, support: Any, signal: Any, baseline: Any
    ) -> tuple[Tensor, dict[str, Tensor]]:
        logq_N, logp_N = q.logp(evidence.action_N), evidence.teacher.logp(evidence.action_N).detach()
        half_N = 0.5 * (logp_N - logq_N).square()
        return kl_k3(logq_N.detach(), logp_N) + half_N - half_N.detach(), log_ratio(q, evidence)
