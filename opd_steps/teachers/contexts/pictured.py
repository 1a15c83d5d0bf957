from __future__ import annotations

from dataclasses import dataclass

from opd_steps.nouns.trajectory import Trajectory
from opd_steps.teachers.contexts import TeacherContext


@dataclass(frozen=True)
class Pictured(TeacherContext):
    """The teacher also sees the data's own image for the prompt, where the student sees the prompt alone (D-OPSD, arXiv 2605.05204)."""

    def prepare(self, rows: Trajectory, pool, seed: int, name: str) -> Trajectory:
        return rows.with_context(name, [pool.pictured(i) for i in rows.prompt_B.tolist()])
