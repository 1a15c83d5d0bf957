from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from opd_steps.nouns.dist import Categorical
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.objectives.change_point import release_point, teacher_margin
from opd_steps.objectives.evidence import Evidence
from opd_steps.objectives.stream import Moment


@dataclass(frozen=True)
class ChangePoint:
    """1[ t < tau ]: a row is taught up to where the teacher ceases to separate what the student considers (arXiv 2605.13643).

    tau: the fall of the teacher's margin (log p of its best minus its second best token within topk(q)), averaged over blocks
    of `block` tokens, as the Bayesian information criterion finds it; without one the whole row is taught. The source's blocks
    are sentences, which token ids do not show. Once released, a state's gradient is gone, so the mean gradient is vanilla's over
    the taught states alone. released: share of rows with a tau; taught: share of tokens before it.
    """

    TEACHER: ClassVar[str] = "full"
    WIDE: ClassVar[bool] = True
    METRICS: ClassVar[tuple[str, ...]] = ("released", "taught")

    k: int = 16  # the student's likeliest tokens, among which the margin is taken
    block: int = 16  # tokens
    least: int = 3  # blocks on either side
    drop: float = 0.0  # least fall, in standard deviations of the row's blocks

    def __post_init__(self) -> None:
        if self.k < 2 or self.block < 1 or self.least < 1:
            raise ValueError(f"expected k >= 2, block >= 1 and least >= 1, found {self.k}, {self.block} and {self.least}")

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
