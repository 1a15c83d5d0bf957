from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from opd_steps.nouns.dist import StepDist
from opd_steps.objectives.evidence import Evidence
from opd_steps.objectives.weights import Weight


@dataclass(frozen=True)
class TeacherEntropyAbove(Weight):
    """1[ H(p) > tau ]: where the teacher itself is uncertain (EOPD, arXiv 2603.07079; tau = .8 there, nats by our reading)."""

    TEACHER: ClassVar[str] = "full"

    tau: Annotated[float, "at least 0"] = 0.8  # nats

    @torch.no_grad()
    def weight_N(self, q: StepDist, evidence: Evidence) -> Tensor:
        return (evidence.teacher.entropy() > self.tau).float()
