from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from opd_steps.nouns.dist import StepDist
from opd_steps.objectives.supports import Support
from opd_steps.objectives.supports._selected import Selected


@dataclass(frozen=True)
class Sampled(Support):
    """The action that was taken, alone: K = 1. Vanilla on-policy distillation; works for every kind of distribution."""

    TEACHER: ClassVar[str] = "sampled"

    def select(self, q: StepDist, p: StepDist | None, action_N: Tensor) -> Selected:
        logq_N1 = q.logp(action_N)[:, None]
        logp_N1 = None if p is None else p.logp(action_N).detach()[:, None]
        return Selected(logq_N1, logp_N1, torch.ones_like(logq_N1, dtype=torch.bool))
