from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from opd_steps.nouns.dist import StepDist
from opd_steps.objectives.estimators import Estimator
from opd_steps.objectives.estimators._stats import log_ratio
from opd_steps.objectives.evidence import Evidence


@dataclass(frozen=True)
class MLE(Estimator):
    """-log q(a): supervised fine-tuning on whatever the actions are. No teacher is asked."""

    SUPPORT: ClassVar[str] = "sampled"
    SIGNAL: ClassVar[str] = "fixed"
    TEACHER: ClassVar[str] = "none"

    def loss(
        self, q: StepDist, evidence: Evidence, support: Any, signal: Any, baseline: Any
    ) -> tuple[Tensor, dict[str, Tensor]]:
        return -q.logp(evidence.action_N), log_ratio(q, evidence)
