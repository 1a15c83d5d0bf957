"""Judges beside the task's own: each may change or add to what is said of the rows of a step."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar, Protocol

if TYPE_CHECKING:
    from opd_steps.nouns.bench import Bench
    from opd_steps.nouns.trajectory import Trajectory


class Judge(Protocol):
    """Judges the student's rows, after the task has.

    METRICS  figures that it draws: `judge` returns them
    TEXTS    whether it reads the node's `answers`, texts of a teacher (bench.texts)
    EVERY    whether it judges the rows of every learner, each in its turn
    LEARNER  whether its option `learner` names one that it asks
    """

    METRICS: ClassVar[tuple[str, ...]] = ()
    TEXTS: ClassVar[bool] = False
    EVERY: ClassVar[bool] = False
    LEARNER: ClassVar[bool] = False
    UNCARRIED: ClassVar[str] = "rows are judged by the task alone"

    @abstractmethod
    def judge(self, rows: Trajectory, bench: Bench) -> tuple[Trajectory, dict[str, float]]:
        """The rows with another reward_B, or with more columns; all of a step at once, so that groups may be compared. Figures.

        Its column `advantage` (extra, a number a row) stands in place of what a method makes of the rewards of a group.
        """
