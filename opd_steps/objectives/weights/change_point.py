from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from opd_steps.nouns.dist import Categorical
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.objectives.change_point import release_point, teacher_margin
from opd_steps.objectives.evidence import Evidence
from opd_steps.objectives.stream import Moment
from opd_steps.objectives.weights import Weight


@dataclass(frozen=True)
class ChangePoint(Weight):
    """1[ t < tau ]: a row is trained on until the teacher no longer separates the student's likeliest tokens (arXiv 2605.13643).

    tau: where the teacher's margin (log p of its best minus its second best token within topk(q)), averaged over blocks of
    `block` tokens, falls, as the Bayesian information criterion finds it (objectives/change_point.py). A row without such a fall
    is trained on as a whole. The paper's blocks are sentences, which token ids do not show. The mean gradient is vanilla's over
    the tokens before tau alone. released: share of rows with a tau; taught: share of tokens before it.
    """

    TEACHER: ClassVar[str] = "full"
    WIDE: ClassVar[bool] = True
    SURVEY: ClassVar[bool] = True
    METRICS: ClassVar[tuple[str, ...]] = ("released", "taught")

    k: Annotated[int, "at least 2"] = 16  # the student's likeliest tokens, among which the margin is taken
    block: Annotated[int, "at least 1"] = 16  # tokens
    least: Annotated[int, "at least 1"] = 3  # blocks on either side
    drop: Annotated[float, "at least 0"] = 0.0  # least fall, in standard deviations of the row's blocks

    def survey(self, q: Categorical, evidence: Evidence) -> dict[str, Tensor]:
        return {"margin": teacher_margin(q, evidence.teacher, self.k)}

    def over_batch(self, rows: Trajectory, found: dict[str, Tensor], moment: Moment) -> tuple[Tensor, dict[str, float]]:
        lengths = rows.length_B.tolist()
        taus = [release_point(m_T, self.block, self.least, self.drop) for m_T in found["margin"].split(lengths)]
        ends_B = torch.tensor([n if tau is None else tau for n, tau in zip(lengths, taus, strict=True)])
        weight_N = (rows.step_N < ends_B[rows.owner_N]).float()
        return weight_N, {
            "released": sum(tau is not None for tau in taus) / len(taus),
            "taught": float(weight_N.mean()),
        }
