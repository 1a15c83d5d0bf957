from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from opd_steps.nouns.dist import DiagGaussian, StepDist
from opd_steps.objectives.estimators import Estimator
from opd_steps.objectives.estimators._stats import log_ratio
from opd_steps.objectives.evidence import Evidence


@dataclass(frozen=True)
class Exact(Estimator):
    """The divergence itself, differentiated: sum_v term(q_v, p_v) over the support; in closed form for Gaussian steps.

    No sampling noise. On a raw top-k set with reverse KL it also pushes mass out of the set, even at q = p (arXiv 2605.11182).
    """

    SUPPORT: ClassVar[str] = "set"
    SIGNAL: ClassVar[str] = "divergence"

    def loss(
        self, q: StepDist, evidence: Evidence, support: Any, signal: Any, baseline: Any
    ) -> tuple[Tensor, dict[str, Tensor]]:
        if isinstance(q, DiagGaussian):
            loss_N = signal.gaussian(q, evidence.teacher)
        else:
            loss_N = support.select(q, evidence.teacher, evidence.action_N).total(signal.term)
        return loss_N, {"divergence": loss_N.detach(), **log_ratio(q, evidence)}
