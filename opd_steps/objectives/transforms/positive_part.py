from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from opd_steps.objectives.evidence import Evidence
from opd_steps.objectives.transforms import Transform


@dataclass(frozen=True)
class PositivePart(Transform):
    """max(A, 0): no token is pushed down (AOPD, arXiv 2605.06387, with another term where A <= 0)."""

    def apply(self, advantage_NK: Tensor, evidence: Evidence) -> Tensor:
        return advantage_NK.clamp(min=0)
