from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from torch import Tensor

from opd_steps.objectives.evidence import Evidence
from opd_steps.objectives.transforms import Transform


@dataclass(frozen=True)
class ScaleOutcome(Transform):
    """A_outcome * clip((p/q)^sign(A_outcome), 1 - eps, 1 + eps): the teacher scales the outcome advantage, and never turns its sign (RLSD).

    A on entry is the log-ratio log p - log q.
    """

    OUTCOME: ClassVar[bool] = True
    LOG_RATIO: ClassVar[bool] = True

    eps: Annotated[float, "above 0, below 1"] = 0.5

    def apply(self, advantage_NK: Tensor, evidence: Evidence) -> Tensor:
        outcome_N1 = evidence.outcome_N[:, None]
        return outcome_N1 * (advantage_NK * outcome_N1.sign()).clamp(-20, 20).exp().clamp(1 - self.eps, 1 + self.eps)
