from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor

from opd_steps.nouns.dist import Categorical
from opd_steps.objectives.supports import Support
from opd_steps.objectives.supports._selected import Selected, among, restrict, topk


@dataclass(frozen=True)
class Union(Support):
    """Tokens in either top-k set, each once (arXiv 2604.13016): K = 2k entries, repetitions invalid.

    norm: "raw" ignores the mass outside, "renormalise" compares conditionals, "tail" adds one bucket for the rest.
    """

    TEACHER: ClassVar[str] = "full"

    k: Annotated[int, "at least 1"] = 16
    norm: Literal["raw", "renormalise", "tail"] = "raw"

    def select(self, q: Categorical, p: Categorical, action_N: Tensor | None = None) -> Selected:
        _, student_NK = topk(q, self.k)
        _, teacher_NK = topk(p, self.k)
        new_NK = ~among(teacher_NK, student_NK)
        ids_NK = torch.cat([student_NK, teacher_NK], -1)
        valid_NK = torch.cat([torch.ones_like(new_NK), new_NK], -1)
        return restrict(q.gather(ids_NK), p.gather(ids_NK), valid_NK, self.norm)
