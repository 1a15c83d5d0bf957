from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from opd_steps.nouns.trajectory import Trajectory
from opd_steps.objectives.stream import Moment
from opd_steps.objectives.weights import Weight


@dataclass(frozen=True)
class NotEnd(Weight):
    """0 on end tokens, 1 elsewhere: the length is not taught token by token (PowerOPD, arXiv 2606.17199)."""

    WIDE: ClassVar[bool] = True

    def over_batch(self, rows: Trajectory, found: dict[str, Tensor], moment: Moment) -> tuple[Tensor, dict[str, float]]:
        last_N = rows.step_N == (rows.length_B - 1)[rows.owner_N]
        return (~(last_N & rows.closed_B[rows.owner_N])).float(), {}
