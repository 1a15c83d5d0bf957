from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from torch import Tensor

from opd_steps.nouns.trajectory import Trajectory
from opd_steps.objectives.stream import Moment
from opd_steps.objectives.where import Where


@dataclass(frozen=True)
class LastTokens(Where):
    """The last min(tokens, T) decision points of each row of T (OPRD's positions, arXiv 2606.06021)."""

    SURVEY: ClassVar[bool] = False

    tokens: Annotated[int, "at least 1"] = 2000

    def over_batch(self, rows: Trajectory, found: dict[str, Tensor], moment: Moment) -> tuple[Tensor, dict[str, float]]:
        return rows.step_N >= (rows.length_B - self.tokens)[rows.owner_N], {}
