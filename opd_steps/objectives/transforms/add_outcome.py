from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from torch import Tensor

from opd_steps.objectives.evidence import Evidence
from opd_steps.objectives.transforms import Transform


@dataclass(frozen=True)
class AddOutcome(Transform):
    """A + coef * outcome advantage of the row: distillation and RL in one advantage (KDRL's second form, arXiv 2506.02208)."""

    OUTCOME: ClassVar[bool] = True

    coef: Annotated[float, "any"] = 1.0

    def apply(self, advantage_NK: Tensor, evidence: Evidence) -> Tensor:
        return advantage_NK + self.coef * evidence.outcome_N[:, None]
