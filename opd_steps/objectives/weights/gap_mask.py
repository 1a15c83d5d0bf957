from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from opd_steps.nouns.dist import StepDist
from opd_steps.objectives.evidence import Evidence
from opd_steps.objectives.weights import Weight


@dataclass(frozen=True)
class GapMask(Weight):
    """1[ |log p(a) - log q(a)| < max_gap ]: leaves out tokens of wild disagreement (Uni-OPD, arXiv 2605.03677)."""

    TEACHER: ClassVar[str] = "sampled"

    max_gap: Annotated[float, "above 0"] = 10.0  # nats

    @torch.no_grad()
    def weight_N(self, q: StepDist, evidence: Evidence) -> Tensor:
        logq_N = q.logp(evidence.action_N)
        return ((evidence.teacher.logp(evidence.action_N) - logq_N).abs() < self.max_gap).to(logq_N.dtype)
