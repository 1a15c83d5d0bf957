from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from opd_steps.nouns.dist import Categorical
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.objectives.evidence import Evidence
from opd_steps.objectives.stream import Moment
from opd_steps.objectives.supports._selected import among, topk
from opd_steps.objectives.weights import Weight


@dataclass(frozen=True)
class WatchTopk(Weight):
    """1 everywhere: the gradient is untouched. Draws how student q and teacher p agree on their k likeliest tokens Kq, Kp,
    means over the step's tokens before the update:

    topk_mass      sum of q over Kq: it falls where an objective drains the set that it looks at (arXiv 2605.11182)
    topk_overlap   |Kq & Kp| / k
    shared_mass    sum of q over Kq & Kp: the part of the student that both discuss (97 to 99 % in arXiv 2604.13016)
    Costs a second forward pass of student and teacher.
    """

    TEACHER: ClassVar[str] = "full"
    WIDE: ClassVar[bool] = True
    SURVEY: ClassVar[bool] = True
    METRICS: ClassVar[tuple[str, ...]] = ("topk_mass", "topk_overlap", "shared_mass")

    k: Annotated[int, "at least 1"] = 16

    def survey(self, q: Categorical, evidence: Evidence) -> dict[str, Tensor]:
        (logq_NK, mine_NK), (_, theirs_NK) = topk(q, self.k), topk(evidence.teacher, self.k)
        shared_NK = among(mine_NK, theirs_NK)
        found_3 = logq_NK.exp().sum(-1), shared_NK.float().mean(-1), (logq_NK.exp() * shared_NK).sum(-1)
        return dict(zip(self.METRICS, found_3, strict=True))

    def over_batch(self, rows: Trajectory, found: dict[str, Tensor], moment: Moment) -> tuple[Tensor, dict[str, float]]:
        return torch.ones(len(rows.action_N)), {name: float(value_N.mean()) for name, value_N in found.items()}
