from __future__ import annotations

from dataclasses import dataclass

from opd_steps.nouns.trajectory import Trajectory
from opd_steps.teachers.contexts import TeacherContext


@dataclass(frozen=True)
class Crop(TeacherContext):
    """The teacher sees the part of the picture that tells the answer, where the student sees all of it (Vision-OPD, arXiv 2605.18740)."""

    def prepare(self, rows: Trajectory, pool, seed: int, name: str) -> Trajectory:
        return rows.with_context(name, [pool.shown(i, "crop") for i in rows.prompt_B.tolist()])
