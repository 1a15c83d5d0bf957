from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from opd_steps.nouns.trajectory import Trajectory
from opd_steps.objectives.stream import Moment
from opd_steps.objectives.weights import Weight


@dataclass(frozen=True)
class HasContext(Weight):
    """0 on rows for which the teacher had nothing beside the prompt (no peer to show), 1 elsewhere (MOPD, arXiv 2605.12652)."""

    WIDE: ClassVar[bool] = True
    METRICS: ClassVar[tuple[str, ...]] = ("with_context",)

    def over_batch(self, rows: Trajectory, found: dict[str, Tensor], moment: Moment) -> tuple[Tensor, dict[str, float]]:
        has_B = rows.has_context_B(moment.against).float()
        return has_B[rows.owner_N], {"with_context": float(has_B.mean())}
