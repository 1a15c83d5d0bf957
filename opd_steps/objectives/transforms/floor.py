from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

from torch import Tensor

from opd_steps.objectives.evidence import Evidence
from opd_steps.objectives.transforms import Transform


@dataclass(frozen=True)
class Floor(Transform):
    """max(A, log(lam) / (1 - lam)): extreme penalties are relaxed; lam = .3 gives -1.72 (REOPOLD, arXiv 2603.11137)."""

    lam: Annotated[float, "above 0, below 1"] = 0.3

    def apply(self, advantage_NK: Tensor, evidence: Evidence) -> Tensor:
        return advantage_NK.clamp(min=math.log(self.lam) / (1 - self.lam))
