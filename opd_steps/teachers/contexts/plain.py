from __future__ import annotations

from dataclasses import dataclass

from opd_steps.nouns.trajectory import Trajectory
from opd_steps.teachers.contexts import TeacherContext


@dataclass(frozen=True)
class Plain(TeacherContext):
    """The teacher sees the student's prompt."""

    def prepare(self, rows: Trajectory, pool, seed: int, name: str) -> Trajectory:
        return rows
