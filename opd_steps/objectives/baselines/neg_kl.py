from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import torch
from torch import Tensor

from opd_steps.nouns.dist import Categorical
from opd_steps.objectives.baselines import Baseline
from opd_steps.objectives.supports.full import Full
from opd_steps.objectives.supports.student_topk import StudentTopk


@dataclass(frozen=True)
class NegKL(Baseline):
    """b = E_q[reward], the value of the one-step problem; for the log-ratio that is -KL(q||p) (vOPD, arXiv 2605.07865).

    student_topk: both sides renormalised on the student's k likeliest tokens; still unbiased, as it depends on the state alone.
    """

    TEACHER: ClassVar[str] = "full"

    support: Literal["full", "student_topk"] = "full"
    k: Annotated[int, "at least 1"] = 100

    @torch.no_grad()
    def value_N(self, q: Categorical, p: Categorical, signal: Any) -> Tensor:
        on = (Full() if self.support == "full" else StudentTopk(self.k, "renormalise")).select(q, p)
        return on.sum(on.weight_NK * signal.reward(on.logq_NK, on.logp_NK))
