from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from opd_steps.nouns.dist import StepDist
from opd_steps.objectives.estimators import Estimator
from opd_steps.objectives.estimators._stats import log_ratio
from opd_steps.objectives.evidence import Evidence


@dataclass(frozen=True)
class K1(Estimator):
    """log q(a) - log p(a), back-propagated: unbiased as a value of KL(q||p), but its expected gradient is 0, pure noise.

    Here for comparison alone; as a reward, under `pg`, the same figure is right.
    """

    SUPPORT: ClassVar[str] = "sampled"
    SIGNAL: ClassVar[str] = "fixed"

    def loss(
        self, q: StepDist, evidence: Evidence, support: Any, signal: Any, baseline: Any
    ) -> tuple[Tensor, dict[str, Tensor]]:
        return q.logp(evidence.action_N) - evidence.teacher.logp(evidence.action_N).detach(), log_ratio(q, evidence)
