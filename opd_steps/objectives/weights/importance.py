from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from opd_steps.nouns.dist import StepDist
from opd_steps.objectives.evidence import Evidence
from opd_steps.objectives.weights import Weight


@dataclass(frozen=True)
class Importance(Weight):
    """sg[ min(q(a) / sampler(a), cap) ]: for estimators that carry no ratio of their own (MOPD, arXiv 2605.12652, cap 2; MiniLLM's S/mix)."""

    ROWS: ClassVar[str] = "sampled"

    cap: Annotated[float, "above 0"] = 2.0

    @torch.no_grad()
    def weight_N(self, q: StepDist, evidence: Evidence) -> Tensor:
        return (q.logp(evidence.action_N) - evidence.sampler_logp_N).exp().clamp(max=self.cap)
