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
    """

    METRICS: ClassVar[tuple[str, ...]] = ()
    TEXTS: ClassVar[bool] = False

    @abstractmethod
    def judge(self, rows: Trajectory, bench: Bench) -> tuple[Trajectory, dict[str, float]]:
        """The rows with another reward_B, or with more columns; all of a step at once, so that groups may be compared. Figures."""
