from __future__ import annotations

from dataclasses import dataclass

from opd_steps.nouns.trajectory import Trajectory
from opd_steps.teachers.contexts import TeacherContext


@dataclass(frozen=True)
class Canonical(TeacherContext):
    """The teacher sees the row's question in full, whatever talk the student answers behind (CCOPD, arXiv 2605.30251; world `sharded`)."""

    def prepare(self, rows: Trajectory, pool, seed: int, name: str) -> Trajectory:
        shown = [pool.task.prompt_ids(pool.tokenizer, pool.column("prompt", i)) for i in rows.prompt_B.tolist()]
        return rows.with_context(name, shown)
