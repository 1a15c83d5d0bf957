from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor

from opd_steps.nouns.dist import Categorical
from opd_steps.objectives.supports import Support
from opd_steps.objectives.supports._selected import Selected, restrict, topk


@dataclass(frozen=True)
class StudentTopk(Support):
    """The student's k likeliest tokens (arXiv 2604.13016: only_stu). The teacher must be asked for arbitrary tokens.

    norm: "raw" ignores the mass outside, "renormalise" compares conditionals, "tail" adds one bucket for the rest.
    """

    TEACHER: ClassVar[str] = "full"

    k: Annotated[int, "at least 1"] = 16
    norm: Literal["raw", "renormalise", "tail"] = "raw"

    def select(self, q: Categorical, p: Categorical, action_N: Tensor | None = None) -> Selected:
        _, ids_NK = topk(q, self.k)
        return restrict(q.gather(ids_NK), p.gather(ids_NK), torch.ones_like(ids_NK, dtype=torch.bool), self.norm)
