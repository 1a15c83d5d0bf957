from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from torch import Tensor

from opd_steps.objectives.evidence import Evidence
from opd_steps.objectives.transforms import Transform


@dataclass(frozen=True)
class DropBelow(Transform):
    """A, but 0 where A < threshold: strong penalties are left out (REOPOLD's phase I, arXiv 2603.11137)."""

    threshold: Annotated[float, "any"] = -1.72

    def apply(self, advantage_NK: Tensor, evidence: Evidence) -> Tensor:
        return advantage_NK.masked_fill(advantage_NK < self.threshold, 0.0)
