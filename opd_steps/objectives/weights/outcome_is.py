from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from opd_steps.nouns.trajectory import Trajectory
from opd_steps.objectives.stream import Moment
from opd_steps.objectives.weights import Weight


@dataclass(frozen=True)
class OutcomeIs(Weight):
    """1 on the tokens of rows with that outcome (reward of .5 or more is correct), 0 elsewhere (KDRL's mask, arXiv 2506.02208)."""

    ROWS: ClassVar[str] = "sampled"
    WIDE: ClassVar[bool] = True

    which: Literal["correct", "wrong"] = "wrong"

    def over_batch(self, rows: Trajectory, found: dict[str, Tensor], moment: Moment) -> tuple[Tensor, dict[str, float]]:
        correct_B = rows.reward_B >= 0.5
        return (correct_B if self.which == "correct" else ~correct_B)[rows.owner_N].float(), {}
