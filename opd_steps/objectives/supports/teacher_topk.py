from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor

from opd_steps.nouns.dist import Categorical, Recorded
from opd_steps.objectives.supports import Support
from opd_steps.objectives.supports._selected import Selected, restrict, topk


@dataclass(frozen=True)
class TeacherTopk(Support):
    """The teacher's k likeliest tokens (arXiv 2604.13016: only_tch). A scores table that stores them is enough.

    norm: "raw" ignores the mass outside, "renormalise" compares conditionals, "tail" adds one bucket for the rest.
    """

    TEACHER: ClassVar[str] = "topk"

    k: Annotated[int, "at least 1"] = 16
    norm: Literal["raw", "renormalise", "tail"] = "raw"

    def select(self, q: Categorical, p: Categorical | Recorded, action_N: Tensor | None = None) -> Selected:
        logp_NK, ids_NK = topk(p, self.k)
        return restrict(q.gather(ids_NK), logp_NK, torch.ones_like(ids_NK, dtype=torch.bool), self.norm)
