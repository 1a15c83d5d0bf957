from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from opd_steps.nouns.trajectory import Trajectory
from opd_steps.teachers.contexts import TeacherContext


@dataclass(frozen=True)
class Column(TeacherContext):
    """The teacher also sees a text column of the row, marked as right: a hint without its answer, say (DOPD's privilege, arXiv 2606.30626)."""

    HINTS: ClassVar[bool] = True

    column: str = "hint"

    def prepare(self, rows: Trajectory, pool, seed: int, name: str) -> Trajectory:
        shown = [pool.hinted(i, right=[str(pool.column(self.column, i))]) for i in rows.prompt_B.tolist()]
        return rows.with_context(name, shown)
