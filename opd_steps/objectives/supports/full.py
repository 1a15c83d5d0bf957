from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from opd_steps.nouns.dist import Categorical
from opd_steps.objectives.supports import Support
from opd_steps.objectives.supports._selected import Selected


@dataclass(frozen=True)
class Full(Support):
    """The whole vocabulary: no sampling noise, O(V) memory (GKD, arXiv 2306.13649)."""

    TEACHER: ClassVar[str] = "full"

    def select(self, q: Categorical, p: Categorical, action_N: Tensor | None = None) -> Selected:
        return Selected(q.logp_NV, p.logp_NV.detach(), None)
