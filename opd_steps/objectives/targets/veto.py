from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch

from opd_steps.nouns.dist import Categorical
from opd_steps.objectives.evidence import Evidence
from opd_steps.objectives.targets import Target


@dataclass(frozen=True)
class Veto(Target):
    """Q proportional to p sg[q]^beta: what the student deems impossible is not asked of it; beta = 0 is p (arXiv 2601.07155)."""

    TEACHER: ClassVar[str] = "full"

    beta: Annotated[float, "at least 0"] = 0.5

    def of(self, q: Categorical, evidence: Evidence) -> Categorical:
        return Categorical(torch.log_softmax(evidence.teacher.logp_NV + self.beta * q.logp_NV.detach(), -1))
