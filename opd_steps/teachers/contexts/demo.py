from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from opd_steps.nouns.trajectory import Trajectory
from opd_steps.teachers.contexts import TeacherContext


@dataclass(frozen=True)
class Demo(TeacherContext):
    """The teacher also sees the data set's own solution, marked as right: privileged self-distillation (arXiv 2601.19897; 2604.16830)."""

    HINTS: ClassVar[bool] = True

    def prepare(self, rows: Trajectory, pool, seed: int, name: str) -> Trajectory:
        shown = [pool.hinted(i, right=[pool.rows[i]["solution"]]) for i in rows.prompt_B.tolist()]
        return rows.with_context(name, shown)
