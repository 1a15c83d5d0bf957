from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from opd_steps.nouns.dist import StepDist
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.objectives.evidence import Evidence
from opd_steps.objectives.stream import Moment
from opd_steps.objectives.where import Where


@dataclass(frozen=True)
class Committed(Where):
    """Of each state of a masked language model as many covered places as its step uncovered (d-OPSD's step level, arXiv 2606.18195): by
    `teacher`, those where its likeliest token is likeliest, which it would uncover now; by `student`, those that it did uncover.
    agreed: share of the places that are both's.
    """

    TEACHER: ClassVar[str] = "full"
    METRICS: ClassVar[tuple[str, ...]] = ("agreed",)

    by: Literal["teacher", "student"] = "teacher"

    def survey(self, q: StepDist, evidence: Evidence) -> dict[str, Tensor]:
        return {"sure": evidence.teacher.topk(1)[0][:, 0]}

    def over_batch(self, rows: Trajectory, found: dict[str, Tensor], moment: Moment) -> tuple[Tensor, dict[str, float]]:
        step_N = torch.cat(list(rows.extra["steps"]))
        order_N = torch.cat([order[at] for order, at in zip(rows.extra["order"], rows.extra["places"], strict=True)])
        own_N = order_N == step_N
        state_N = torch.stack([rows.owner_N, step_N]).unique(dim=1, return_inverse=True)[1]
        size_S, count_S = state_N.bincount(), state_N.bincount(own_N.float()).long()
        by_sure = found["sure"].argsort(descending=True, stable=True)
        order = by_sure[state_N[by_sure].argsort(stable=True)]  # state by state, each from its surest place on
        rank_N = torch.empty_like(order).index_copy(
            0, order, torch.arange(len(order)) - (size_S.cumsum(0) - size_S)[state_N[order]]
        )
        theirs_N = rank_N < count_S[state_N]
        return own_N if self.by == "student" else theirs_N, {"agreed": float(own_N[theirs_N].float().mean())}
