from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from torch import Tensor

from opd_steps.nouns.trajectory import Trajectory
from opd_steps.objectives.stream import Moment
from opd_steps.objectives.where import Where


@dataclass(frozen=True)
class AfterFirst(Where):
    """1[ t >= skip ]: not the first tokens of a row, where a teacher that is shown something speaks of it (SDFT, arXiv 2601.19897)."""

    SURVEY: ClassVar[bool] = False

    skip: Annotated[int, "at least 0"] = 4  # tokens

    def over_batch(self, rows: Trajectory, found: dict[str, Tensor], moment: Moment) -> tuple[Tensor, dict[str, float]]:
        return rows.step_N >= self.skip, {}
