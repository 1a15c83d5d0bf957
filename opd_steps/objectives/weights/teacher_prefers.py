from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from opd_steps.nouns.dist import StepDist
from opd_steps.objectives.evidence import Evidence
from opd_steps.objectives.weights import Weight


@dataclass(frozen=True)
class TeacherPrefers(Weight):
    """1[ log p(a) > log q(a) ]: tokens that the teacher likes more than the student; `more: false`, the others (AOPD, arXiv 2605.06387)."""

    TEACHER: ClassVar[str] = "sampled"

    more: bool = True

    @torch.no_grad()
    def weight_N(self, q: StepDist, evidence: Evidence) -> Tensor:
        likes_N = evidence.teacher.logp(evidence.action_N) > q.logp(evidence.action_N)
        return (likes_N == self.more).float()
