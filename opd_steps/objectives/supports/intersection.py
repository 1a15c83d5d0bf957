from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from torch import Tensor

from opd_steps.nouns.dist import Categorical, Recorded
from opd_steps.objectives.supports import Support
from opd_steps.objectives.supports._selected import Selected, among, restrict, topk


@dataclass(frozen=True)
class Intersection(Support):
    """Tokens in both top-k sets (arXiv 2604.13016; 2605.11182); a decision point without any contributes 0.

    norm: "raw" ignores the mass outside, "renormalise" compares conditionals, "tail" adds one bucket for the rest.
    """

    TEACHER: ClassVar[str] = "topk"

    k: Annotated[int, "at least 1"] = 16
    norm: Literal["raw", "renormalise", "tail"] = "raw"

    def select(self, q: Categorical, p: Categorical | Recorded, action_N: Tensor | None = None) -> Selected:
        _, student_NK = topk(q, self.k)
        logp_NK, ids_NK = topk(p, self.k)
        shared_NK = among(ids_NK, student_NK)
        return restrict(q.gather(ids_NK), logp_NK, shared_NK, self.norm)
