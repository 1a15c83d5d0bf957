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
class K3(Estimator):
    """exp(d) - 1 - d with d = log p(a) - log q(a), back-propagated: a low-variance value of KL(q||p), never negative.

    On samples of q its expected gradient is that of the *forward* KL(p||q). Against the reference it is GRPO's anchor
    (arXiv 2402.03300).
    """

    SUPPORT: ClassVar[str] = "sampled"
    SIGNAL: ClassVar[str] = "fixed"

    def loss(
        self, q: StepDist, evidence: Evidence, support: Any, signal: Any, baseline: Any
    ) -> tuple[Tensor, dict[str, Tensor]]:
        return kl_k3(q.logp(evidence.action_N), evidence.teacher.logp(evidence.action_N).detach()), log_ratio(q, evidence)
