from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from opd_steps.nouns.trajectory import Trajectory
from opd_steps.objectives.stream import Moment
from opd_steps.objectives.where import Where


@dataclass(frozen=True)
class Told(Where):
    """1[ the teacher sees more than the prompt ]: other rows count for nothing, in the mean's denominator either (SDPO's
    self-distillation mask, arXiv 2601.20802). The weight `has_context` leaves them in the denominator. told: the share of rows."""

    SURVEY: ClassVar[bool] = False
    METRICS: ClassVar[tuple[str, ...]] = ("told",)

    def over_batch(self, rows: Trajectory, found: dict[str, Tensor], moment: Moment) -> tuple[Tensor, dict[str, float]]:
        told_B = rows.has_context_B(moment.against)
        return told_B[rows.owner_N], {"told": float(told_B.float().mean())}
