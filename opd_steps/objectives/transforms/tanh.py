from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from opd_steps.objectives.evidence import Evidence
from opd_steps.objectives.transforms import Transform


@dataclass(frozen=True)
class Tanh(Transform):
    """tanh(A): bounded, of A's sign; a control of PowerOPD (arXiv 2606.17199)."""

    def apply(self, advantage_NK: Tensor, evidence: Evidence) -> Tensor:
        return advantage_NK.tanh()
