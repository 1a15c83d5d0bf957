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
    ratio_q1 .. q4 the ratio by quarter of the response: token t of T is in quarter floor(4 t / T). It falls where the two drift apart
    """

    NEEDS: ClassVar[tuple[str, ...]] = ("teacher", "data")
    METRICS: ClassVar[tuple[str, ...]] = (
        "overlap/ratio",
        "overlap/teacher_mass",
        "overlap/model_mass",
        "overlap/ratio_q1",
        "overlap/ratio_q2",
        "overlap/ratio_q3",
        "overlap/ratio_q4",
    )

    k: Annotated[int, "at least 1"] = 8

    def measure(self, ctx: Context) -> dict[str, float | None]:
        ctx.require_tokens("k", self.k)
        rows, columns = ctx.rollouts(), []
        for _, (q, p) in side_by_side(rows, {role: ctx.policies[role] for role in ("model", "teacher")}):
            model_NK, teacher_NK = q.topk(self.k)[1], p.topk(self.k)[1]
            shared_N = among(model_NK, teacher_NK).double().mean(-1)
            found = shared_N, p.gather(model_NK).exp().sum(-1), q.gather(teacher_NK).exp().sum(-1)
            columns.append([x_N.cpu() for x_N in found])
        shared_N, *masses = (torch.cat(parts) for parts in zip(*columns, strict=True))
        quarter_N = 4 * rows.step_N // rows.length_B[rows.owner_N]
        by_quarter = [mean(shared_N, quarter_N == i) for i in range(4)]
        found = [mean(shared_N), *map(mean, masses), *by_quarter]
        return dict(zip(self.METRICS, found, strict=True))
