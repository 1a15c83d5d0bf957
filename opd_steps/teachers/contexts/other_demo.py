from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from opd_steps.nouns.trajectory import Trajectory
from opd_steps.teachers.contexts import TeacherContext


@dataclass(frozen=True)
class OtherDemo(TeacherContext):
    """The teacher sees the solution of another prompt, marked as right: the control of `demo`. What it gives is not of the solution."""

    HINTS: ClassVar[bool] = True

    def prepare(self, rows: Trajectory, pool, seed: int, name: str) -> Trajectory:
        other = lambda i: pool.rows[(i + 1) % len(pool.rows)]["solution"]
        shown = [pool.hinted(i, right=[other(i)]) for i in rows.prompt_B.tolist()]
        return rows.with_context(name, shown)
