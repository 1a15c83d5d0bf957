from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from torch import Tensor

from opd_steps.objectives.evidence import Evidence
from opd_steps.objectives.transforms import Transform


@dataclass(frozen=True)
class Clip(Transform):
    """A clipped to [low, high]. Biased: a control of PowerOPD (arXiv 2606.17199)."""

    CHECKS: ClassVar[tuple[str, ...]] = ("low < high",)

    low: Annotated[float, "any"] = -1.0
    high: Annotated[float, "any"] = 1.0

    def apply(self, advantage_NK: Tensor, evidence: Evidence) -> Tensor:
        return advantage_NK.clamp(self.low, self.high)
