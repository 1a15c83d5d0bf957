from __future__ import annotations

from dataclasses import dataclass

from opd_steps.nouns.trajectory import Trajectory


@dataclass(frozen=True)
class Plain:
    """The teacher sees the student's prompt."""

    def prepare(self, rows: Trajectory, pool, seed: int, name: str) -> Trajectory:
        return rows
