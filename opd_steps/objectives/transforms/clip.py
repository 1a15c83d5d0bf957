from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from opd_steps.objectives.evidence import Evidence


@dataclass(frozen=True)
class Clip:
    """A clipped to [low, high]. Biased: a control of PowerOPD (arXiv 2606.17199)."""

    low: float = -1.0
    high: float = 1.0

    def apply(self, advantage_NK: Tensor, evidence: Evidence) -> Tensor:
        return advantage_NK.clamp(self.low, self.high)
