from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from opd_steps.nouns.dist import StepDist
from opd_steps.objectives.estimators import Estimator
from opd_steps.objectives.estimators._stats import log_ratio
from opd_steps.objectives.evidence import Evidence


@dataclass(frozen=True)
class K2(Estimator):
    """(log q(a) - log p(a))^2 / 2, back-propagated: its expected gradient is that of KL(q||p), sample by sample that of `pg`.

    Recommended by KDRL (arXiv 2506.02208).
    """

    SUPPORT: ClassVar[str] = "sampled"
    SIGNAL: ClassVar[str] = "fixed"

    def loss(
        self, q: StepDist, evidence: Evidence, support: Any, signal: Any, baseline: Any
    ) -> tuple[Tensor, dict[str, Tensor]]:
        gap_N = q.logp(evidence.action_N) - evidence.teacher.logp(evidence.action_N).detach()
        return 0.5 * gap_N.square(), log_ratio(q, evidence)
