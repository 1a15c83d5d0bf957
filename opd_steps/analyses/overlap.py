from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch

from opd_steps.analyses import Analysis
from opd_steps.analyses._context import Context
from opd_steps.analyses._mean import mean
from opd_steps.evaluation.points import side_by_side
from opd_steps.objectives.supports._selected import among


@dataclass(frozen=True)
class Overlap(Analysis):
    """Do model and teacher think of the same tokens? Means over the model's own samples (arXiv 2604.13016, 2605.11182).

    ratio          |topk(q) & topk(p)| / k, q the model, p the teacher
    teacher_mass   sum of p over topk(q)
    model_mass     sum of q over topk(p)
    """

    NEEDS: ClassVar[tuple[str, ...]] = ("teacher", "data")
    METRICS: ClassVar[tuple[str, ...]] = ("overlap/ratio", "overlap/teacher_mass", "overlap/model_mass")

    k: Annotated[int, "at least 1"] = 8

    def measure(self, ctx: Context) -> dict[str, float | None]:
        ctx.require_tokens("k", self.k)
        columns = []
        for _, (q, p) in side_by_side(ctx.rollouts(), {role: ctx.policies[role] for role in ("model", "teacher")}):
            model_NK, teacher_NK = q.topk(self.k)[1], p.topk(self.k)[1]
            shared_N = among(model_NK, teacher_NK).double().mean(-1)
            columns.append([shared_N, p.gather(model_NK).exp().sum(-1), q.gather(teacher_NK).exp().sum(-1)])
        found = [mean(torch.cat(parts)) for parts in zip(*columns, strict=True)]
        return dict(zip(self.METRICS, found, strict=True))
